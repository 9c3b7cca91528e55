"""``server.traces``: the recorded traces, their exports and replays, and their display in a notebook."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Unpack

import anyio

from ...observe.filters import Filter, parse
from ...observe.trace.recorder import Bounds, Recorder, Resent
from ...observe.trace.trace import Trace
from ...observe.trace.underway import so_far
from .display import ShownTrace, ShownTraces, TraceList, Which
from .inspection import PATIENCE, take_snapshot, view_of

if TYPE_CHECKING:
    from ...observe.export.replay import Replayed, ReplayOptions
    from ..server import Server


class Traces(TraceList):
    """The finished exchanges, the oldest first. They are recorded between ``start`` and ``stop``, within ``bounds``.

    All methods are for any thread. ``server.traces[-1]`` is the last trace, ``server.traces("~c 5xx")`` a list of those
    that match, and ``for trace in server.traces`` goes through all.
    """

    def __init__(self, server: Server, bounds: Bounds | None = None) -> None:
        self._server = server
        self._recorder = Recorder(server.name, view_of(server).listeners, bounds or Bounds(), ShownTrace)

    def __repr__(self) -> str:
        state = "" if self.recording else "; nothing is recorded: traces.start(), or app.start(record=True)"
        return f"<Traces {len(self)} of {self._server.name!r}{state}>"

    @property
    def recording(self) -> bool:
        """Whether finished exchanges are recorded now."""
        return self._recorder.recording

    @property
    def dropped(self) -> int:
        """The number of traces that were dropped for newer ones."""
        return self._recorder.dropped

    @property
    def bounds(self) -> Bounds:
        """The bounds of the recorder: how much it keeps."""
        return self._recorder.bounds

    def start(self) -> Traces:
        """Record from now on. A plain request costs 2 to 4 µs more."""
        self._recorder.start(self._server.emitter)
        return self

    def stop(self) -> None:
        """Record no more, and keep the recorded traces."""
        self._recorder.stop()

    def clear(self) -> None:
        """Drop all recorded traces."""
        self._recorder.clear()

    def __len__(self) -> int:
        self._settle()
        return len(self._recorder)

    def __call__(self, expression: str | Filter) -> ShownTraces:
        """The traces that match. Raises FilterError."""
        matches = parse(expression).matches
        return ShownTraces(trace for trace in self._all() if matches(trace))

    def _note(self) -> str:
        note = f"{self.dropped} gave way to newer ones" if self.dropped else ""
        idle = "nothing is recorded: server.traces.start(), or app.start(record=True)"
        return "; ".join(filter(None, (note, "" if self.recording else idle)))

    def latest(self, after: int = 0, most: int = 100) -> tuple[int, list[Trace]]:
        """The number of all recorded traces, and the last ``most`` beyond the first ``after``, the oldest first.

        For repeated calls: only the traces that are returned are built. Does not wait.
        """
        return self._recorder.latest(after, most)

    def find(self, number: int) -> Trace:
        """The trace of an exchange by its id. An exchange under way, recorded or not, has a trace up to now.

        Raises KeyError.
        """
        self._settle()
        trace = self._recorder.find(number)
        if trace is None:
            snapshot = take_snapshot(self._server)
            for row in snapshot.exchanges:
                if row.id == number:
                    return so_far(row, snapshot.at, ShownTrace)
            raise KeyError(f"no trace of an exchange {number} is kept; newer ones may have replaced it")
        return trace

    def mark(self, trace: Trace, on: bool = True) -> None:
        """Mark the trace, for the filter ``~marked``; or remove the mark."""
        (self._recorder.marked.add if on else self._recorder.marked.discard)(trace.id)

    def follow(self, follower: Callable[[Trace], object]) -> Callable[[], None]:
        """Call ``follower`` on the server's loop with each finished trace. Returns a function that ends this.

        ``follower`` must not wait. If it raises, it is logged and removed.
        """
        self._recorder.follow(follower)
        return lambda: self._recorder.unfollow(follower)

    # Exports and replays.

    def chrome(self, which: Which = "") -> dict[str, Any]:
        """The traces that match, as Chrome trace events for ui.perfetto.dev. Raises FilterError."""
        from ...observe.export.chrome import to_chrome

        return to_chrome(self._chosen(which))

    def otel(self, which: Which = "", provider: Any = None) -> int:
        """Make OpenTelemetry spans of the traces that match. Returns their number. Raises FilterError, RuntimeError."""
        from ...observe.export.otel import to_otel

        return to_otel(self._chosen(which), provider)

    def curl(self, trace: Trace, *, secrets: bool = False) -> str:
        """The request as a command line of curl; secrets are masked unless ``secrets`` is true.

        Raises ReplayError for a trace of something else than an HTTP request.
        """
        from ...observe.export.replay import as_curl

        return as_curl(trace, secrets=secrets)

    def replay(self, trace: Trace, **options: Unpack[ReplayOptions]) -> Replayed:
        """Send a request again, to the listener that received it, with its secrets. Blocks; suspends a ``def`` handler.

        Keywords: method, target, headers, body change it first, as in ``Held.edit``; ``timeout`` is in seconds, 30 if
        not given. If it is recorded, its trace has this one's id as ``replay_of``.

        The exchange may be under way (``find``), if its request has been read to the end. Raises ReplayError, OSError,
        http.client.HTTPException; RuntimeError on the server's own loop, where it would wait for itself.
        """
        from ...hooks.suspension import await_
        from ...hooks.workers import in_worker

        if self._server.on_its_thread:
            if in_worker():
                return await_(self.areplay(trace, **options))
            raise RuntimeError("replay() would block this event loop; use: await server.traces.areplay(trace)")
        return self._resend(trace, options)

    async def areplay(self, trace: Trace, **options: Unpack[ReplayOptions]) -> Replayed:
        """``replay`` for async code, on any loop."""
        return await anyio.to_thread.run_sync(self._resend, trace, options)

    def _resend(self, trace: Trace, options: ReplayOptions) -> Replayed:
        from ...observe.export.replay import edited, resend

        changes: dict[str, Any] = {**options}
        timeout = changes.pop("timeout", 30)
        sent = edited(trace, changes) if changes else trace
        begun = monotonic()
        noted: list[Resent] = []

        def connected(address: str) -> None:
            noted.append(Resent(trace.id, address, sent.method, sent.raw_target, begun))
            self._recorder.resent += noted

        listeners = [one for one in view_of(self._server).listeners if one.protocol == "http"]
        mine = [one for one in listeners if one.name == trace.listener] or listeners
        try:
            return resend(sent, mine[0].address if mine else trace.dst, timeout, connected)
        finally:
            for one in noted:
                one.ended = monotonic()

    def _all(self) -> list[Trace]:
        self._settle()
        return self._recorder.traces()

    def _settle(self) -> None:
        """Give the loop a moment: a client may have its answer just before the loop records the end of the exchange."""
        done = threading.Event()
        if not self._server.on_its_thread and self._server.running and self._server.post(done.set):
            done.wait(PATIENCE)
