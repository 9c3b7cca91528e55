"""The TLS handshake of a TLS listener's connections, and the log lines of a failed one.

Each failure is one log line, at a bounded rate, that names the side at fault. A client that speaks plain HTTP gets its
answer in plain HTTP. Other clients get the alert that TLS has for the failure.
"""

from __future__ import annotations

import logging
import math
import re
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ...lifecycle import phases
from ...protocol.syntax import show
from ...transport.certificates import Certificates
from ...transport.stream import SocketStream
from ...transport.tls import NotTls, TlsStream
from ...transport.tls_engine import TlsCut, TlsError

if TYPE_CHECKING:
    from .base import Connection

#: Seconds between two checks of the certificates' files. A check is a few system calls, in a thread.
_LOOK = 10.0

_is_http = re.compile(rb"[A-Z]{2,20} ").match
_SPEAK_TLS = b"400 Bad Request\nThis port speaks TLS: use https://\n"
_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_SPEAK_TLS), _SPEAK_TLS)
)


async def secure(connection: Connection, certificates: Certificates) -> bool:
    """Put TLS between the connection and its socket; false if the connection must be closed.

    Raises anyio.BrokenResourceError when the client leaves with a reset.
    """
    plain, limits = connection.stream, connection.service.limits
    assert isinstance(plain, SocketStream)
    stream = TlsStream(plain, certificates.engine())
    deadline, connection.deadline = connection.deadline, monotonic() + limits.handshake_timeout
    connection.phase = phases.HANDSHAKE
    try:
        await stream.handshake()
    except anyio.EndOfStream:
        connection.end("the client left before its TLS handshake")
        return False
    except TlsError as error:
        connection.deadline = math.inf  # the linger has its own
        await _refuse(connection, error)
        return False
    finally:
        connection.phase = phases.ACCEPT
    connection.replace_stream(stream)
    connection.deadline = deadline if deadline == math.inf else monotonic() + limits.head_timeout
    return True


async def _refuse(connection: Connection, error: TlsError) -> None:
    reason, level, answer = str(error), logging.WARNING, b""
    if isinstance(error, TlsCut):
        level = logging.INFO  # the client broke off, or refused our certificate
    elif isinstance(error, NotTls):
        spoken = "plain HTTP" if _is_http(error.first) else f"something else: {show(error.first[:60])}"
        reason = f"this port speaks TLS, and the client spoke {spoken}"
        if _is_http(error.first):
            reason += " (it must ask for https://)"
            answer = b"" if connection.protocol == "tcp" else _ANSWER
    connection.end(f"no TLS: {reason}")
    connection.service.breaches.note("tls", connection.peer, "%r: no TLS: %s", connection, reason, level=level)
    if answer:
        connection.send_now(answer)
    await connection.linger(connection.limits, owed=False)


async def keep_fresh(certificates: Certificates) -> None:
    """Read certificates again when their files have changed, until cancelled."""
    while True:
        await anyio.sleep(_LOOK)
        await anyio.to_thread.run_sync(certificates.reload_if_changed)
