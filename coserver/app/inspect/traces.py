"""``server.traces``: what the recorder kept, as people use it; exports, replays, and how it shows in a notebook."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, overload

import anyio

from ...observe.filters import And, Filter, Not, Or, Term, parse
from ...observe.trace.recorder import Bounds, Recorder
from ...observe.trace.trace import Trace
from ...observe.trace.underway import so_far
from .display import ShownTrace, ShownTraces
from .inspection import PATIENCE, take_snapshot, watched

if TYPE_CHECKING:
    from ...observe.export.replay import Replayed
    from ..server import Server

#: Some traces: by an expression, or one by one.
Which = str | Filter | Trace | Iterable[Trace]


class Traces:
    """The exchanges that are over, the oldest first; recorded between ``start`` and ``stop``, kept within ``bounds``.

    May be used from any thread. ``server.traces[-1]`` is the last one, ``server.traces("~c 5xx")`` a list of those that
    match, and ``for trace in server.traces`` goes through all.
    """

    def __init__(self, server: Server, bounds: Bounds | None = None) -> None:
        self._server = server
        self._recorder = Recorder(server.name, watched(server).listeners, bounds or Bounds(), ShownTrace)

    def __repr__(self) -> str:
        state = "" if self.recording else "; nothing is recorded: traces.start(), or app.start(record=True)"
        return f"<Traces {len(self)} of {self._server.name!r}{state}>"

    @property
    def recording(self) -> bool:
        """Whether exchanges that end are kept now."""
        return self._recorder.recording

    @property
    def dropped(self) -> int:
        """How many gave way to newer ones."""
        return self._recorder.dropped

    @property
    def bounds(self) -> Bounds:
        """How much is kept."""
        return self._recorder.bounds

    def start(self) -> Traces:
        """Record from now on; a plain request costs 2 to 4 µs more."""
        self._recorder.start(self._server.emitter)
        return self

    def stop(self) -> None:
        """Record no more. What was recorded stays."""
        self._recorder.stop()

    def clear(self) -> None:
        """Forget all that was kept."""
        self._recorder.clear()

    def __len__(self) -> int:
        self._settle()
        return len(self._recorder)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> ShownTrace: ...
    @overload
    def __getitem__(self, at: slice) -> ShownTraces: ...
    def __getitem__(self, at: int | slice) -> ShownTrace | ShownTraces:
        if isinstance(at, slice):
            return ShownTraces(self._all()[at])
        one = self._all()[at]
        assert isinstance(one, ShownTrace)
        return one

    def __call__(self, expression: str | Filter) -> ShownTraces:
        """Those that match. Raises FilterError."""
        matches = parse(expression).matches
        return ShownTraces(trace for trace in self._all() if matches(trace))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.html import traces_bundle

        note = f"{self.dropped} gave way to newer ones" if self.dropped else ""
        idle = "nothing is recorded: server.traces.start(), or app.start(record=True)"
        return traces_bundle(self._all(), "; ".join(filter(None, (note, "" if self.recording else idle))))

    def latest(self, after: int = 0, most: int = 100) -> tuple[int, list[Trace]]:
        """How many were recorded in all, and beyond the first ``after`` the last ``most``, the oldest first.

        For whoever looks again and again: only those are made. Waits for nothing.
        """
        return self._recorder.latest(after, most)

    def find(self, number: int) -> Trace:
        """The trace of an exchange by its id; of one under way, recorded or not, as far as it has come.

        Raises KeyError.
        """
        self._settle()
        trace = self._recorder.find(number)
        if trace is None:
            snapshot = take_snapshot(self._server)
            for row in snapshot.exchanges:
                if row.id == number:
                    return so_far(row, snapshot.at, ShownTrace)
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

    # Out, and again.

    def har(self, which: Which = "", *, secrets: bool = False) -> dict[str, Any]:
        """Those that match as a HAR 1.2, for a browser's network panel; ``json.dump`` writes it. Raises FilterError."""
        from ...observe.export.har import to_har

        return to_har(self._those(which), secrets=secrets)

    def chrome(self, which: Which = "") -> dict[str, Any]:
        """Those that match as Chrome trace events, for ui.perfetto.dev. Raises FilterError."""
        from ...observe.export.chrome import to_chrome

        return to_chrome(self._those(which))

    def otel(self, which: Which = "", provider: Any = None) -> int:
        """Make OpenTelemetry spans of those that match; how many exchanges. Raises FilterError, RuntimeError."""
        from ...observe.export.otel import to_otel

        return to_otel(self._those(which), provider)

    def curl(self, trace: Trace, *, secrets: bool = False) -> str:
        """The request as a command line of curl. Raises ReplayError for what is no HTTP request."""
        from ...observe.export.replay import as_curl

        return as_curl(trace, secrets=secrets)

    def replay(self, trace: Trace, *, timeout: float = 30) -> Replayed:
        """Send a request again, to the listener that had it; blocks, in a ``def`` handler only that.

        It may be under way (``find``), if all of it has been read. Its secrets go out as they came. Raises ReplayError,
        OSError, http.client.HTTPException; RuntimeError on the server's own loop, where it would wait for itself.
        """
        from ...hooks.suspension import await_
        from ...hooks.workers import in_worker

        if self._server.on_its_thread:
            if in_worker():
                return await_(self.areplay(trace, timeout=timeout))
            raise RuntimeError("replay() blocks the loop that is to answer; use: await server.traces.areplay(trace)")
        return self._resend(trace, timeout)

    async def areplay(self, trace: Trace, *, timeout: float = 30) -> Replayed:  # noqa: ASYNC109 - of the socket
        """``replay`` on any loop."""
        return await anyio.to_thread.run_sync(self._resend, trace, timeout)

    def _resend(self, trace: Trace, timeout: float) -> Replayed:
        from ...observe.export.replay import resend

        listeners = [one for one in watched(self._server).listeners if one.protocol == "http"]
        mine = [one for one in listeners if one.name == trace.listener] or listeners
        return resend(trace, mine[0].address if mine else trace.dst, timeout)

    def _those(self, which: Which) -> list[Trace]:
        if isinstance(which, Trace):
            return [which]
        if isinstance(which, str | Term | Not | And | Or):
            return self(which)
        return list(which)

    def _all(self) -> list[Trace]:
        self._settle()
        return self._recorder.traces()

    def _settle(self) -> None:
        """A client may have its answer a moment before the loop notes that it was sent: give it that moment."""
        done = threading.Event()
        if not self._server.on_its_thread and self._server.running and self._server.post(done.set):
            done.wait(PATIENCE)
