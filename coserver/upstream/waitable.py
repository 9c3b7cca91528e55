"""The base of results that can be awaited on their own loop or another, and waited for in a plain thread.

State changes on the thread of the result's own loop. A watcher in another thread first appends itself to ``_watchers``
and then looks at ``done``; ``_settle`` first sets ``done`` and then empties the list. So one of the two always sees the
other, and since ``pop`` and ``remove`` are atomic, each watcher is called exactly once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from threading import get_ident
from types import coroutine
from typing import Any, Generic, TypeVar

import anyio

from ..hooks.suspension import await_unseen
from ..hooks.workers import in_worker
from ..transport.loop import FutureLatch, Latch, poster

T = TypeVar("T")


class Waitable(Generic[T]):
    """A result that will come, with ``await`` and ``result()``.

    ``thread`` is the thread of its own loop, 0 without a loop. ``awaited``: the outcome has been asked for. A subclass
    defines the outcome, and how to cancel.
    """

    done = False
    error: BaseException | None = None  # the failure, once done
    awaited = False
    thread = 0

    def __init__(self) -> None:
        self._watchers: list[Callable[[], Any]] = []

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the outcome, and return it. Raises ``error``."""
        self.awaited = True
        if not self.done:
            if get_ident() == self.thread:
                yield from self._wait()
            else:
                yield from self._wait_elsewhere().__await__()
        return self._outcome()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the outcome, and return it. In a hooked handler only that handler is suspended; elsewhere the thread
        waits.

        Raises ``error``; TimeoutError after ``timeout`` seconds, without cancelling; RuntimeError on its own loop
        outside a worker, where the wait would never end.
        """
        self.awaited = True
        if not self.done:
            if in_worker():
                await_unseen(self._wait_for(timeout))
            elif get_ident() == self.thread:
                raise RuntimeError(f"{self!r}: result() would block the event loop; write 'await' instead")
            else:
                self._block(timeout)
        return self._outcome()

    @property
    def post(self) -> Callable[..., None]:
        """A function that calls another on the loop of this result; from any thread."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Cancel; from any thread. A finished result stays as it is."""
        raise NotImplementedError

    def _outcome(self) -> T:
        raise NotImplementedError

    def _given_up(self) -> None:
        """Act on the cancellation of the last task that waited."""
        self.cancel()

    def _settle(self) -> None:
        """Set ``done``, and call all watchers."""
        self.done = True
        watchers = self._watchers
        while watchers:
            watchers.pop()()

    def watch(self, call: Callable[[], Any]) -> None:
        """Have ``call()`` called once, at the end or now: on the thread of its loop, or on this one."""
        self._watchers.append(call)
        if self.done and self._unwatch(call):
            call()

    def _unwatch(self, call: Callable[[], Any]) -> bool:
        try:
            self._watchers.remove(call)
        except ValueError:
            return False
        return True

    def _latch(self) -> Latch | FutureLatch:
        """A latch that a task on its own loop waits for."""
        return Latch()

    def _wait(self) -> Generator[Any, Any, None]:
        """Wait on its own loop. A generator, not a coroutine: most waits take this path, and each layer costs time."""
        latch = self._latch()
        wake = latch.set
        self._watchers.append(wake)
        try:
            yield from latch.__await__()
        except BaseException:
            self._unwatch(wake)
            if not self._watchers and not self.done:
                self._given_up()
            raise

    async def _wait_elsewhere(self) -> None:
        """Wait on another loop, which is woken by ``post``."""
        event, post = anyio.Event(), poster()

        def tell() -> None:
            try:
                post(event.set)
            except RuntimeError:
                pass  # that loop has ended, and the waiting task with it

        self.watch(tell)
        try:
            await event.wait()
        except BaseException:
            self._unwatch(tell)
            if not self._watchers and not self.done:
                self._given_up()
            raise

    async def _wait_for(self, seconds: float | None) -> None:
        """Wait in a worker. The deadline costs a cancel scope, but few calls have one."""
        if seconds is None:
            await self._wait_anywhere()
            return
        self._watchers.append(_nothing)  # keeps a timeout from counting as "the last task gave up", which cancels
        try:
            with anyio.fail_after(seconds):
                await self._wait_anywhere()
        finally:
            self._unwatch(_nothing)

    async def _wait_anywhere(self) -> None:
        if get_ident() == self.thread:
            await _awaiting(self._wait())
        else:
            await self._wait_elsewhere()

    def _block(self, timeout: float | None) -> None:
        """Wait in a plain thread."""
        event = threading.Event()
        self.watch(event.set)
        if not event.wait(timeout):
            self._unwatch(event.set)
            raise TimeoutError(f"{self!r}: not done after {timeout} s")


@coroutine
def _awaiting(waiting: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
    yield from waiting


def _nothing() -> None:
    """Do nothing. A watcher for a caller that may come back."""
