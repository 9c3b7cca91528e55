"""Several subrequests at once: ``gather`` waits for all or for the first few, ``Map`` sends many, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from .subrequest import Subrequest, begin_waiting, end_waiting
from .waitable import Waitable

if TYPE_CHECKING:
    from ..transport.loop import FutureLatch, Latch
    from .upstream import Upstream


def gather(*subs: Waitable[Any], return_exceptions: bool = False, first: int | None = None) -> Gathered:
    """Wait for several subrequests as one: ``await gather(a, b)`` or ``gather(a, b).result()``, a list in their order.

    The first failure is raised and cancels the others; with ``return_exceptions`` failures are elements of the list.
    With ``first=k`` the result is complete after k successes: the list has their responses in order of completion, the
    others are cancelled. If k successes become impossible, the first failure is raised. Raises TypeError, ValueError.
    """
    for sub in subs:
        if not isinstance(sub, Waitable):
            raise TypeError(f"gather takes subrequests, as users.get(...) returns them; got {type(sub).__name__}")
    if first is not None and not 1 <= first <= len(subs):
        raise ValueError(f"first is from 1 to the number of subrequests, {len(subs)}; got {first!r}")
    if first is not None and return_exceptions:
        raise ValueError("first and return_exceptions exclude each other: first skips failures; leave one out")
    return Gathered(subs, return_exceptions, first)


class Gathered(Waitable[list[Any]]):
    """The return value of ``gather``. It has one latch, so a waiting task is woken once."""

    def __init__(self, subs: tuple[Waitable[Any], ...], return_exceptions: bool, first: int | None) -> None:
        self._watchers = []
        self._subs = subs
        self._return_exceptions = return_exceptions
        self._first = first
        self._left = len(subs)
        self._came: list[Waitable[Any]] = []
        self._awaited = False
        self.thread = 0
        for sub in subs:
            if not sub.done:
                self.thread = sub.thread
                break
        self._begin()

    def __repr__(self) -> str:
        return f"<Gathered {len(self._subs) - self._left} of {len(self._subs)}>"

    def cancel(self) -> None:
        """Cancel all subrequests."""
        for sub in self._subs:
            sub.cancel()

    def _begin(self) -> None:
        """Count the finished subrequests and watch the others, all on one loop's thread, so that counting is safe."""
        if not self._subs:
            self._settle()
            return
        if self.thread and self.thread != get_ident():
            post = next(sub.post for sub in self._subs if sub.thread == self.thread)
            try:
                post(self._watch_all)
                return
            except RuntimeError:
                pass  # that loop has ended, so all of its subrequests are done
        self._watch_all()

    def _watch_all(self) -> None:
        here = get_ident()
        for sub in self._subs:
            if sub.done:
                self._one(sub)
            elif sub.thread == here:
                sub._watchers.append(partial(self._one, sub))
            else:
                sub.watch(partial(self._one_elsewhere, sub))
            if self.done:
                break

    def _one_elsewhere(self, sub: Waitable[Any]) -> None:
        """Pass on the end of a subrequest of another loop to this loop, where it is counted."""
        mine = next(each for each in self._subs if each.thread == self.thread)
        try:
            mine.post(self._one, sub)
        except RuntimeError:
            self._one(sub)

    def _one(self, sub: Waitable[Any]) -> None:
        """Count a finished subrequest."""
        if self.done:
            return
        self._left -= 1
        failure = sub.error
        if failure is None:
            if self._first is not None:
                self._came.append(sub)
                if len(self._came) == self._first:
                    self._end()
                return
        elif self._first is not None:
            self.error = self.error or failure
            if len(self._came) + self._left < self._first:
                self._end()
            return
        elif not self._return_exceptions:
            self.error = failure
            self._end()
            return
        if not self._left:
            self._settle()

    def _end(self) -> None:
        """End early, and cancel the others."""
        self.done = True
        for sub in self._subs:
            if not sub.done:
                sub.cancel()
        self._settle()

    @property
    def awaited(self) -> bool:
        """Whether the outcome was asked for. Setting it marks every subrequest."""
        return self._awaited

    @awaited.setter
    def awaited(self, value: bool) -> None:
        self._awaited = value
        for sub in self._subs:
            sub.awaited = value

    @property
    def post(self) -> Callable[..., None]:
        return next(sub.post for sub in self._subs if sub.thread == self.thread)

    def _outcome(self) -> list[Any]:
        if self._first is not None and len(self._came) == self._first:
            return [sub._outcome() for sub in self._came]
        if self.error is not None:
            raise self.error
        if self._return_exceptions:
            return [sub.error or sub._outcome() for sub in self._subs]
        return [sub._outcome() for sub in self._subs]

    def _latch(self) -> Latch | FutureLatch:
        return next(sub for sub in self._subs if sub.thread == self.thread)._latch()

    def _wait(self) -> Generator[Any, Any, None]:
        first = self._subs[0]
        exchange = first.exchange if isinstance(first, Subrequest) else None
        if exchange is None:
            yield from super()._wait()
            return
        begin_waiting(exchange)
        try:
            yield from super()._wait()
        finally:
            end_waiting(exchange)


class Map:
    """The return value of ``Upstream.map``: an iterator of responses, async in a task, plain in a worker or a plain
    thread.
    """

    def __init__(
        self, upstream: Upstream, targets: Iterable[str], limit: int, as_completed: bool, options: Mapping[str, Any]
    ) -> None:
        if limit < 1:
            raise ValueError(f"limit is a number from 1; got {limit!r}")
        self._upstream = upstream
        self._targets: Iterator[str] = iter(targets)
        self._limit = limit
        self._as_completed = as_completed
        self._options = dict(options)
        self._method = self._options.pop("method", "GET")
        self._under_way: deque[Subrequest] = deque()

    def __repr__(self) -> str:
        return f"<Map {self._upstream.name} {len(self._under_way)} under way>"

    def __aiter__(self) -> Map:
        return self

    async def __anext__(self) -> Any:
        try:
            sub = self._next()
            if sub is None and (wait := self._first_done()):
                await wait
                sub = self._next()
            if sub is not None:
                return await sub
        except BaseException:
            self.cancel()
            raise
        raise StopAsyncIteration

    def __iter__(self) -> Map:
        return self

    def __next__(self) -> Any:
        try:
            sub = self._next()
            if sub is None and (wait := self._first_done()):
                wait.result()
                sub = self._next()
            if sub is not None:
                return sub.result()
        except BaseException:
            self.cancel()
            raise
        raise StopIteration

    def cancel(self) -> None:
        """Start no more subrequests, and cancel those under way."""
        self._targets = iter(())
        while self._under_way:
            sub = self._under_way.popleft()
            sub.awaited = True  # so that a failure of its own is not logged as "never awaited"
            sub.cancel()

    def _fill(self) -> None:
        while len(self._under_way) < self._limit:
            try:
                target = next(self._targets)
            except StopIteration:
                return
            self._under_way.append(self._upstream.request(self._method, target, **self._options))

    def _next(self) -> Subrequest | None:
        """The subrequest whose response is next, or None if that is not known yet."""
        self._fill()
        if not self._under_way:
            return None
        if not self._as_completed:
            return self._under_way.popleft()
        return self._completed()

    def _completed(self) -> Subrequest | None:
        for sub in self._under_way:
            if sub.done:
                self._under_way.remove(sub)
                return sub
        return None

    def _first_done(self) -> FirstDone | None:
        return FirstDone(tuple(self._under_way)) if self._under_way else None


class FirstDone(Waitable[None]):
    """Done when the first of ``subs`` is, in success or failure."""

    def __init__(self, subs: tuple[Waitable[Any], ...]) -> None:
        self._watchers = []
        self._subs = subs
        self.thread = subs[0].thread
        for sub in subs:
            sub.watch(self._one)

    def cancel(self) -> None:
        self._end()

    def _one(self) -> None:
        if not self.done:
            self._end()

    def _end(self) -> None:
        self.done = True
        for sub in self._subs:
            sub._unwatch(self._one)
        self._settle()

    def _outcome(self) -> None:
        return None
