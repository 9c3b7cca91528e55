"""The head of a request and its meaning for the connection: the body's length, keep-alive (RFC 9112 §6, §9)."""

from __future__ import annotations

import re
from urllib.parse import unquote

from .errors import RemoteProtocolError
from .fields import RawFields
from .syntax import is_host, match_usual, show

_is_length = re.compile(rb"[0-9]{1,19}").fullmatch  # 19 digits: all of 63 bits, without huge integers
_absolute_form = re.compile(rb"(?i:https?)://([^/?]*)(.*)").fullmatch
# Hosts found sound before, since clients send the same few. Bounded in number and, with the longest name of DNS, in
# size (256 KiB together), since a client may send any.
_sound_hosts: set[bytes] = set()
_SOUND_HOSTS_MAX = 1024
_HOST_MAX = 255
# One dictionary look-up per field decides whether the field matters for the framing.
_MEANINGFUL = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
# The usual methods, so that no text is made for each request.
_methods = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_new = object.__new__
_SLASH = ord("/")


class RequestHead:
    """One request head, parsed and checked.

    ``length`` is the body's length in bytes, 0 for no body, None for a chunked one. ``minor`` is the y of HTTP/1.y.
    ``target`` is the request-target as sent (RFC 9112 §3.2), ``path`` and ``query`` its parts, still percent-encoded.
    ``upgrade`` has the protocols to which the client offers to change (RFC 9110 §7.8), b"" if none. ``raw`` holds the
    bytes of the head, if it was received as bytes.
    """

    # Defaults of the class, because most heads never change them.
    expect_continue = False
    length: int | None = 0
    host = b""
    query = ""
    upgrade = b""
    raw = b""
    minor = 1
    keep_alive = True
    _fields: RawFields | None = None

    def __init__(self, method: str, target: bytes, minor: int, fields: RawFields) -> None:
        self.method = method
        self.target = text = target.decode("ascii")
        self.minor = minor
        self._fields = fields
        self.keep_alive = minor == 1
        self._read_fields(fields)
        if target[0] == _SLASH and method != "CONNECT":
            if "?" in text:
                self.path, _, self.query = text.partition("?")
            else:
                self.path = text
        else:
            self._read_other_form(target)

    @classmethod
    def read_usual(cls, raw: bytes) -> RequestHead | None:
        """The head if it is a usual one, see ``syntax.match_usual``; None if it has to be parsed.

        Its fields are split when somebody asks for them. Raises RemoteProtocolError for a Host that is none.
        """
        usual = match_usual(raw)
        if usual is None:
            return None
        method, path, query, host = usual.groups()
        if host not in _sound_hosts:
            _check_host(host)
        head: RequestHead = _new(cls)
        head.raw = raw
        head.host = host
        head.method = _methods.get(method) or method.decode("ascii")
        head.path = head.target = path.decode("ascii")
        if query is not None:
            head.query = query.decode("ascii")
            head.target = f"{head.path}?{head.query}"
        return head

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target} HTTP/1.{self.minor}>"

    @property
    def fields(self) -> RawFields:
        """Name in small letters and value of each field, in the order in which they came."""
        fields = self._fields
        if fields is None:
            fields = self._fields = split_fields(self.raw)
        return fields

    @property
    def plain_path(self) -> str:
        """The path with percent-encoding undone (UTF-8; invalid bytes become U+FFFD)."""
        return unquote(self.path) if "%" in self.path else self.path

    def _read_fields(self, fields: RawFields) -> None:
        hosts = lengths = 0
        codings: list[bytes] = []
        options: list[bytes] = []
        upgrades: list[bytes] = []
        for name, value in fields:
            if name not in _MEANINGFUL:
                continue
            if name == b"host":
                hosts += 1
                self.host = value
            elif name == b"content-length":
                lengths += 1
                self.length = self._length_of(value)
            elif name == b"transfer-encoding":
                codings.append(value)
            elif name == b"connection":
                options.append(value)
            elif name == b"upgrade":
                upgrades.append(value)
            elif value.lower() == b"100-continue" and self.minor == 1:  # RFC 9110 §10.1.1: others may be ignored
                self.expect_continue = True
        if hosts != 1 and (hosts or self.minor == 1):
            raise RemoteProtocolError(f"a request must have one Host field (RFC 9112 §3.2); this one has {hosts}")
        if hosts and self.host not in _sound_hosts:
            _check_host(self.host)
        if lengths > 1:
            raise RemoteProtocolError(f"a request must have one Content-Length at most; this one has {lengths}")
        if options:
            self._read_connection(b",".join(options), b",".join(upgrades))
        if codings:
            self._read_transfer_encoding(codings, lengths)

    @staticmethod
    def _length_of(value: bytes) -> int:
        if not _is_length(value):
            raise RemoteProtocolError(f"Content-Length must be a whole number of bytes; got {show(value)}")
        return int(value)

    def _read_connection(self, value: bytes, upgrades: bytes) -> None:
        """``close`` wins over ``keep-alive``, in whichever field either stands (RFC 9112 §9.3).

        Upgrade counts if Connection names it, and not in HTTP/1.0 (RFC 9110 §7.8).
        """
        options = {option.strip(b" \t").lower() for option in value.split(b",")}
        if b"close" in options:
            self.keep_alive = False
        elif b"keep-alive" in options and self.minor == 0:
            self.keep_alive = True
        if upgrades and b"upgrade" in options and self.minor == 1:
            self.upgrade = upgrades

    def _read_transfer_encoding(self, codings: list[bytes], lengths: int) -> None:
        """Accept only ``chunked``, alone (RFC 9112 §6.1). With a length, or in HTTP/1.0, it would allow request
        smuggling.
        """
        if lengths:
            raise RemoteProtocolError("a request must not have both Content-Length and Transfer-Encoding")
        if self.minor == 0:
            raise RemoteProtocolError("an HTTP/1.0 request must not have Transfer-Encoding")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            given = show(b", ".join(codings))
            coding = codings[0].lower()
            known = len(codings) == 1 and coding.endswith(b", chunked") and coding.count(b"chunked") == 1
            raise RemoteProtocolError(
                f"the only transfer coding served here is 'chunked'; got {given}", 501 if known else 400
            )
        self.length = None

    def _read_other_form(self, target: bytes) -> None:
        if target == b"*" and self.method == "OPTIONS":
            self.path, self.query = "*", ""
        elif self.method == "CONNECT":
            raise RemoteProtocolError("CONNECT is for proxies; this server is not a proxy", 501)
        elif form := _absolute_form(target):
            authority, rest = form.groups()
            if not authority or not is_host(authority):
                raise RemoteProtocolError(
                    f"the target's authority must be a host, perhaps with a port; got {show(authority)}"
                )
            self.host = authority  # RFC 9112 §3.2.2: it overrides Host
            self.path, _, self.query = rest.decode("ascii").partition("?")
            self.path = self.path or "/"
        else:
            raise RemoteProtocolError(
                f"a request target must be a path, '*' for OPTIONS, or a http:// URL; got {show(target)}"
            )


def split_fields(raw: bytes) -> RawFields:
    """The fields of a whole, sound head. Names are in small letters, values without blanks around them."""
    lines = raw.split(b"\r\n")[1:-2]
    return [(name.lower(), value.strip(b" \t")) for name, _, value in [line.partition(b":") for line in lines]]


def _check_host(host: bytes) -> None:
    if not is_host(host):
        raise RemoteProtocolError(f"Host must be a name or an address, perhaps with a port; got {show(host)}")
    if len(_sound_hosts) < _SOUND_HOSTS_MAX and len(host) <= _HOST_MAX:
        _sound_hosts.add(host)
