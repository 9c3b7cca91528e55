"""Each head as it passes, for whoever looks for what goes wrong: the logger ``coserver.http``, level DEBUG.

It shows everything, and so every secret: cookies, tokens, passwords. Therefore a DEBUG set on ``coserver`` or on the
root does not turn it on, only one set on ``coserver.http`` itself before the server starts (or ``--debug http``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchange import Exchange
    from .http1 import HttpConnection

log = logging.getLogger("coserver.http")

#: Bytes of a refused request that are shown; what is wrong with it stands mostly in its first lines.
_REFUSED_MAX = 1024

# A terminal obeys control characters, and 8-bit text may be anything. A tab is harmless, and part of a field's value.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256)) if code != 9}


def heads_writer() -> Callable[..., None] | None:
    """What a Service calls for each head, as ``heads(connection, exchange, sent)``; None if nobody wants to see them.

    ``sent`` are the response's bytes from its head on; without them it is the request's head that has been read.
    """
    return show_head if 0 < log.level <= logging.DEBUG else None


def show_head(connection: HttpConnection, exchange: Exchange | None, sent: bytes = b"", refused: bytes = b"") -> None:
    """Log one head: ``>`` marks what the client sent, ``<`` what it was sent. ``refused``: what was no sound head."""
    number = exchange.id if exchange is not None else None
    on = f"on connection {connection.id}"
    if sent:
        what = f"response {number} {on}"
        lines = _lines("<", sent.partition(b"\r\n\r\n")[0])
    elif refused or exchange is None:
        what = f"refused {on}, from {connection.peer}"
        lines = _lines(">", refused[:_REFUSED_MAX])
        if len(refused) > _REFUSED_MAX:
            lines.append(f"  > ... and {len(refused) - _REFUSED_MAX} bytes more")
    else:
        what = f"request {number} {on}, from {connection.peer}"
        head = exchange.head
        raw = [f"{head.method} {head.target} HTTP/1.{head.minor}".encode()]
        raw += [b"%b: %b" % field for field in head.fields]
        lines = _lines(">", b"\r\n".join(raw))
    extra = {"connection": connection.id, "exchange": number}
    log.debug("%s\n%s", what, "\n".join(lines), extra=extra)


def _lines(arrow: str, raw: bytes) -> list[str]:
    text = raw.rstrip(b"\r\n").decode("latin-1")
    return [f"  {arrow} {line.translate(_ESCAPES)}" for line in text.split("\r\n")]
