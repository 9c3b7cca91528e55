"""The PROXY protocol (haproxy.org/download/3.0/doc/proxy-protocol.txt): a proxy's first bytes tell the client's
address.

Version 1 is a line of text, version 2 a binary block with a length. Without I/O: bytes in, a ProxyHeader out. Whether
the sender is trusted is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from .errors import RemoteProtocolError
from .syntax import show

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16  # signature, version and command, family and transport, length
#: Bytes of a version 1 line with its CRLF, by the specification.
_LINE_MAX = 107
#: The most bytes of a version 2 header; addresses take 216, the rest are TLVs (a client certificate's name, an id).
#: nginx: 4096.
_BLOCK_MAX = 4096
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES: dict[int, tuple[int, type[IPv4Address] | type[IPv6Address] | None]] = {
    1: (12, IPv4Address),
    2: (36, IPv6Address),
    3: (216, None),  # AF_UNIX: two paths of 108 bytes
}
_WORDS: dict[str, type[IPv4Address] | type[IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """``peer`` is the client as text: ``192.0.2.1:4711``, ``[::1]:80``, ``unix``. ``size``: the bytes of the header.

    ``peer`` is None if the proxy speaks for itself, as in a health check, or does not know.
    """

    peer: str | None
    size: int


def read_proxy_header(data: bytes | bytearray) -> ProxyHeader | None:
    """The header at the beginning of ``data``; None while it is incomplete. Raises RemoteProtocolError.

    Needs at most 4096 bytes.
    """
    data = bytes(data[:_BLOCK_MAX])
    if data.startswith(_SIGNATURE[: len(data)]):
        return _read_block(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _read_line(data)
    raise RemoteProtocolError(f"a connection must begin with a PROXY protocol header; got {show(data[:64])}")


def _read_line(data: bytes) -> ProxyHeader | None:
    """Version 1: ``PROXY TCP4 source destination port port CRLF``, or ``PROXY UNKNOWN`` and anything."""
    end = data.find(b"\r\n", 0, _LINE_MAX) + 2
    if end < 2:
        if len(data) >= _LINE_MAX or b"\n" in data:
            raise RemoteProtocolError(
                f"a PROXY line must end with CRLF within {_LINE_MAX} bytes; got {show(data[:_LINE_MAX])}"
            )
        return None
    line = data[: end - 2]
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(None, end)
    try:
        kind = _WORDS[words[1]]
        source, _, port, _ = kind(words[2]), kind(words[3]), _port(words[4]), _port(*words[5:])
    except (KeyError, IndexError, ValueError, TypeError):
        raise RemoteProtocolError(
            f"a PROXY line must be 'PROXY TCP4|TCP6 source destination port port'; got {show(line)}"
        ) from None
    return ProxyHeader(_shown(source, port), end)


def _port(word: str) -> int:
    if not (word.isascii() and word.isdigit() and str(int(word)) == word and int(word) <= 0xFFFF):
        raise ValueError(word)
    return int(word)


def _read_block(data: bytes) -> ProxyHeader | None:
    """Version 2. TLVs after the addresses are skipped."""
    if len(data) < _FIXED:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise RemoteProtocolError(f"PROXY protocol 2 has commands 0x20 and 0x21; got {command:#04x}")
    size = _FIXED + length
    if size > _BLOCK_MAX:
        raise RemoteProtocolError(f"a PROXY header has at most {_BLOCK_MAX} bytes; this one says {size}", 431)
    if len(data) < size:
        return None
    if command == _LOCAL or family == 0:
        return ProxyHeader(None, size)
    if family >> 4 not in _FAMILIES or not 1 <= family & 15 <= 2:
        raise RemoteProtocolError(f"PROXY protocol 2 has no address family {family:#04x}")
    needed, kind = _FAMILIES[family >> 4]
    if length < needed:
        what = f"family {family:#04x} of a PROXY header has {needed} bytes of addresses; got {length}"
        raise RemoteProtocolError(what)
    if kind is None:
        return ProxyHeader("unix", size)
    address = kind(data[_FIXED : _FIXED + (needed - 4) // 2])
    ports = data[_FIXED + needed - 4 : _FIXED + needed]
    return ProxyHeader(_shown(address, int.from_bytes(ports[:2], "big")), size)


def _shown(address: IPv4Address | IPv6Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
