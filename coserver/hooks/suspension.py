"""``suspend``, the one way in which blocking code suspends: it hands an awaitable to the worker's task.

While a worker waits, its slots tell the call, the thing it waits for, and the time: any thread may read them. Events
are built only if somebody observes, and the line of the user's code is looked for only if somebody asks.
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
from .describe import describe, place_of
from .workers import CREDIT, Subject, Worker, on_loop

T = TypeVar("T")
Args = TypeVarTuple("Args")

__all__ = ["AWAITED", "IO", "WAIT", "Sleep", "Wake", "await_", "await_unseen", "give_way", "suspend"]

log = logging.getLogger("coserver.hooks")


def suspend(
    worker: Worker,
    kind: int,
    call: str,
    on: Any,
    awaited: Awaitable[T] | Callable[[*Args], Awaitable[T]],
    *args: *Args,
) -> T:
    """Suspend this worker, the current one, until the awaitable is done; return its result.

    ``awaited`` is the awaitable or, if there are ``args``, the function that makes it of them. Pass a coroutine as
    function and arguments, because a cancelled worker raises before it is made. ``kind`` says what a cancellation does:

    - IO: it breaks the call, which raises RequestCancelled.
    - WAIT: it does not break the call until the server's grace is over. The task may await the same awaitable again, so
      that must allow it, as Sleep and Wake do.
    - AWAITED: the call raises the backend's own exception.

    ``call`` is the name of the call, ``on`` the thing it waits for: an address, a lock, seconds (see ``describe``).
    """
    if worker.cancellation is not None and worker.cancellation.breaks(kind):
        worker.cancel()
    assert worker.parent is not None
    worker.kind = kind
    worker.on = on
    worker.since = monotonic()
    worker.call = call  # last: a thread that sees it finds the others
    subject = worker.subject
    seen = None if subject is None else _seen(worker, subject)
    try:
        result: T = worker.parent.switch(awaited(*args) if args else awaited)  # type: ignore[operator]
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
    """Before I/O: let other tasks run, as this worker has not waited for long. A cancelled worker raises."""
    cancellation = worker.cancellation
    if cancellation is None:
        suspend(worker, IO, call, on, _other_tasks_run())
    elif cancellation.breaks(IO):
        worker.cancel()


async def _other_tasks_run() -> None:
    await Loop.current().checkpoint()


def await_(awaitable: Awaitable[T]) -> T:
    """Await from blocking code: suspend this worker, and nothing else, until ``awaitable`` is done.

    Raises RuntimeError outside a worker, RequestCancelled if the request was cancelled before, and every exception of
    ``awaitable``. A cancellation of ``awaitable`` raises the backend's own exception here.
    """
    worker = getcurrent()
    if type(worker) is not Worker:
        _close(awaitable)
        raise RuntimeError(
            "await_() works only in a def handler and in run_blocking(); in an async def use 'await'"
        )
    try:
        return suspend(worker, AWAITED, "await_", awaitable, awaitable)
    finally:
        if worker.cancellation is not None:
            _close(awaitable)


def await_unseen(awaitable: Awaitable[T]) -> T:
    """Await in a worker without a suspension in phases and events: the server's own waits have theirs.

    Raises RequestCancelled at a cancellation, RuntimeError outside a worker.
    """
    worker = getcurrent()
    if type(worker) is not Worker:
        return await_(awaitable)
    if worker.cancellation is not None and worker.cancellation.breaks(IO):
        _close(awaitable)
        worker.cancel()
    assert worker.parent is not None
    worker.kind = IO
    result: T = worker.parent.switch(awaitable)
    if result is BROKEN:
        worker.cancel()
    return result


def _close(awaitable: Any) -> None:
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()  # otherwise Python warns later that it was never awaited


class Sleep:
    """An awaitable that ends at ``until``, monotonic seconds. It may be awaited several times."""

    __slots__ = ("until",)

    def __init__(self, until: float) -> None:
        self.until = until

    def __await__(self) -> Generator[Any, Any, None]:
        # uvloop's timers end up to a millisecond early.
        while (left := self.until - monotonic()) > 0:
            yield from anyio.sleep(left).__await__()


class Wake:
    """An awaitable that ends when ``wake`` is called, from any thread (True), or at ``until`` (False).

    Make it in the worker that will wait. ``wake`` may be called again, or after the wait.
    """

    __slots__ = ("_event", "_post", "_thread", "until", "woken")

    def __init__(self, until: float | None = None) -> None:
        self.until = until
        self.woken = False
        self._event, self._post = on_loop(_event_and_poster)
        self._thread = get_ident()

    def wake(self) -> bool:
        """Wake the worker; false if its loop has ended."""
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


def _event_and_poster() -> tuple[anyio.Event, Callable[..., None]]:
    return anyio.Event(), poster()


# Phases and events of a suspension.


class _Seen:
    """A suspension that shows on its subject, a connection."""

    __slots__ = ("_call", "_phase", "_subject", "_told")

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        # None: another worker of the subject is suspended already (``run_blocking``). It gives the phase back, and
        # its events are told: those of one exchange come in turns.
        self._phase = None if subject.phase == SUSPEND else subject.phase
        self._told = False
        self._call = ""

    def begin(self, worker: Worker, observed: bool, logged: bool) -> None:
        subject = self._subject
        subject.phase = SUSPEND
        subject.suspended = worker
        if not (observed or logged):
            return
        frame = sys._getframe()  # coserver's own frames do not count
        (self._call, what), where = describe(worker, frame), place_of(frame)
        if logged:
            log.debug("%r: %s on %s, %s", subject, self._call, what, where)
        if observed and subject.tells_suspensions and self._phase is not None:
            self._told = True
            subject.emitter.tell(ev.Suspended(**subject.event_fields(), call=self._call, on=what, where=where))

    def over(self, worker: Worker) -> None:
        subject = self._subject
        if subject.suspended is worker:
            subject.suspended = None
        if self._phase is not None and subject.phase == SUSPEND:
            subject.phase = self._phase
        if self._told:
            took = monotonic() - worker.since
            subject.emitter.tell(ev.Resumed(**subject.event_fields(), call=self._call, seconds=took))


def _seen(worker: Worker, subject: Subject) -> _Seen:
    seen = _Seen(subject)
    seen.begin(worker, subject.emitter.heard, 0 < log.level <= logging.DEBUG)
    return seen
