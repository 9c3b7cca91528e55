"""PROXY headers: whole, cut anywhere, wrong, and whatever bytes there are."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.proxy_header import ProxyHeader, read_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def block(family: int, addresses: bytes, tlvs: bytes = b"", command: int = 0x21) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(addresses) + len(tlvs)) + addresses + tlvs


FOUR = socket.inet_aton("192.0.2.1") + socket.inet_aton("10.0.0.1") + struct.pack("!HH", 4711, 80)
SIX = bytes(15) + b"\x01" + bytes(15) + b"\x02" + struct.pack("!HH", 65535, 443)
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
TLV = b"\x04\x00\x05hello" + b"\x20\x00\x03\x01\x00\x00"

GOOD = [
    (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n", "192.0.2.1:4711"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0"),
    (b"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", "[2001:db8::1]:1"),
    (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", f"[{'ffff:' * 7}ffff]:65535"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n", None),
    (b"PROXY UNKNOWN whatever there is\r\n", None),
    (block(0x11, FOUR), "192.0.2.1:4711"),
    (block(0x12, FOUR), "192.0.2.1:4711"),
    (block(0x21, SIX), "[::1]:65535"),
    (block(0x31, UNIX), "unix"),
    (block(0x11, FOUR, TLV), "192.0.2.1:4711"),
    (block(0x11, FOUR, b"\xff" * 12), "192.0.2.1:4711"),  # no sound TLV: nobody reads it
    (block(0x00, b""), None),
    (block(0x00, b"x" * 50), None),
    (block(0x11, FOUR, command=0x20), None),  # LOCAL: the addresses are to be passed over
    (block(0x00, b"", command=0x20), None),
    (block(0x11, FOUR, b"\x04\x0f\xf0" + bytes(4065)), "192.0.2.1:4711"),
]


@pytest.mark.parametrize(("data", "peer"), GOOD)
def test_whole_and_cut_anywhere(data: bytes, peer: str | None) -> None:
    assert read_proxy_header(data) == ProxyHeader(peer, len(data))
    assert read_proxy_header(bytearray(data + b"GET / HTTP/1.1\r\n")) == ProxyHeader(peer, len(data))
    for cut in range(len(data)):
        assert read_proxy_header(data[:cut]) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "must begin with a PROXY protocol header; got 'GET /"),
        (b"P0", "must begin with"),
        (b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "must begin with"),
        (b"\x16\x03\x01", "must begin with"),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", "must begin with"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\n", "must end with CRLF within 107 bytes"),
        (b"PROXY UNKNOWN " + b"x" * 100, "must end with CRLF within 107 bytes"),
        (b"PROXY TCP5 192.0.2.1 10.0.0.1 4711 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80 9\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4  192.0.2.1 10.0.0.1 4711 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.256 10.0.0.1 4711 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.01 10.0.0.1 4711 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 ::1 ::1 4711 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP6 192.0.2.1 10.0.0.1 4711 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 08 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 \xb2 80\r\n", "must be 'PROXY TCP4"),
        (b"PROXY \r\n", "must be 'PROXY TCP4"),
        (block(0x11, FOUR, command=0x22), "commands 0x20 and 0x21; got 0x22"),
        (block(0x11, FOUR, command=0x11), "got 0x11"),
        (block(0x41, FOUR), "no address family 0x41"),
        (block(0x13, FOUR), "no address family 0x13"),
        (block(0x11, FOUR[:11]), "has 12 bytes of addresses; got 11"),
        (block(0x31, UNIX[:-1]), "has 216 bytes of addresses; got 215"),
        (block(0x11, FOUR, bytes(4069)), "at most 4096 bytes; this one says 4097"),
        (SIGNATURE + b"\x21\x11\xff\xff", "at most 4096 bytes"),  # known before it comes
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r".") as caught:
        read_proxy_header(data)
    assert reason in caught.value.reason


def test_port_of_many_digits_costs_nothing() -> None:
    with pytest.raises(RemoteProtocolError):
        read_proxy_header(b"PROXY TCP4 1.1.1.1 1.1.1.1 " + b"9" * 60 + b" 1\r\n")


@given(st.ip_addresses(v=4), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=60))
def test_what_a_proxy_says_is_what_is_read(
    four: ipaddress.IPv4Address, other: ipaddress.IPv6Address, port: int, to: int, tlvs: bytes
) -> None:
    six = other if other.version == 6 else ipaddress.IPv6Address(f"::ffff:{other}")
    ports = struct.pack("!HH", port, to)
    for data, peer in [
        (f"PROXY TCP4 {four} {four} {port} {to}\r\n".encode(), f"{four}:{port}"),
        (f"PROXY TCP6 {six} {six} {port} {to}\r\n".encode(), f"[{six}]:{port}"),
        (block(0x11, four.packed * 2 + ports, tlvs), f"{four}:{port}"),
        (block(0x21, six.packed * 2 + ports, tlvs), f"[{six}]:{port}"),
    ]:
        assert read_proxy_header(data + tlvs) == ProxyHeader(peer, len(data))


_beginnings = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\0"])
_line = st.text("PROXYTCP46UNKW 0123456789.:\r\n", max_size=120).map(str.encode)


@given(_beginnings, st.one_of(st.binary(max_size=300), _line))
def test_any_bytes(beginning: bytes, rest: bytes) -> None:
    """A header, none yet, or a refusal; and more bytes never change a verdict."""
    data = beginning + rest
    verdicts: list[object] = []
    for cut in range(len(data) + 1):
        try:
            verdicts.append(read_proxy_header(data[:cut]))
        except RemoteProtocolError as error:
            verdicts.append(error)
            break
    settled = [one for one in verdicts if one is not None]
    assert all(one == settled[0] or isinstance(one, RemoteProtocolError) for one in settled)
    if settled and isinstance(settled[0], ProxyHeader):
        assert settled == [settled[0]] * len(settled)
