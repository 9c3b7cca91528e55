"""The one way in which blocking code suspends: ``suspend`` hands something to await to the worker's task.

While it waits, the worker says in which call, on what and since when: plain slots, to be read from any thread. Events
are built only where somebody observes, and the line of the user's code is looked for only when somebody asks.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Generator
from threading import get_ident
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple

import anyio
from greenlet import getcurrent

from ..lifecycle import events as ev
from ..lifecycle.phases import SUSPEND
from ..transport.loop import Loop, poster
from .cancellation import AWAITED, BROKEN, IO, WAIT
from .describe import place_of, told
from .workers import CREDIT, Subject, Worker

T = TypeVar("T")
Args = TypeVarTuple("Args")

__all__ = ["AWAITED", "IO", "WAIT", "Sleep", "Wake", "await_", "await_unseen", "give_way", "suspend"]

log = logging.getLogger("coserver.hooks")


def suspend(worker: Worker, kind: int, call: str, on: Any, make: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
    """Suspend this worker, the current one, until ``make(*args)`` is done; its result.

    ``kind`` is IO (a cancellation breaks it: RequestCancelled), WAIT (it does not, until the server's grace is over;
    what is awaited must then bear to be awaited once more, as Sleep and Wake do) or AWAITED (it gets the backend's own
    exception). ``call`` is the call's name, ``on`` what it waits for: an address, a lock, seconds; see ``showing``.
    """
    if worker.cancellation is not None and worker.cancellation.breaks(kind):
        worker.cancel()
    assert worker.parent is not None
    worker.kind = kind
    worker.on = on
    worker.since = monotonic()
    worker.call = call  # last: who reads it finds the others
    subject = worker.subject
    seen = None if subject is None else _seen(worker, subject)
    try:
        result: T = worker.parent.switch(make(*args))
    finally:
        if seen is not None:
            seen.over(worker)
        worker.call = worker.on = None
    if worker.cancellation is None:
        worker.credit = CREDIT
    elif result is BROKEN:
        worker.cancel()
    return result


def give_way(worker: Worker, call: str, on: Any) -> None:
    """Before a call that does I/O: what has not waited for long lets others run; what is cancelled learns of it."""
    cancellation = worker.cancellation
    if cancellation is None:
        suspend(worker, IO, call, on, Loop.current().checkpoint)
    elif cancellation.breaks(IO):
        worker.cancel()


def await_(awaitable: Awaitable[T]) -> T:
    """Await from blocking code: suspends this worker, and nothing else, until ``awaitable`` is done.

    Raises RuntimeError outside a worker, and whatever ``awaitable`` raises: a cancellation that strikes it is the
    backend's own exception here. RequestCancelled if the request was cancelled before.
    """
    worker = getcurrent()
    if type(worker) is not Worker:
        _never(awaitable)
        raise RuntimeError(
            "await_() suspends a worker, and this is none: use 'await' here, or call this function by run_blocking()"
        )
    try:
        return suspend(worker, AWAITED, "await_", awaitable, _same, awaitable)
    finally:
        if worker.cancellation is not None:
            _never(awaitable)


def await_unseen(awaitable: Awaitable[T]) -> T:
    """For what the server itself waits for in a worker, which has phases and events of its own.

    A cancellation raises RequestCancelled. Raises RuntimeError outside a worker.
    """
    worker = getcurrent()
    if type(worker) is not Worker:
        return await_(awaitable)
    if worker.cancellation is not None and worker.cancellation.breaks(IO):
        _never(awaitable)
        worker.cancel()
    assert worker.parent is not None
    worker.kind = IO
    result: T = worker.parent.switch(awaitable)
    if result is BROKEN:
        worker.cancel()
    return result


def _same(awaitable: Awaitable[T]) -> Awaitable[T]:
    return awaitable


def _never(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()  # or Python warns, later and elsewhere, that it was never awaited


class Sleep:
    """To be awaited until ``until``, monotonic seconds, however often."""

    __slots__ = ("until",)

    def __init__(self, until: float) -> None:
        self.until = until

    def __await__(self) -> Generator[Any, Any, None]:
        # uvloop's timers come up to a millisecond early.
        while (left := self.until - monotonic()) > 0:
            yield from anyio.sleep(left).__await__()


class Wake:
    """To be awaited until somebody calls ``wake``, from any thread, or until ``until``; then True, or False.

    Made in the worker that is going to wait. To wake what is awake, or long gone, harms nothing.
    """

    __slots__ = ("_event", "_post", "_thread", "until", "woken")

    def __init__(self, until: float | None = None) -> None:
        self.until = until
        self.woken = False
        self._event = anyio.Event()
        self._post = poster()
        self._thread = get_ident()

    def wake(self) -> bool:
        """Wake it; false if its loop has ended, and who waited with it."""
        self.woken = True
        try:
            if get_ident() == self._thread:
                self._event.set()
            else:
                self._post(self._event.set)
        except RuntimeError:
            return False
        return True

    def __await__(self) -> Generator[Any, Any, bool]:
        if self.until is None:
            yield from self._event.wait().__await__()
        elif not self.woken:
            yield from self._until(self.until).__await__()
        return self.woken

    async def _until(self, until: float) -> None:
        with anyio.move_on_after(until - monotonic()):
            await self._event.wait()


# What is shown of it.


class _Seen:
    """A suspension that shows on a connection."""

    __slots__ = ("_call", "_exchange", "_phase", "_subject", "_told")

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._phase = subject.phase
        self._exchange = subject.exchange
        self._told = False
        self._call = ""

    def begin(self, worker: Worker, watched: bool, logged: bool) -> None:
        subject = self._subject
        subject.phase = SUSPEND
        subject.suspended = worker
        if not (watched or logged):
            return
        frame = sys._getframe(1)
        (self._call, what), where = told(worker, frame), place_of(frame)
        if logged:
            log.debug("%r: %s on %s, %s", subject, self._call, what, where)
        if watched and self._exchange is not None:
            self._told = True
            subject.emitter.tell(ev.Suspended(**subject.facts(self._exchange), call=self._call, on=what, where=where))

    def over(self, worker: Worker) -> None:
        subject = self._subject
        if subject.suspended is worker:
            subject.suspended = None
            if subject.phase == SUSPEND:
                subject.phase = self._phase
        if self._told:
            took = monotonic() - worker.since
            subject.emitter.tell(ev.Resumed(**subject.facts(self._exchange), call=self._call, seconds=took))


def _seen(worker: Worker, subject: Subject) -> _Seen:
    seen = _Seen(subject)
    seen.begin(worker, subject.emitter.heard, 0 < log.level <= logging.DEBUG)
    return seen
