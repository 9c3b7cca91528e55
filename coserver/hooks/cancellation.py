"""What a cancellation does to blocking code: which calls it breaks, what it raises, how often that may be swallowed.

Blocking code holds locks and half-done work. So a client that leaves, or a timeout, never breaks a sleep or a wait for
a lock: the next call that does I/O raises. Only ``break_waits`` breaks sleeps and waits too. Code in ``finally`` and
``except`` may do I/O for a while longer.
"""

from __future__ import annotations

import math
import sys
from time import monotonic

import anyio

#: Kinds of suspended calls. A cancellation breaks I/O; it does not break a wait (a sleep, a lock); an awaitable of
#: ``await_`` gets the backend's own exception, as it would anywhere else.
IO, WAIT, AWAITED = 0, 1, 2

#: The value with which a worker is resumed after a cancellation has broken its call.
BROKEN = object()

#: A cancellation that was swallowed this often will always be: the worker is parked.
SWALLOWED_MAX = 3
#: A cancellation that was raised this often during a clean-up stands in an endless loop: the worker is parked.
RAISED_MAX = 100
#: Seconds for I/O in ``finally`` blocks, if no server sets a limit for it.
CLEANUP_TIMEOUT = 5.0


class RequestCancelled(BaseException):
    """The request of this blocking code is cancelled: its client left, its time limit passed, or the server stops.

    Raised by the next hooked call that does I/O. It is no Exception, so ``except Exception`` lets it pass. If it is
    caught all the same, the next call raises it again.
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
        """From now on a cancellation breaks sleeps and waits too, including those under way.

        For the end of a drain's grace: call it on the loop's own thread, just before the tasks are cancelled. It may be
        called twice. It cancels nothing by itself.
        """
        self.broken = True
        for shield in tuple(self._shields):
            shield.cancel()

    def add(self, shield: anyio.CancelScope) -> None:
        self._shields.add(shield)

    def discard(self, shield: anyio.CancelScope) -> None:
        self._shields.discard(shield)


class Cancellation:
    """One worker's cancellation, from the moment its task was cancelled to the end of the call.

    ``error`` is the backend's exception that cancelled the task. At the end of the call it is raised again, in place of
    RequestCancelled.
    """

    __slots__ = ("_of_scope", "_raised", "_reason", "_swallowed", "_until", "_waits", "error")

    def __init__(self, error: BaseException, waits: Waits, reason: str) -> None:
        self.error = error
        self._waits = waits
        self._reason = reason
        self._raised = self._swallowed = 0
        self._until = math.inf  # monotonic seconds: the end of the time for cleaning up
        # anyio's cancellations last as long as their scope; asyncio's own come once, and are lost unless passed on.
        self._of_scope = cancelled_now()

    @property
    def stands(self) -> bool:
        """Whether the task must still be cancelled; not if the cancelled scope ended inside the blocking code."""
        return not self._of_scope or cancelled_now()

    def leaves(self, kind: int) -> bool:
        """Whether this cancellation leaves a call of this kind alone."""
        return kind == WAIT and not self._waits.broken

    def breaks(self, kind: int) -> bool:
        """Whether a call of this kind must not begin now. Called in the worker."""
        return not (self.leaves(kind) or (self._raised and monotonic() < self._until and _cleaning_up()))

    def shield(self, kind: int) -> anyio.CancelScope:
        """The scope in which a call waits that may still wait."""
        if self.leaves(kind):
            return anyio.CancelScope(shield=True)
        return anyio.CancelScope(shield=True, deadline=anyio.current_time() + self._until - monotonic())

    def next(self) -> RequestCancelled | None:
        """The exception to raise now; None if it was swallowed too often. Called in the worker."""
        if not self._raised:
            self._until = monotonic() + self._waits.cleanup_timeout
        elif not _cleaning_up():  # in a clean-up it is raised again because the time is over: it was not swallowed
            self._swallowed += 1
        self._raised += 1
        if self._swallowed >= SWALLOWED_MAX or self._raised > RAISED_MAX:
            return None
        return RequestCancelled(self._reason)


class Ignored(Cancellation):
    """The cancellation of a worker that swallows what ``await_`` raises, again and again: its next call parks it."""

    __slots__ = ()

    def breaks(self, kind: int) -> bool:
        return True

    def next(self) -> None:
        return None


def cancelled_now() -> bool:
    return anyio.current_effective_deadline() == -math.inf


def _cleaning_up() -> bool:
    """Whether the caller runs in a ``finally`` or ``except`` block because of RequestCancelled."""
    error = sys.exception()
    for _ in range(100):  # a chain may be a ring
        if error is None or isinstance(error, RequestCancelled):
            break
        error = error.__context__
    return error is not None
