"""``server.traces``: what the recorder kept, as people use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, overload

from ..observe.filters import Filter, parse
from ..observe.recorder import Bounds, Recorder
from ..observe.trace import Trace
from .observing import PATIENCE, watched

if TYPE_CHECKING:
    from .server import Server


class Traces:
    """The exchanges that are over, the oldest first; recorded between ``start`` and ``stop``, kept within ``bounds``.

    May be used from any thread. ``server.traces[-1]`` is the last one, ``server.traces("~c 5xx")`` a list of those that
    match, and ``for trace in server.traces`` goes through all.
    """

    def __init__(self, server: Server, bounds: Bounds | None = None) -> None:
        self._server = server
        self._recorder = Recorder(server.name, watched(server).listened, bounds or Bounds())

    def __repr__(self) -> str:
        state = "" if self.recording else "; nothing is recorded: traces.start(), or app.start(record=True)"
        return f"<Traces {len(self)} of {self._server.name!r}{state}>"

    @property
    def recording(self) -> bool:
        return self._recorder.recording

    @property
    def dropped(self) -> int:
        """How many gave way to newer ones."""
        return self._recorder.dropped

    @property
    def bounds(self) -> Bounds:
        return self._recorder.bounds

    def start(self) -> Traces:
        """Record from now on; a request costs 5 µs more."""
        self._recorder.start(self._server.emitter)
        return self

    def stop(self) -> None:
        """Record no more. What was recorded stays."""
        self._recorder.stop()

    def clear(self) -> None:
        self._recorder.clear()

    def __len__(self) -> int:
        self._settle()
        return len(self._recorder)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> Trace: ...
    @overload
    def __getitem__(self, at: slice) -> list[Trace]: ...
    def __getitem__(self, at: int | slice) -> Trace | list[Trace]:
        return self._all()[at]

    def __call__(self, expression: str | Filter) -> list[Trace]:
        """Those that match. Raises FilterError."""
        matches = parse(expression).matches
        return [trace for trace in self._all() if matches(trace)]

    def find(self, number: int) -> Trace:
        """The trace of an exchange by its id. Raises KeyError."""
        self._settle()
        trace = self._recorder.find(number)
        if trace is None:
            raise KeyError(f"no trace of an exchange {number} is kept; it may have given way to newer ones")
        return trace

    def mark(self, trace: Trace, on: bool = True) -> None:
        """Mark it, for ``~marked``; or take the mark away."""
        (self._recorder.marked.add if on else self._recorder.marked.discard)(trace.id)

    def follow(self, follower: Callable[[Trace], object]) -> Callable[[], None]:
        """Have it called on the server's loop with each trace that is finished, until what this returns is called.

        It must not wait; if it raises it is logged and removed.
        """
        self._recorder.follow(follower)
        return lambda: self._recorder.unfollow(follower)

    def _all(self) -> list[Trace]:
        self._settle()
        return self._recorder.traces()

    def _settle(self) -> None:
        """A client may have its answer a moment before the loop notes that it was sent: give it that moment."""
        done = threading.Event()
        if not self._server.on_its_thread and self._server.running and self._server.post(done.set):
            done.wait(PATIENCE)
