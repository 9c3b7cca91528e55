"""Snapshots, traces and steppers with the hooks by which a notebook shows them. The views are loaded when it does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any, SupportsIndex, overload

from ...observe.filters import And, Filter, Not, Or, Term
from ...observe.snapshot.snapshot import Snapshot
from ...observe.step.stepper import Stepper
from ...observe.trace.trace import Trace
from ..address import proxy_pattern

#: Some traces: by an expression, or one by one.
Which = str | Filter | Trace | Iterable[Trace]


class ShownSnapshot(Snapshot):
    """A snapshot that a notebook shows as tables."""

    __slots__ = ()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.html import snapshot_bundle

        return snapshot_bundle(self)


class ShownTrace(Trace):
    """A trace that a notebook shows as its waterfall."""

    __slots__ = ()

    def har(self, *, secrets: bool = False) -> dict[str, Any]:
        """A HAR 1.2 with this one entry, for ``json.dump``; secrets are masked unless ``secrets`` is true."""
        from ...observe.export.har import to_har

        return to_har([self], secrets=secrets)

    def curl(self, *, secrets: bool = False) -> str:
        """The request as a command line of curl; secrets are masked unless ``secrets`` is true.

        Raises ReplayError for a trace of something else than an HTTP request.
        """
        from ...observe.export.replay import as_curl

        return as_curl(self, secrets=secrets)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.svg.waterfall import waterfall_svg

        svg = waterfall_svg(self)
        return {"text/plain": repr(self), "image/svg+xml": svg, "text/html": svg}


class ShownTraces(list[Trace]):
    """A list of traces that a notebook shows as a table. A slice of it is shown in the same way."""

    @overload
    def __getitem__(self, at: SupportsIndex) -> Trace: ...
    @overload
    def __getitem__(self, at: slice) -> ShownTraces: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Trace | ShownTraces:
        try:
            found = super().__getitem__(at)
        except IndexError:
            raise IndexError(f"no trace {at}: there are {len(self)} here") from None
        return ShownTraces(found) if isinstance(found, list) else found

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.html import traces_bundle

        return traces_bundle(self)


class TraceList:
    """All recorded traces, the oldest first: the same for a server of this process and of another."""

    def _all(self) -> list[Trace]:
        raise NotImplementedError

    def _note(self) -> str:
        """A sentence to show below the table in a notebook, or ""."""
        return ""

    def __call__(self, expression: str | Filter) -> ShownTraces:
        """The traces that match. Raises FilterError."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> ShownTrace: ...
    @overload
    def __getitem__(self, at: slice) -> ShownTraces: ...
    def __getitem__(self, at: int | slice) -> ShownTrace | ShownTraces:
        traces = ShownTraces(self._all())
        try:
            found = traces[at]
        except IndexError:
            why = f"there are {len(traces)}" if traces else "there is none yet"
            raise IndexError("; ".join(filter(None, (f"no trace {at}: {why}", self._note())))) from None
        assert isinstance(found, ShownTrace | ShownTraces)
        return found

    def har(self, which: Which = "", *, secrets: bool = False) -> dict[str, Any]:
        """The traces that match, as a HAR 1.2 for a browser's network panel; ``json.dump`` writes it.

        Secrets are masked unless ``secrets`` is true; those of an isolated server always are. Raises FilterError.
        """
        from ...observe.export.har import to_har

        return to_har(self._chosen(which), secrets=secrets)

    def _chosen(self, which: Which) -> list[Trace]:
        if isinstance(which, Trace):
            return [which]
        if isinstance(which, str | Term | Not | And | Or):
            return self(which)
        return list(which)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.html import traces_bundle

        return traces_bundle(self._all(), self._note())


class ShownInPanel:
    """A stepper that a notebook shows with buttons. ``server`` is the name of the server that it steps."""

    server = ""
    _panel: Any = None

    def _ipython_display_(self) -> None:
        if self._panel is None or self._panel.closed:
            from ...notebook.step import StepPanel

            self._panel = StepPanel(self, self.server, proxy_pattern()[0])
        self._panel.show()


class ShownStepper(ShownInPanel, Stepper):
    """A stepper of a server in this process."""


def show_snapshot(snapshot: Snapshot) -> ShownSnapshot:
    """The snapshot, with its hooks for a notebook."""
    return ShownSnapshot(**{each.name: getattr(snapshot, each.name) for each in fields(snapshot)})


def show_traces(traces: Iterable[Trace]) -> ShownTraces:
    """Traces that came from another process, with their hooks for a notebook."""
    return ShownTraces(ShownTrace(**{each.name: getattr(one, each.name) for each in fields(one)}) for one in traces)
