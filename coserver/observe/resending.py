"""A recorded request said again: as a line for curl, or sent anew.

What frames the body and concerns the old connection is made anew; everything else goes out as it came, secrets too.
"""

from __future__ import annotations

import base64
import http.client
import shlex
import socket
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

from .heads import Fields
from .trace import OPEN, REQUEST, Trace

#: Fields of one connection or of one framing (RFC 9110 §7.6.1), and what a client waits for in vain.
_NOT_AGAIN = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length",
     "expect"}
)  # fmt: skip


class ReplayError(ValueError):
    """This trace cannot be sent again; says why."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The new answer."""

    status: int
    fields: Fields
    content: bytes
    seconds: float

    def __repr__(self) -> str:
        return f"<Replayed {self.status}, {len(self.content)} bytes, {self.seconds * 1e3:.1f} ms>"


def as_curl(trace: Trace, *, secrets: bool = False) -> str:
    """A command line for a shell. ``secrets``: unmasked, so that it works. Raises ReplayError for what is no HTTP."""
    if trace.protocol != "http" or not trace.method:
        raise ReplayError(f"{trace!r} is no HTTP request")
    fields = trace.request.unmasked if secrets else trace.request.fields
    body = trace.request.body
    parts = ["curl"]
    if trace.method == "HEAD":
        parts.append("--head")
    elif trace.method != ("POST" if body.size else "GET"):
        parts += ["--request", trace.method]
    if trace.version == "HTTP/1.0":
        parts.append("--http1.0")
    url = trace.raw_url if secrets else trace.url
    parts += ["--globoff", "--path-as-is", url]
    for name, value in fields:
        if name.lower() not in _NOT_AGAIN and (name.lower() != "host" or value != trace.host):
            parts += ["--header", f"{name}: {value}" if value else f"{name};"]
    given = {name.lower() for name, _ in fields}
    for name in ("user-agent", "accept", *(["content-type"] if body.size else [])):
        if name not in given:
            parts += ["--header", f"{name}:"]  # curl has one of its own otherwise
    return _with_body(parts, body.content) + (
        f"  # the body is cut: {len(body.content)} of {body.size} bytes" if body.truncated else ""
    )


def _with_body(parts: list[str], content: bytes) -> str:
    if not content:
        return shlex.join(parts)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" not in text and not text.startswith("@"):
        return shlex.join([*parts, "--data-binary", text])
    packed = base64.b64encode(content).decode()
    return f"printf %s {packed} | base64 --decode | {shlex.join([*parts, '--data-binary', '@-'])}"


def resend(trace: Trace, address: str, timeout: float) -> Replayed:
    """Send it to ``address``, host:port or a UNIX socket's path. Blocks. Raises ReplayError, OSError, HTTPException."""
    body = trace.request.body
    if trace.protocol != "http" or not trace.method:
        raise ReplayError(f"{trace!r} is no HTTP request")
    declared = trace.request.get("content-length", str(body.size))
    if declared != str(body.size) or any(span.kind == REQUEST and span.outcome == OPEN for span in trace.spans):
        raise ReplayError(f"its body was not read to its end: {body.size} bytes of it are known")
    if body.truncated:
        raise ReplayError(
            f"{len(body.content)} of the body's {body.size} bytes were kept: record with Bounds(body_size=...)"
        )
    started = monotonic()
    connection = _Connection(address, timeout, trace.host if trace.secure else None)
    try:
        connection.putrequest(trace.method, trace.raw_target, skip_host=True, skip_accept_encoding=True)
        for name, value in trace.request.unmasked:
            if name.lower() not in _NOT_AGAIN:
                connection.putheader(name, value.encode("latin-1"))
        if body.size or any(
            name.lower() in ("content-length", "transfer-encoding") for name, _ in trace.request.unmasked
        ):
            connection.putheader("content-length", str(body.size))
        connection.putheader("connection", "close")
        connection.endheaders(body.content or None)
        answer = connection.getresponse()
        content = answer.read()
        return Replayed(answer.status, tuple(answer.getheaders()), content, monotonic() - started)
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """To host:port or to a UNIX socket; over TLS if the host's name is given, which chooses the certificate.

    It is not checked: this goes to the very listener that the request came to, and that by its address.
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
