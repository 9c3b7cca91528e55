"""A stepper: holds exchanges that match a filter at a phase, so that they can be looked at, changed, and let go.

It is a gate of the emitter. Only the held exchanges wait; the server serves the others. A hold ends by an action, by
its time limit, when the stepper is closed, when the server drains, and when the client leaves.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from ...hooks.suspension import await_
from ...hooks.workers import in_worker
from ...lifecycle import events as ev
from ...lifecycle import phases
from ...lifecycle.emitter import Emitter
from ...lifecycle.order import HOLDABLE
from ...transport.loop import poster
from ..filters import Filter, FilterError, parse
from ..snapshot.capture import ServerView, picture_of
from .actions import HeldActions, StepperActions
from .held import Held, NotHeld, holdable

#: Seconds that something may be held: long enough to look and think. A forgotten stepper holds nobody for longer, and
#: most clients have given up by then.
HOLD_LIMIT = 300.0

_PHASE_OF: dict[type[ev.Event], str] = {kind: phase for phase, kind in HOLDABLE.items()}
_PHASE_OF[ev.SubrequestFinished] = phases.SUBREQUEST

_Key = tuple[int, int | None]

AnyHeldT = TypeVar("AnyHeldT", bound=HeldActions)

log = logging.getLogger("coserver.observe")


@dataclass(frozen=True, slots=True)
class Steppable:
    """A server to step through. ``thread`` is the thread of its loop, in which ``wait`` is an error."""

    view: ServerView
    emitter: Emitter
    thread: int


class BaseStepper(StepperActions[AnyHeldT, None]):
    """The held things of a stepper, and how to wait for one: the same for a server here and in another process.

    Any thread may call all methods. Only ``wait`` and ``wait_async`` wait. ``which`` is a held thing or its id; None
    means the oldest.
    """

    def __init__(self, filter: Filter, at: frozenset[str], limit: float, thread: int | None = None) -> None:
        """``thread`` is the thread of the server's loop, in which ``wait`` is an error; None in another process."""
        self.filter = filter
        self.at = at
        self.limit = limit
        self.closed = False
        #: The error that closed it, if one did: its filter took too long.
        self.error: FilterError | None = None
        self._thread = thread
        self._lock = threading.RLock()
        self._held: dict[int, AnyHeldT] = {}
        self._watchers: tuple[Callable[[], None], ...] = ()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self.waiting)} held"
        return f"<Stepper {str(self.filter)!r} at {', '.join(sorted(self.at))}: {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> list[AnyHeldT]:
        """Everything that is held now, the oldest first."""
        with self._lock:
            return [one for one in self._held.values() if not one.over]

    def wait(self, timeout: float | None = None) -> AnyHeldT:
        """Wait until something is held; return the oldest. In a hooked handler only that handler waits.

        Raises TimeoutError, NotHeld once the stepper is closed, RuntimeError on the server's own loop.
        """
        if in_worker():
            return await_(self.wait_async(timeout))
        if threading.get_ident() == self._thread:
            raise RuntimeError("wait() would block the event loop; write 'await step.wait_async()'")
        until = monotonic() + (math.inf if timeout is None else timeout)
        there = threading.Event()
        self.watch(there.set)
        try:
            while (held := self._first()) is None:
                if not there.wait(None if timeout is None else max(until - monotonic(), 0)):
                    raise TimeoutError(f"{self!r}: nothing for {timeout} s")
                there.clear()
        finally:
            self.unwatch(there.set)
        return held

    async def wait_async(self, timeout: float | None = None) -> AnyHeldT:  # noqa: ASYNC109 - as wait has
        """Like ``wait``, for a task on any loop. Raises TimeoutError, NotHeld once the stepper is closed."""
        there, post = [anyio.Event()], poster()

        def tell() -> None:
            try:
                post(there[0].set)
            except RuntimeError:
                pass  # the loop of the task that waited has ended

        self.watch(tell)
        try:
            with anyio.fail_after(timeout):
                while (held := self._first()) is None:
                    await there[0].wait()
                    there[0] = anyio.Event()
        except TimeoutError:
            raise TimeoutError(f"{self!r}: nothing for {timeout} s") from None
        finally:
            self.unwatch(tell)
        return held

    def find(self, which: AnyHeldT | int | None = None) -> AnyHeldT:
        """Find one that is held: itself, by its id, or the oldest. Raises NotHeld."""
        if isinstance(which, HeldActions):
            return which
        waiting = self.waiting
        found = waiting[:1] if which is None else [one for one in waiting if one.id == which]
        if not found:
            what = "nothing is held" if which is None else f"{which!r} is not held"
            raise NotHeld(f"{what} by {self!r}; step.waiting lists the held ones")
        return found[0]

    def close(self) -> None:
        """Let everything go and hold nothing more. A second call does nothing."""
        raise NotImplementedError

    def watch(self, call: Callable[[], None]) -> None:
        """Call ``call`` after each change of what is held, in the thread of the change. It must not wait."""
        with self._lock:
            self._watchers = (*self._watchers, call)

    def unwatch(self, call: Callable[[], None]) -> None:
        """Do not call ``call`` any more."""
        with self._lock:
            self._watchers = tuple(one for one in self._watchers if one != call)

    def _first(self) -> AnyHeldT | None:
        waiting = self.waiting
        if waiting:
            return waiting[0]
        if self.closed:
            why = f": {self.error.reason}" if self.error is not None else ""
            raise NotHeld(f"this stepper is closed and cannot hold requests{why}")
        return None

    def _changed(self) -> None:
        for call in self._watchers:
            try:
                call()
            except Exception:
                self.unwatch(call)
                log.exception("%r raised when it was told of a change, and was removed", call)


class Stepper(BaseStepper[Held]):
    """Holds exchanges of a server; ``server.step`` makes one.

    ``with server.step("/page") as step:`` lets everything go at the end of the block.
    """

    def __init__(self, of: Steppable, filter: str | Filter, at: str | Iterable[str], limit: float = HOLD_LIMIT) -> None:
        """Begins to hold. Raises FilterError, ValueError."""
        super().__init__(parse(filter), holdable(at), check_limit(limit), of.thread)
        self._matches = self.filter.matches
        self._of = of
        self._following: dict[_Key, frozenset[str]] = {}
        of.emitter.add_observer(self._observe)
        of.emitter.add_gate(self._gate)

    def do(self, action: str, /, which: Held | int | None = None, **arguments: Any) -> None:
        """Do one of ACTIONS, by its name, to ``which``. Raises NotHeld; ValueError for arguments that cannot be."""
        self.find(which).do(action, **arguments)

    def resume_all(self) -> int:
        """Let everything go that is held now; return how many."""
        with self._lock:
            waiting = self.waiting
            for held in waiting:
                held.resume()
        return len(waiting)

    def close(self) -> None:
        """Let everything go and hold nothing more. A second call does nothing."""
        with self._lock:
            self.closed = True
            self._of.emitter.remove_gate(self._gate)
            self._of.emitter.remove_observer(self._observe)
            self._following.clear()
            for held in self.waiting:
                held.release()
        self._changed()

    # The gate, on the server's loop.

    def _observe(self, event: ev.Event) -> None:
        """Forget the phases that ``next`` and ``until`` noted for a connection that closes."""
        if type(event) is ev.ConnectionClosed and self._following:
            with self._lock:
                for key in [key for key in self._following if key[0] == event.connection]:
                    del self._following[key]

    def _gate(self, event: ev.Event) -> Awaitable[None] | None:
        phase = _PHASE_OF.get(type(event))
        if phase is None or self.closed:
            return None
        following = self._following.get((event.connection, event.exchange)) if self._following else None
        if phase not in (self.at if following is None else following):
            return None
        listener = self._of.view.listener_of(event)
        if listener is None:
            return None  # another server of the same app
        picture = picture_of(self._of.view.server, listener, event, phase)
        try:
            if following is None and not self._matches(picture):
                return None
        except FilterError as error:  # it took too long, and the server must not wait for it again
            log.warning("%r is closed: %s", self, error.reason)
            self.error = error
            self.close()
            return None
        self._following.pop((event.connection, event.exchange), None)
        return self._hold(Held(event, phase, picture, self._lock))

    async def _hold(self, held: Held) -> None:
        held.let_go = self._let_go
        with self._lock:
            if self.closed:
                return
            self._held[held.id] = held
        self._changed()
        try:
            with anyio.move_on_after(self.limit):
                await held.wait()
        finally:
            with self._lock:
                late, held.over = not held.over, True
                del self._held[held.id]
            if late:
                self._changed()
        if late:
            log.warning("%r is released: the time limit of a hold is %g s", held, self.limit)
        if held.answered is not None:
            raise held.answered

    def _let_go(self, held: Held) -> None:
        if held.following is not None and not self.closed:
            self._following[held.event.connection, held.event.exchange] = held.following
        self._changed()


def check_limit(limit: float) -> float:
    """Check a hold's limit in seconds. Raises ValueError."""
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= sys.float_info.max:
        raise ValueError(f"a hold's limit is a number of seconds above 0, and not infinite; got {limit!r:.40}")
    return float(limit)
