"""Everything that the servers and clients of one event loop share: the backend's primitives, one sweeper, one poller.

Each server runs ``Loop.run`` in its own task group. One of these tasks does the work; when it ends, the next takes
over. So every task has a parent, and no server depends on which of them came first.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context
from functools import partial
from types import coroutine
from typing import Any, Protocol
from weakref import ref

import anyio
from anyio.abc import AsyncBackend
from anyio.lowlevel import RunVar, current_token

from .deadlines import Sweeper
from .poller import Attend, EpollPoller, PeekPoller, Poller, has_epoll


class Loop:
    """One event loop, as the transport sees it.

    ``await loop.checkpoint()`` and the other primitives skip anyio's look-up of the backend, which would cost more than
    the receive that follows.
    """

    __slots__ = (
        "_native",
        "_servers",
        "_turn",
        "checkpoint",
        "inside",
        "poller",
        "sweeper",
        "wait_readable",
        "wait_writable",
    )

    def __init__(self) -> None:
        token = current_token()
        backend: type[AsyncBackend] = token.backend_class
        # The one place that asks which backend runs. On asyncio's loops a bare yield does the same as anyio's
        # checkpoint, which goes through three coroutines at every receive (0.3 µs of the 11 µs of a request).
        native: Any = token.native_token
        bare = hasattr(native, "call_soon")
        self._native = ref(native) if hasattr(native, "add_reader") else None
        self.checkpoint: Callable[[], Any] = _yield_once if bare else backend.checkpoint
        #: Calls a function as if in a task of this loop; on its thread, from a callback of the loop for example.
        self.inside: Callable[..., Any] = _naming_its_library().run
        self.wait_readable: Callable[..., Awaitable[None]] = backend.wait_readable
        self.wait_writable: Callable[..., Awaitable[None]] = backend.wait_writable
        self.sweeper = Sweeper()
        self.poller: Poller = EpollPoller() if has_epoll() else PeekPoller()
        self._turn = anyio.Lock()
        self._servers = 0

    @classmethod
    def current(cls) -> Loop:
        """The object of the running loop; made at the first call. Raises anyio.NoEventLoopError outside a loop."""
        try:
            return _current.get()
        except LookupError:
            loop = cls()
            _current.set(loop)
            return loop

    def native(self) -> Any:
        """The loop itself if it calls back for descriptors, as asyncio's loops do; None for trio's.

        The loop's own variables keep this object, so it refers to the loop weakly. Keep the result no longer than a
        socket.
        """
        return None if self._native is None else self._native()

    def cancels(self) -> Callable[[], int]:
        """A function that tells how many ``cancel()`` calls the current task has had, less those that were taken back.

        On trio, whose tasks have no such method, it is always 0.
        """
        if self._native is None:
            return int
        task: Any = sys.modules["asyncio"].current_task()
        found: Callable[[], int] = task.cancelling
        return found

    async def run(self) -> None:
        """Run the sweeper and the poller until cancelled."""
        self._servers += 1
        try:
            async with self._turn, anyio.create_task_group() as tasks:
                tasks.start_soon(self.sweeper.run)
                tasks.start_soon(self.sweeper.run_near)
                tasks.start_soon(self.poller.run, _attend())
        finally:
            self._servers -= 1
            # a task that waits for its turn may be cancelled before it comes: the last one closes
            if not self._servers:
                self.poller.close()


def poster() -> Callable[..., None]:
    """A function ``post(call, *args)`` that calls ``call(*args)`` on the running loop; from any thread.

    It raises RuntimeError after the end of that loop. ``Loop`` does not keep it: a loop's own variables must not refer
    to the loop.
    """
    native: Any = current_token().native_token
    post: Callable[..., None] = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    return post


class Latch:
    """Set once, awaited by one task of its loop. An anyio.Event, for loops that have no futures of their own."""

    __slots__ = ("_event", "set")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.set = self._event.set

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()


class FutureLatch:
    """A latch for asyncio's loops: a bare future, since an event takes three coroutines and a look-up (2 µs)."""

    __slots__ = ("_future",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self._future = make()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._future.__await__()  # type: ignore[no-any-return]

    def set(self) -> None:
        if not self._future.done():  # the waiting task may have been cancelled, and the future with it
            self._future.set_result(None)


def latches() -> Callable[[], Latch | FutureLatch]:
    """The function that makes latches for the running loop. ``Loop`` does not keep it either."""
    native: Any = current_token().native_token
    make = getattr(native, "create_future", None)
    return Latch if make is None else partial(FutureLatch, make)


class Reach:
    """The running loop, for calls from outside its tasks. Held weakly: the loop's own variables keep this object."""

    __slots__ = ("_native", "calls_back")

    def __init__(self) -> None:
        native: Any = current_token().native_token
        self._native = ref(native)
        #: Whether ``attend``, ``leave`` and ``later`` work; on trio they do not.
        self.calls_back = hasattr(native, "add_reader")

    def _loop(self) -> Any:
        native = self._native()
        if native is None:
            raise RuntimeError("the loop has ended")
        return native

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Call ``call(*args)`` on the loop's thread; from any thread. Raises RuntimeError if the loop has ended."""
        native = self._loop()
        (native.call_soon_threadsafe if self.calls_back else native.run_sync_soon)(call, *args)

    def attend(self, fd: int, call: Callable[[], object]) -> None:
        """Call ``call()`` whenever ``fd`` is readable."""
        self._loop().add_reader(fd, call)

    def leave(self, fd: int) -> None:
        """Undo ``attend``, before ``fd`` is closed."""
        self._loop().remove_reader(fd)

    def latch(self) -> Latch | FutureLatch:
        """Make a latch of this loop."""
        return FutureLatch(self._loop().create_future) if self.calls_back else Latch()

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call ``call()`` at that time, unless the returned timer is cancelled."""
        timer: Timer = self._loop().call_later(seconds, call)
        return timer


class Timer(Protocol):
    """The return value of ``later``."""

    def cancel(self) -> object: ...


def _attend() -> Attend | None:
    """The function by which the running loop calls back for a readable descriptor; None on trio, which has none."""
    native: Any = current_token().native_token
    if not hasattr(native, "add_reader"):
        return None

    def attend(fd: int, call: Callable[[], None]) -> Callable[[], object]:
        native.add_reader(fd, call)
        return partial(native.remove_reader, fd)

    return attend


def _naming_its_library() -> Context:
    """Tell sniffio which loop runs. anyio asks sniffio, if it is installed, and outside a task it does not know."""
    context = Context()
    try:
        import sniffio
    except ImportError:
        return context
    context.run(sniffio.current_async_library_cvar.set, sniffio.current_async_library())
    return context


@coroutine
def _yield_once() -> Generator[None, None, None]:
    """Let other tasks run, and a cancellation strike, as ``asyncio.sleep(0)`` does."""
    yield


_current: RunVar[Loop] = RunVar("coserver_loop")
