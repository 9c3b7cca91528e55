"""What a running server hands out, with the hooks by which a notebook shows it; the views are loaded only then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, SupportsIndex, overload

from ...observe.snapshot.snapshot import Snapshot
from ...observe.step.stepper import Stepper
from ...observe.trace.trace import Trace
from ..address import proxy_pattern


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
        """As a HAR 1.2 of one entry, secrets masked; ``json.dump`` writes it."""
        from ...observe.export.har import to_har

        return to_har([self], secrets=secrets)

    def curl(self, *, secrets: bool = False) -> str:
        """The request as a command line of curl, secrets masked. Raises ReplayError for what is no HTTP request."""
        from ...observe.export.replay import as_curl

        return as_curl(self, secrets=secrets)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.svg.waterfall import waterfall_svg

        svg = waterfall_svg(self)
        return {"text/plain": repr(self), "image/svg+xml": svg, "text/html": svg}


class ShownTraces(list[Trace]):
    """Some traces, a list that a notebook shows as a table; so are the first ten of it."""

    @overload
    def __getitem__(self, at: SupportsIndex) -> Trace: ...
    @overload
    def __getitem__(self, at: slice) -> ShownTraces: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Trace | ShownTraces:
        found = super().__getitem__(at)
        return ShownTraces(found) if isinstance(found, list) else found

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.html import traces_bundle

        return traces_bundle(self)


class ShownStepper(Stepper):
    """A stepper that a notebook shows with buttons."""

    _panel: Any = None
    server = ""

    def _ipython_display_(self) -> None:
        if self._panel is None or self._panel.closed:
            from ...notebook.step import StepPanel

            self._panel = StepPanel(self, self.server, proxy_pattern()[0])
        self._panel.show()


def show_snapshot(snapshot: Snapshot) -> ShownSnapshot:
    return ShownSnapshot(**{each.name: getattr(snapshot, each.name) for each in fields(snapshot)})


def show_traces(traces: Iterable[Trace]) -> ShownTraces:
    """Those that came from another process, say."""
    return ShownTraces(ShownTrace(**{each.name: getattr(one, each.name) for each in fields(one)}) for one in traces)
