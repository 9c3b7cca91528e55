"""A request that a handler passes on: interim responses (1xx) of the member go to the client as they come.

The task that waits for the response also passes them on. So nothing else writes to the client, and none comes late.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ..hooks.suspension import await_unseen
from ..hooks.workers import in_worker
from ..protocol.fields import decode_value
from ..protocol.response_head import ResponseHead
from .encode import end_to_end
from .parent import Exchange
from .response import BodyStream, StreamedUpstreamResponse
from .subrequest import Subrequest, begin_waiting, end_waiting

if TYPE_CHECKING:
    from .pool.client import Client

PassOn = Callable[[int, list[tuple[str, str]]], Awaitable[None]]


class ForwardedSubrequest(Subrequest):
    """The object that ``forward`` returns. Await it, or return it, on the loop of its request."""

    pass_on: PassOn | None = None  # sends an interim response to the client; None: they are dropped
    _news: Callable[[], Any] | None = None  # wakes the task that waits

    def __init__(self, client: Client, method: str, target: str, started: float) -> None:
        super().__init__(client, method, target, started)
        self._interim: list[ResponseHead] = []  # those to pass on; the reader bounds their number and their size

    def __await__(self) -> Generator[Any, Any, Any]:
        self.awaited = True
        if self.done and self._interim and get_ident() == self.thread:
            yield from self._pass_on().__await__()
        return (yield from super().__await__())

    def result(self, timeout: float | None = None) -> Any:
        """Wait in a ``def`` handler, for at most ``timeout`` seconds, and pass on what comes meanwhile."""
        if self.done and self._interim and in_worker() and get_ident() == self.thread:
            await_unseen(self._pass_on())
        return super().result(timeout)

    def answer_here(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
        """Settle with an answer that no member gave, for a request that must not be passed on."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in [*fields, ("content-length", str(len(body)))])
        head = ResponseHead(f"HTTP/1.1 {status} \r\n{lines}\r\n".encode("latin-1"), self.method)
        self.stream = True
        self.body_stream = stream = BodyStream(self, None)
        if body:
            stream.give(body)
        stream.end()
        self.response = StreamedUpstreamResponse(head, stream)
        self.ended = monotonic()
        self.done = True

    # For the connection.

    def interim_came(self, heads: list[ResponseHead]) -> None:
        """Keep interim responses to pass them on, and wake the task that waits."""
        if self.pass_on is not None:
            self._interim += heads
            if self._news is not None:
                self._news()

    # Private.

    def _wait(self) -> Generator[Any, Any, None]:
        exchange: Exchange | None = self.exchange
        if exchange is not None:
            begin_waiting(exchange)
        try:
            while not self.done:
                yield from self._wait_for_news()
                if self._interim:
                    yield from self._pass_on().__await__()
        finally:
            if exchange is not None:
                end_waiting(exchange)

    def _wait_for_news(self) -> Generator[Any, Any, None]:
        """Wait for the end, or for an interim response."""
        if self._interim:
            return
        latch = self._latch()
        wake = latch.set
        self._watchers.append(wake)
        self._news = wake
        try:
            yield from latch.__await__()
        except BaseException:
            self._unwatch(wake)
            if not self._watchers and not self.done:
                self._given_up()
            raise
        finally:
            self._news = None
        self._unwatch(wake)

    async def _pass_on(self) -> None:
        while self._interim and self.pass_on is not None:
            head = self._interim.pop(0)
            fields = [
                (name.decode("ascii"), decode_value(name, value))
                for name, value in end_to_end(head.fields)
                if name != b"content-length"
            ]
            try:
                await self.pass_on(head.status, fields)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.pass_on = None  # the client left: its exchange ends by itself
                self._interim.clear()
            except BaseException:
                if not self.done and not self._watchers:
                    self._given_up()
                raise
