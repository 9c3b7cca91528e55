"""The log of every head, for debugging: on the logger ``coserver.http``, at level DEBUG.

The log shows every secret in the heads: cookies, tokens, passwords. So DEBUG on the logger ``coserver`` or on the root
does not turn it on. Set DEBUG on ``coserver.http`` itself before the server starts, or use ``--debug http``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..connection.base import Connection
    from .exchange import HttpExchange

log = logging.getLogger("coserver.http")

#: Bytes of a refused request that are shown. Its fault is mostly in the first lines.
_REFUSED_MAX = 1024

# A terminal obeys control characters, and 8-bit text has no known charset. A tab is harmless, and legal in a field.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256)) if code != 9}


class HeadLog:
    """Logs heads. ``>`` marks the client's lines, ``<`` the server's."""

    def __call__(self, exchange: HttpExchange, sent: bytes = b"") -> None:
        """Log the request's head; or, given ``sent``, the head at the begin of these bytes of the response."""
        connection = exchange.connection
        on = f"on connection {connection.id}"
        if sent:
            what = f"response {exchange.id} {on}"
            lines = _lines("<", sent.partition(b"\r\n\r\n")[0])
        else:
            what = f"request {exchange.id} {on}, from {connection.peer}"
            head = exchange.head
            raw = [f"{head.method} {head.target} HTTP/1.{head.minor}".encode()]
            raw += [b"%b: %b" % field for field in head.fields]
            lines = _lines(">", b"\r\n".join(raw))
        _log(connection, exchange.id, what, lines)

    def refused(self, connection: Connection, raw: bytes) -> None:
        """Log the begin of a head that was refused."""
        lines = _lines(">", bytes(raw[:_REFUSED_MAX]))
        if len(raw) > _REFUSED_MAX:
            lines.append(f"  > ... and {len(raw) - _REFUSED_MAX} bytes more")
        _log(connection, None, f"refused on connection {connection.id}, from {connection.peer}", lines)


def make_head_log() -> HeadLog | None:
    """Make the log that a Service calls for each head; None if the level is off."""
    return HeadLog() if 0 < log.level <= logging.DEBUG else None


def _log(connection: Connection, exchange: int | None, what: str, lines: list[str]) -> None:
    log.debug("%s\n%s", what, "\n".join(lines), extra={"connection": connection.id, "exchange": exchange})


def _lines(arrow: str, raw: bytes) -> list[str]:
    text = raw.rstrip(b"\r\n").decode("latin-1")
    return [f"  {arrow} {line.translate(_ESCAPES)}" for line in text.split("\r\n")]
