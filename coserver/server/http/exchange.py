"""One exchange: a request and its response, from head to last byte."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...protocol.fields import RawFields
from ...protocol.head import RequestHead
from ...upstream.parent import end_children
from ..handler.endpoint import Endpoint
from ..handler.request import Request

if TYPE_CHECKING:
    from anyio import CancelScope

    from ...upstream.subrequest import Subrequest
    from ..connection.base import Accepted
    from ..handler.response import Response
    from ..handler.uploads import Spool

#: Of the process: a server that replaces another must not give its numbers again.
next_exchange_id = itertools.count(1).__next__


class Exchange:
    """``started`` is monotonic seconds; ``head`` is None for a request that was refused before it had one."""

    # Defaults of the class, not set one by one: most exchanges never change them.
    endpoint: Endpoint = None  # type: ignore[assignment]  # None until a route is found, which comes first
    params: Mapping[str, Any] = {}
    _request: Request | None = None
    status = 0  # until the response begins
    body_size = 0  # bytes of the request's body read so far
    patience: float | None = None  # left with the client and its body, in seconds; None: all of it
    size = 0  # bytes of the response's body
    keep_alive = False
    continued = False  # the client was told 100 Continue, or needs it no more
    broken = False  # nothing more can be read: answer and end
    watched = False  # somebody was told that the handler started, so he is told how it ends
    untold = 0.0  # when the handler started, while those who were to be told hear of it only when it is over
    until_close = False  # a body that only the close ends is being sent: cut short, it must end in a reset
    spooled: Spool | None = None  # the body's temporary file
    after: list[Callable[[], Any]] | None = None  # what ``request.after`` asked for
    answer_head = b""  # the response's bytes from its head on, kept for the access log where they are at hand
    logged = False  # it stands in the access log
    endless: CancelScope | None = None  # around a stream that only its client or a drain ends
    answer: Response | None = None  # what is about to be sent, while somebody observes
    failed = False  # an error handler of the app has been asked
    children: list[Subrequest] | None = None  # what its handler asked of upstreams
    waiting = 0  # tasks of its handler that wait for one of those
    waited_from = ""  # the phase in which the first of them began to wait
    handed_on = b""  # field lines for those, see ``upstream.parent``

    def __init__(self, number: int, connection: Accepted, head: RequestHead | None, started: float) -> None:
        self.id = number
        self.connection = connection
        self.head: RequestHead = head  # type: ignore[assignment]  # None only on the way to a refusal
        self.started = started

    def __repr__(self) -> str:
        what = f"{self.head.method} {self.head.target}" if self.head else "no request"
        return f"<Exchange {self.id} {what} {self.status or 'unanswered'}>"

    @property
    def endpoint_name(self) -> str:
        return self.endpoint.name if self.endpoint else "none"

    @property
    def request(self) -> Request:
        """What the handler sees; made when somebody asks for it."""
        request = self._request
        if request is None:
            connection = self.connection
            request = self._request = Request(self.head, self.id, connection.peer, self.params, connection)
        return request

    @property
    def content(self) -> bytes:
        """The request's body as far as it lies in memory; from any thread."""
        return self._request.content if self._request is not None else b""

    @property
    def marks(self) -> dict[str, Any]:
        """By what a log record about it is found again: its attributes, as ``extra=``."""
        return {
            "request_id": self.request.request_id,
            "exchange": self.id,
            "connection": self.connection.id,
        }

    @property
    def received(self) -> RawFields:
        """The fields that the request came with."""
        return self.head.fields if self.head else []

    # For whoever holds it at a gate; see ``editing``.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change what is known of it in this phase. Raises ValueError."""
        from .edit import edit_exchange  # few are ever changed

        edit_exchange(self, phase, given)

    def make_answer(self, status: int, body: Any, headers: Any) -> Response:
        """What it is to be answered with instead. Raises ValueError."""
        from .edit import make_answer

        return make_answer(status, body, headers)

    def close(self) -> None:
        """Cancel what it still asks of upstreams, and let go of the body's temporary file."""
        if self.children is not None:
            end_children(self)
        if self.spooled is not None:
            self.spooled.close()
