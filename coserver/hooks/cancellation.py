"""What a cancellation is to blocking code: which calls it breaks, what it raises there, how often it may be swallowed.

Blocking code holds locks and half-done work, so a sleep or a wait for a lock is never broken by a client that leaves or
by a timeout: the next call that does I/O raises. Only ``break_waits`` breaks sleeps and waits too. What stands in
``finally`` and ``except`` may do I/O for a while longer.
"""

from __future__ import annotations

import math
import sys
from time import monotonic

import anyio

#: What a suspended call is to a cancellation: I/O is broken by it, a wait (a sleep, a lock) is not, and what
#: ``await_`` awaits gets the backend's own exception, as it would anywhere else.
IO, WAIT, AWAITED = 0, 1, 2

#: What a worker is resumed with when the cancellation has broken its call after all.
BROKEN = object()

#: A cancellation that was swallowed this often will be swallowed for ever: the worker is parked.
SWALLOWED_MAX = 3
#: Raised this often while cleaning up, it stands in a loop that nothing ends.
RAISED_MAX = 100
#: Seconds for I/O in ``finally`` blocks where no server has a limit for it.
CLEANUP_TIMEOUT = 5.0


class RequestCancelled(BaseException):
    """The request that this blocking code works for is cancelled: its client left, its time is over, the server stops.

    Raised by the next hooked call that does I/O. It is no Exception, so that ``except Exception`` lets it pass; caught
    all the same, the next call raises it again.
    """


class Waits:
    """The sleeps and waits of one server's workers. ``cleanup_timeout`` is seconds for I/O in ``finally`` blocks."""

    __slots__ = ("_shields", "broken", "cleanup_timeout")

    def __init__(self, cleanup_timeout: float = CLEANUP_TIMEOUT) -> None:
        self.cleanup_timeout = cleanup_timeout
        self.broken = False
        self._shields: set[anyio.CancelScope] = set()

    def __repr__(self) -> str:
        return f"<Waits {'broken' if self.broken else f'{len(self._shields)} outlive a cancellation'}>"

    def break_waits(self) -> None:
        """From now on a cancellation breaks sleeps and waits too, those under way included.

        The last word of a drain: call it on the loop's own thread, at the end of the grace, just before the tasks are
        cancelled. Twice is fine. It cancels nothing by itself.
        """
        self.broken = True
        for shield in tuple(self._shields):
            shield.cancel()

    def add(self, shield: anyio.CancelScope) -> None:
        self._shields.add(shield)

    def discard(self, shield: anyio.CancelScope) -> None:
        self._shields.discard(shield)


class Cancellation:
    """One worker's cancellation, from when its task was struck to the end of the call.

    ``error`` is what struck the task: what leaves the worker in the end is that, not RequestCancelled.
    """

    __slots__ = ("_of_scope", "_raised", "_reason", "_swallowed", "_until", "_waits", "error")

    def __init__(self, error: BaseException, waits: Waits, reason: str) -> None:
        self.error = error
        self._waits = waits
        self._reason = reason
        self._raised = self._swallowed = 0
        self._until = math.inf  # monotonic seconds: the end of the time for cleaning up
        # anyio's cancellations hold as long as their scope; asyncio's own come once, and are lost if nobody passes
        # them on.
        self._of_scope = cancelled_now()

    @property
    def stands(self) -> bool:
        """Whether the task is still to be told. One whose scope ended inside the blocking code is not."""
        return not self._of_scope or cancelled_now()

    def leaves(self, kind: int) -> bool:
        """Whether a call of this kind is none of its business."""
        return kind == WAIT and not self._waits.broken

    def breaks(self, kind: int) -> bool:
        """Whether a call of this kind may not begin now. Asked in the worker."""
        return not (self.leaves(kind) or (self._raised and monotonic() < self._until and _cleaning_up()))

    def shield(self, kind: int) -> anyio.CancelScope:
        """What a call that it does not break waits in."""
        if self.leaves(kind):
            return anyio.CancelScope(shield=True)
        return anyio.CancelScope(shield=True, deadline=anyio.current_time() + self._until - monotonic())

    def next(self) -> RequestCancelled | None:
        """What is raised now; None if it was swallowed too often. Asked in the worker."""
        if not self._raised:
            self._until = monotonic() + self._waits.cleanup_timeout
        elif not _cleaning_up():  # there it is raised once more because the time is over, and was not swallowed
            self._swallowed += 1
        self._raised += 1
        if self._swallowed >= SWALLOWED_MAX or self._raised > RAISED_MAX:
            return None
        return RequestCancelled(self._reason)


class Ignored(Cancellation):
    """Of a worker that swallows what ``await_`` raises, again and again: its next call parks it."""

    __slots__ = ()

    def breaks(self, kind: int) -> bool:
        return True

    def next(self) -> None:
        return None


def cancelled_now() -> bool:
    return anyio.current_effective_deadline() == -math.inf


def _cleaning_up() -> bool:
    """Whether the caller stands in a ``finally`` or ``except`` block that RequestCancelled has led to."""
    error = sys.exception()
    for _ in range(100):  # a chain may be a ring
        if error is None or isinstance(error, RequestCancelled):
            break
        error = error.__context__
    return error is not None
