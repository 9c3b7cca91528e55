"""What is not there yet and can be waited for in three worlds: on its own loop, on another, in a plain thread.

State changes on the loop's own thread. Whoever watches from another thread appends first and looks at ``done`` then;
``_settle`` sets ``done`` first and empties the list then: one of the two sees the other, and ``pop`` and ``remove``
see to it that a call is made once.
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
    """``thread`` is its own loop's, 0 for one without a loop. Subclasses say what it comes to, and how it is given up.

    ``awaited``: somebody has asked for the outcome.
    """

    done = False
    error: BaseException | None = None  # what kept it from coming, once it is done
    awaited = False
    thread = 0

    def __init__(self) -> None:
        self._watchers: list[Callable[[], Any]] = []

    def __await__(self) -> Generator[Any, Any, T]:
        """The outcome. Raises what kept it from coming."""
        self.awaited = True
        if not self.done:
            if get_ident() == self.thread:
                yield from self._wait()
            else:
                yield from self._wait_elsewhere().__await__()
        return self._outcome()

    def result(self, timeout: float | None = None) -> T:
        """The outcome, waited for: in a hooked handler only that handler is suspended, elsewhere this thread.

        Raises what kept it from coming; TimeoutError after ``timeout`` seconds, and it goes on; RuntimeError on its own
        loop outside a worker, which would wait for itself.
        """
        self.awaited = True
        if not self.done:
            if in_worker():
                await_unseen(self._wait_for(timeout))
            elif get_ident() == self.thread:
                raise RuntimeError(f"{self!r}: result() would stop the loop that it waits for; write 'await' instead")
            else:
                self._block(timeout)
        return self._outcome()

    @property
    def post(self) -> Callable[..., None]:
        """Has something called on its own loop."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Give it up; from any thread. What is done already stays as it is."""
        raise NotImplementedError

    def _outcome(self) -> T:
        raise NotImplementedError

    def _given_up(self) -> None:
        """Whoever waited was cancelled; nobody is left who waits."""
        self.cancel()

    def _settle(self) -> None:
        """It is done: tell all who watch."""
        self.done = True
        watchers = self._watchers
        while watchers:
            watchers.pop()()

    def watch(self, call: Callable[[], Any]) -> None:
        """Have ``call()`` called once, when it is done or at once; on its own loop's thread, or this one."""
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
        """What wakes whoever waits on its own loop."""
        return Latch()

    def _wait(self) -> Generator[Any, Any, None]:
        """On its own loop. No coroutine: most waits are of this kind, and each layer of them costs."""
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
        """On another loop: the word comes by post."""
        event, post = anyio.Event(), poster()

        def tell() -> None:
            try:
                post(event.set)
            except RuntimeError:
                pass  # that loop has ended, and whoever waited with it

        self.watch(tell)
        try:
            await event.wait()
        except BaseException:
            self._unwatch(tell)
            if not self._watchers and not self.done:
                self._given_up()
            raise

    async def _wait_for(self, seconds: float | None) -> None:
        """For a worker. The deadline is a scope of its own: it is rarely asked for."""
        if seconds is None:
            await self._wait_anywhere()
            return
        self._watchers.append(_nothing)  # a deadline of whoever waits gives nothing up
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
        """In a plain thread."""
        event = threading.Event()
        self.watch(event.set)
        if not event.wait(timeout):
            self._unwatch(event.set)
            raise TimeoutError(f"{self!r}: not done after {timeout} s")


@coroutine
def _awaiting(waiting: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
    yield from waiting


def _nothing() -> None:
    """Stands in for somebody who still wants it."""
