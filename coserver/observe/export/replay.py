"""A recorded request again: as a line for curl, or sent to the server.

Fields of the body's framing and of the old connection are made anew. All others go out as they came, with secrets,
unless an edit changes them.
"""

from __future__ import annotations

import base64
import http.client
import re
import shlex
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, TypedDict
from urllib.parse import urlsplit

from ...protocol.edits import as_bytes, merge
from ...protocol.errors import LocalProtocolError
from ...protocol.fields import decode_value, encode_value
from ...protocol.requests import check_method, encode_target
from ...transport.peer import show_address
from ..secrets import mask_fields, mask_target
from ..text import Fields
from ..trace.trace import HANDLER, OPEN, REQUEST, Body, Message, Trace

#: Bytes of the answer to a replayed request, which is kept in the memory of the server's process.
ANSWER_MAX = 64 << 20
_PIECE = 64 << 10
#: Bytes of one word of a command line; Linux takes 128 KiB.
_ARGUMENT = 100_000

#: Fields of the connection and of the framing (RFC 9110 §7.6.1), and Expect, for which the client would not wait.
_NOT_AGAIN = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
     "expect"}
)  # fmt: skip
_token = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_no_value = re.compile(r"[\r\n\0]")
_LAID_OUT = str.maketrans("\n\t", "  ")


class ReplayError(ValueError):
    """The trace cannot be sent again; the message says why."""


class ReplayOptions(TypedDict, total=False):
    """The keywords of ``replay``: changes of the request, as those of ``Held.edit``.

    ``headers`` as a mapping sets its fields, and None removes a field; pairs replace all. ``body`` is str, bytes, or a
    value for JSON.
    """

    method: str
    target: str
    headers: Mapping[str, str | None] | Iterable[tuple[str, str]]
    body: Any
    timeout: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """The answer to a replayed request. ``seconds`` is the time until it was read."""

    status: int
    fields: Fields
    content: bytes
    seconds: float

    def __repr__(self) -> str:
        return f"<Replayed {self.status}, {len(self.content)} bytes, {self.seconds * 1e3:.1f} ms>"


def as_curl(trace: Trace, *, secrets: bool = False) -> str:
    """Write the request as a command line for bash. With ``secrets`` nothing is masked, so that it works.

    Raises ReplayError for a trace that is not HTTP, and for fields that cannot be sent.
    """
    fields = _fields(trace, secrets)
    body = trace.request.body
    parts = ["curl"]
    if trace.method == "HEAD" and not body.size:
        parts.append("--head")
    elif trace.method != ("POST" if body.size else "GET"):
        parts += ["--request", trace.method]
    if trace.version == "HTTP/1.0":
        parts.append("--http1.0")
    parts += [*_whereto(trace, secrets), *_said(trace, fields)]
    given = {name.lower() for name, _ in fields}
    for name in ("user-agent", "accept", *(["content-type"] if body.size else [])):
        if name not in given:
            parts += ["--header", f"{name}:"]  # curl has one of its own otherwise
    lacking = _lacking(trace) or (body.truncated and f"the body is cut: {len(body.content)} of {body.size} bytes")
    return _with_body(parts, body.content) + (f"  # {lacking}" if lacking else "")


def _whereto(trace: Trace, secrets: bool) -> list[str]:
    """The URL, and the options for an address that the URL does not give."""
    found = ["--globoff", "--path-as-is"]
    if "/" in trace.dst:
        found += ["--unix-socket", trace.dst]
    target = trace.raw_target if secrets else trace.target
    place = trace.host or (trace.dst if ":" in trace.dst and "/" not in trace.dst else "localhost")
    if not target.startswith("/"):  # "*", or a whole URL of a proxy request
        if target != "*" and not target.lower().startswith("http://"):
            raise ReplayError(f"{trace!r} was not sent to an HTTP server")
        found += ["--request-target", target]
        target = "/"
    url = f"http{'s' if trace.secure else ''}://{place}{target}"
    return [*found, url if secrets else mask_target(url)]


def _said(trace: Trace, fields: Fields) -> Iterator[str]:
    for name, value in fields:
        if name.lower() not in _NOT_AGAIN and (name.lower() != "host" or value != trace.host):
            yield "--header"
            yield f"{name}: {value}" if value else f"{name};"
    if not trace.host:
        yield from ("--header", "host:")


def _fields(trace: Trace, secrets: bool) -> Fields:
    """The fields to send, without HTTP/2's pseudo-fields, which a browser's HAR may have. Raises ReplayError."""
    if trace.protocol != "http" or not trace.method:
        raise ReplayError(f"{trace!r} is not an HTTP request")
    found = tuple([pair for pair in trace.request.unmasked if not pair[0].startswith(":")])
    for name, value in found:
        if not _token.fullmatch(name) or _no_value.search(value):
            raise ReplayError(f"{name!r:.60} cannot be sent: a field's name is a token, its value has no line ends")
    return found if secrets else mask_fields(found)


def _lacking(trace: Trace) -> str:
    """The reason why the body is not known whole; "" if all of it was read."""
    size = trace.request.body.size
    framing = {name.lower(): value for name, value in trace.request.unmasked}
    declared = framing.get("content-length", "")
    if declared.isdecimal():
        read = int(declared) == size
    elif "transfer-encoding" in framing:  # chunks have no length: a body that no handler had was not read
        opened = any(span.kind == REQUEST and span.outcome == OPEN for span in trace.spans)
        read = not opened and (size > 0 or any(span.kind == HANDLER for span in trace.spans))
    else:
        read = True
    return "" if read else f"its body was not read to its end: {size} bytes of it are known"


def _with_body(parts: list[str], content: bytes) -> str:
    if not content:
        return _typed(parts)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if len(content) <= _ARGUMENT and not text.startswith("@") and text.translate(_LAID_OUT).isprintable():
        return f"{_typed(parts)} --data-binary {shlex.quote(text)}"
    packed = base64.b64encode(content).decode()
    return f"printf %s {packed} | base64 --decode | {_typed([*parts, '--data-binary', '@-'])}"


def _typed(parts: Iterable[str]) -> str:
    return " ".join([_quote(_bytes_of(part)) for part in parts])


def _quote(raw: bytes) -> str:
    """Quote bytes as one word for bash, without control characters that a terminal would act on."""
    try:
        if (text := raw.decode()).isprintable():
            return shlex.quote(text)
    except UnicodeDecodeError:
        pass
    shown = [chr(each) if 32 <= each < 127 and each not in b"\\'" else f"\\x{each:02x}" for each in raw]
    return f"$'{''.join(shown)}'"


def _bytes_of(text: str) -> bytes:
    """The bytes on the wire: a byte for each character. Text from a browser's HAR may need UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def edited(trace: Trace, changes: Mapping[str, Any]) -> Trace:
    """The trace with the changes of ``ReplayOptions``. Raises ReplayError."""
    if unknown := [name for name in changes if name not in ("method", "target", "headers", "body")]:
        raise ReplayError(f"{unknown[0]} cannot be changed; it may be method, target, headers, body")
    method, target = changes.get("method", trace.method), changes.get("target", trace.raw_target)
    if not (isinstance(method, str) and isinstance(target, str)):
        raise ReplayError(f"method and target are text; got {method!r:.40} and {target!r:.40}")
    fields, body = trace.request.unmasked, trace.request.body
    try:
        if "method" in changes:
            check_method(method)
        if "target" in changes and (raw := encode_target(target).decode("ascii")) != target:
            raise ReplayError(f"a target has other characters percent-encoded, {raw!r:.80}; got {target!r:.80}")
        if "headers" in changes:
            fields = _merged(fields, changes["headers"])
        if "body" in changes:
            content = as_bytes(changes["body"])
            body = Body(content=content, size=len(content))
            kept = [field for field in fields if field[0].lower() not in ("content-length", "transfer-encoding")]
            fields = (*kept, ("content-length", str(len(content))))
    except (LocalProtocolError, ValueError, AttributeError, TypeError) as error:
        raise ReplayError(str(error)) from None
    host = next((value for name, value in fields if name.lower() == "host"), "")
    request = Message(unmasked=fields, body=body)
    return replace(trace, method=method, raw_target=target, host=host, request=request)


def _merged(fields: Fields, given: Any) -> Fields:
    pairs = [(raw := name.lower().encode("latin-1"), encode_value(raw, value)) for name, value in fields]
    return tuple([(name.decode("latin-1"), decode_value(name, value)) for name, value in merge(pairs, given)])


def resend(trace: Trace, address: str, timeout: float, connected: Callable[[str], object] | None = None) -> Replayed:
    """Send the request to ``address``, host:port or a UNIX socket's path. Blocks for ``timeout`` seconds at most.

    ``connected`` is called with this end's address, as the server shows it, before the request is sent. Raises
    ReplayError, OSError, HTTPException.
    """
    fields, body = _fields(trace, True), trace.request.body
    if lacking := _lacking(trace):
        raise ReplayError(lacking)
    if body.truncated:
        raise ReplayError(
            f"{len(body.content)} of the body's {body.size} bytes were kept: record with Bounds(body_size=...)"
        )
    started = monotonic()
    connection = _Connection(address, timeout, trace.host if trace.secure else None)
    try:
        connection.connect()
        if connected is not None:
            connected(show_address(connection.sock.getsockname()))
        _put(connection, trace, fields)
        connection.endheaders(body.content or None)
        with connection.getresponse() as answer:  # the answer owns the socket now
            content = _read(answer, started + timeout)
        return Replayed(answer.status, tuple(answer.getheaders()), content, monotonic() - started)
    finally:
        connection.close()


def _put(connection: http.client.HTTPConnection, trace: Trace, fields: Fields) -> None:
    """Write the head, without its last line."""
    framed = trace.request.body.size or any(
        name.lower() in ("content-length", "transfer-encoding") for name, _ in fields
    )
    try:
        connection.putrequest(trace.method, trace.raw_target, skip_host=True, skip_accept_encoding=True)
        for name, value in fields:
            if name.lower() not in _NOT_AGAIN:
                connection.putheader(name, _bytes_of(value))
    except ValueError as error:
        raise ReplayError(f"{trace!r} cannot be sent: {error}") from None
    if framed:
        connection.putheader("content-length", str(trace.request.body.size))
    connection.putheader("connection", "close")


def _read(answer: http.client.HTTPResponse, until: float) -> bytes:
    """Read the answer's body. A socket's timeout alone would never end a slow or an endless one."""
    pieces, size = [], 0
    while piece := answer.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_MAX:
            raise ReplayError(f"the answer has more than {ANSWER_MAX >> 20} MiB")
        if monotonic() > until:
            raise TimeoutError(f"the answer took too long; {size} bytes have come")
    return b"".join(pieces)


class _Connection(http.client.HTTPConnection):
    """A connection to host:port or a UNIX socket; over TLS if ``secure`` gives the host's name.

    The name chooses the certificate, which is not checked: this is the listener of the request, by its address.
    """

    def __init__(self, address: str, timeout: float, secure: str | None) -> None:
        self._secure = secure
        host, _, port = address.rpartition(":")
        self._path = "" if port.isdigit() and host and "/" not in address else address
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
        super().__init__("localhost" if self._path else host, None if self._path else int(port), timeout=timeout)

    def connect(self) -> None:
        if self._path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        else:
            super().connect()
        if self._secure is not None:
            import ssl

            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            name = urlsplit(f"//{self._secure}").hostname
            self.sock = context.wrap_socket(self.sock, server_hostname=name)
