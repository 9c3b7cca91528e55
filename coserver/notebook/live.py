"""The live table of a server: running and finished requests, connections, upstreams. An opened row shows an exchange.

It is drawn from snapshots and traces, by any thread. A request pays only for its recording.
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

#: Requests that are added in one drawing: nobody can read a thousand a second.
_NEW = 100
#: Rows of finished requests in the frozen table.
_FROZEN = 20
#: Seconds between two drawings of a running exchange without events.
_GROWS = 1.0


class LiveServer(Protocol):
    """The server, as the table needs it."""

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
    """A live table, made by ``server.live()``. It shows itself as a cell's last line.

    ``filter`` is an expression of the filter language.
    """

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
        self._whole = ("", "")  # id and HTML of the last finished exchange that was opened: it does not change
        self._growing = ("", 0.0, "")  # of the opened running exchange: its text, the time of its drawing, its HTML

    def __repr__(self) -> str:
        return f"<LiveTable of {self._server.name!r}, {'over' if self.over() else 'live'}>"

    @property
    def filter(self) -> str:
        """The filter. Setting it changes the table. Raises FilterError."""
        return str(self._wanted)

    @filter.setter
    def filter(self, expression: str | Filter) -> None:
        self._wanted = parse(expression)
        self._afresh = True  # for the drawing thread
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
        """Take the exchanges that ended since the last drawing; all of them at first and after a new filter."""
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
        """The table for a saved notebook: the last snapshot and the newest traces."""
        try:
            bundle = snapshot_bundle(self._server.snapshot())
        except Unreachable:  # an isolated server whose process has ended
            last = self._frozen or {"text/plain": "", "text/html": ""}
            said = f"{self._server.name} has ended; its last state"
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
        """Answer the page's questions: filter, open, hello. Raises Wrong."""
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
                raise Wrong(f"request {self._opened} is no longer kept: newer ones have replaced it")
            return {"key": self._opened, "html": found}
        if what == "hello":
            return {}
        raise Wrong(f"a live table has no question {what!r:.30}; it has filter, open, hello")

    def _show(self, snapshot: Snapshot, key: str) -> str:
        """A request in full, as HTML; "" if it no longer exists."""
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
        """A running request with its waterfall, drawn again after an event, else once a second."""
        known, drawn, shown = self._growing
        if said != known or monotonic() - drawn >= _GROWS:
            shown = f"{growing_html(one)}\n{said}"
            self._growing = (said, monotonic(), shown)
        return shown

    def _ipython_display_(self) -> None:
        self.show()


class LivePicture:
    """The tables, and the opened request."""

    def __init__(self, picture: TablePicture, key: str, html: str) -> None:
        self._picture = picture
        self._key = key
        self._html = html

    def since(self, before: LivePicture | None) -> dict[str, Any] | None:
        """The changes since ``before``, or everything if ``before`` is None; None without changes."""
        found = self._picture.since(None if before is None else before._picture)
        if before is None:
            return {**(found or {}), "columns": describe(), "opened": {"key": self._key, "html": self._html}}
        if self._html != before._html:
            found = {**(found or {}), "opened": {"key": self._key, "html": self._html}}
        return found
