"""The live table of a server: requests under way and over, connections, upstreams; a row opened is all of an exchange.

Any thread may draw it, for it asks snapshots and traces, and no request pays for being watched but for its recording.
"""

from __future__ import annotations

from collections import deque
from html import escape
from threading import Lock
from time import monotonic
from typing import Any, Protocol

from ..control.client import Unreachable
from ..observe.filters import EVERYTHING, Filter, FilterError, parse
from ..observe.snapshot.snapshot import ExchangeState, Snapshot
from ..views.html import snapshot_bundle, traces_bundle
from .clicks import Wrong
from .exchange_page import exchange_html, growing_html, trace_html
from .panel import Bundle, Panel
from .table_rows import MOST, Cells, TableDrawer, TablePicture, describe, find_exchange, trace_cells

#: Of those that were finished between two looks, so many are shown: a person reads none of a thousand a second.
_NEW = 100
#: Rows of the frozen table of requests that are over.
_FROZEN = 20
#: Seconds between two drawings of one and the same, longer by that much.
_GROWS = 1.0


class LiveServer(Protocol):
    """The server, as this floor needs it."""

    @property
    def name(self) -> str: ...
    @property
    def public_url(self) -> str: ...
    @property
    def running(self) -> bool: ...
    @property
    def traces(self) -> Any: ...
    def snapshot(self) -> Snapshot: ...


class LiveTable(Panel):
    """``server.live()``; shows itself as a cell's last line. ``filter`` is an expression of the filter language."""

    kind = "live"

    def __init__(self, server: LiveServer, filter: str | Filter = "", pattern: str = "") -> None:
        """Raises FilterError."""
        super().__init__(pattern)
        self._server = server
        self._wanted = parse(filter)
        self._drawing = Lock()
        self._drawer = TableDrawer()
        self._over: deque[tuple[str, Cells]] = deque(maxlen=MOST)
        self._recorded = 0
        self._skipped = 0
        self._afresh = False
        self._opened = ""
        self._whole = ("", "")  # the last one that was over when it was shown: it changes no more
        self._growing = ("", 0.0, "")  # of one under way: what is said of it, when it was drawn, and all of it

    def __repr__(self) -> str:
        return f"<LiveTable of {self._server.name!r}, {'over' if self.over() else 'live'}>"

    @property
    def filter(self) -> str:
        """What is shown; set, the table changes. Raises FilterError."""
        return str(self._wanted)

    @filter.setter
    def filter(self, expression: str | Filter) -> None:
        self._wanted = parse(expression)
        self._afresh = True  # heeded by the thread that draws
        self.wake()

    def draw(self) -> LivePicture:
        with self._drawing:
            return self._draw()

    def _draw(self) -> LivePicture:
        snapshot = self._server.snapshot()
        self._look_at_traces()
        picture = self._drawer.draw(snapshot, list(self._over), self._wanted)
        picture.more["requests"] += self._skipped
        picture.about |= {
            "url": self._server.public_url,
            "filter": "" if self._wanted is EVERYTHING else self.filter,
            "recording": self._server.traces.recording,
        }
        return LivePicture(picture, self._opened, self._show(snapshot, self._opened) if self._opened else "")

    def _look_at_traces(self) -> None:
        """Those that have ended since the last look; the first time, and after a change of the filter, all."""
        if self._afresh:
            self._afresh = False
            self._over.clear()
            self._recorded = self._skipped = 0
        most = _NEW if self._recorded else MOST * 2
        total, new = self._server.traces.latest(self._recorded, most)
        self._skipped += max(total - self._recorded - len(new), 0) if self._recorded else 0
        self._recorded = total
        matches = self._wanted.matches
        self._over.extend([(str(one.id), trace_cells(one)) for one in new if matches(one)])

    def frozen(self) -> Bundle:
        """What a saved notebook shows: the last picture, and the newest traces."""
        try:
            bundle = snapshot_bundle(self._server.snapshot())
        except Unreachable:  # a process of its own that has ended
            last = self._frozen or {"text/plain": "", "text/html": ""}
            said = f"{self._server.name} has ended; before that"
            html = f"<p>{escape(said)}</p>\n{last['text/html']}"
            return {"text/plain": f"{said}\n{last['text/plain']}", "text/html": html}
        total, newest = self._server.traces.latest(0, _FROZEN)
        if newest:
            older = total - len(newest)
            shown = traces_bundle(newest, f"{older} older ones are not shown" if older else "")
            for kind, heading in (("text/plain", "\n\ntraces\n"), ("text/html", "<p><strong>traces</strong></p>\n")):
                bundle[kind] += heading + shown[kind]
        return bundle

    def over(self) -> bool:
        return not self._server.running

    def answer(self, what: str, given: dict[str, Any]) -> Any:
        """What the page asks: filter, open, hello. Raises Wrong."""
        if what == "filter":
            try:
                self.filter = str(given.get("filter", ""))
            except FilterError as error:
                raise Wrong(str(error)) from error
            return {"filter": self.filter if self._wanted is not EVERYTHING else ""}
        if what == "open":
            self._opened = str(given.get("key", ""))
            found = self._show(self._server.snapshot(), self._opened) if self._opened else ""
            if self._opened and not found:
                raise Wrong(f"request {self._opened} is not kept any more; newer ones have taken its place")
            return {"key": self._opened, "html": found}
        if what == "hello":
            return {}
        raise Wrong(f"a live table is not asked {what!r:.30}; it knows filter, open, hello")

    def _show(self, snapshot: Snapshot, key: str) -> str:
        """A request in full, as HTML; "" for what is not there any more."""
        known, shown = self._whole
        if known == key:
            return shown
        one = find_exchange(snapshot, key)
        if one is not None:
            return self._show_growing(exchange_html(one), one)
        try:
            shown = trace_html(self._server.traces.find(int(key)))
        except (KeyError, ValueError):
            return ""
        self._whole = (key, shown)
        return shown

    def _show_growing(self, said: str, one: ExchangeState) -> str:
        """With its waterfall up to now; drawn anew when something has happened, and else once a second."""
        known, drawn, shown = self._growing
        if said != known or monotonic() - drawn >= _GROWS:
            shown = f"{growing_html(one)}\n{said}"
            self._growing = (said, monotonic(), shown)
        return shown

    def _ipython_display_(self) -> None:
        self.show()


class LivePicture:
    """The tables, and what is opened."""

    def __init__(self, picture: TablePicture, key: str, html: str) -> None:
        self._picture = picture
        self._key = key
        self._html = html

    def since(self, before: LivePicture | None) -> dict[str, Any] | None:
        """What is new since ``before``, all of it if that is None; None if nothing is."""
        found = self._picture.since(None if before is None else before._picture)
        if before is None:
            return {**(found or {}), "columns": describe(), "opened": {"key": self._key, "html": self._html}}
        if self._html != before._html:
            found = {**(found or {}), "opened": {"key": self._key, "html": self._html}}
        return found
