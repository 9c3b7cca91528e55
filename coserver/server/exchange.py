"""One exchange: a request and its response, from head to last byte."""

from __future__ import annotations

from time import monotonic
from typing import IO, TYPE_CHECKING

from ..protocol.head import RequestHead
from .endpoint import Endpoint
from .request import Request

if TYPE_CHECKING:
    from .accepted import Accepted


class Exchange:
    """``status`` is 0 until the response begins; ``head`` is None for a request that was refused before it had one."""

    __slots__ = (
        "body_size",
        "broken",
        "connection",
        "continued",
        "endpoint",
        "head",
        "id",
        "keep_alive",
        "request",
        "spooled",
        "started",
        "status",
        "watched",
    )

    def __init__(self, number: int, connection: Accepted, head: RequestHead | None) -> None:
        self.id = number
        self.connection = connection
        self.head: RequestHead = head  # type: ignore[assignment]  # None only on the way to a refusal
        self.started = monotonic()
        self.endpoint: Endpoint | None = None
        self.request: Request | None = None
        self.status = 0
        self.body_size = 0
        self.keep_alive = False
        self.continued = False
        self.broken = False  # nothing more can be read: answer and end
        self.watched = False  # somebody was told that the handler started, so he is told how it ends
        self.spooled: IO[bytes] | None = None

    def __repr__(self) -> str:
        what = f"{self.head.method} {self.head.target}" if self.head else "no request"
        return f"<Exchange {self.id} {what} {self.status or 'unanswered'}>"

    def close(self) -> None:
        """Let go of the body's temporary file."""
        if self.spooled is not None:
            self.spooled.close()

    @property
    def endpoint_name(self) -> str:
        return self.endpoint.name if self.endpoint else "none"
