"""The state of the dashboard: snapshot, held exchanges, traces, selection, filter. It does no I/O.

Nothing here waits. A key changes this state, or returns a Command that ``run`` or the Session carries out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from ...control.edit_syntax import read_edit, read_hold
from ...observe.filters import EVERYTHING, Filter, FilterError, needs_whole, parse
from ...observe.secrets import mask_target
from ...observe.snapshot.json_rows import read_exchange
from ...observe.snapshot.snapshot import ConnectionState, ExchangeState, Snapshot
from ...observe.trace.trace import SUBREQUEST, Message, Trace
from ..columns import Column
from ..live import VIEWS, ErrorGroup, error_groups, finished_row, has_failed
from .prompt import Prompt
from .rates import Rates

#: Finished exchanges that are kept.
TRACES_MAX = 1000
#: Seconds that a finished exchange stays among those under way.
STAYS = 4.0
#: Seconds without an answer after which the title says so.
SILENT = 2.0
TABLE, LOOK, HELP = "table", "look", "help"


@dataclass(frozen=True, slots=True)
class Command:
    """A request to the server: a key of ``session.COMMANDS``, and its arguments."""

    what: str
    given: Mapping[str, Any] = field(default_factory=dict)


class Dashboard:
    """The board. ``show`` methods bring new data, ``keys.press`` changes it, ``screen.lines`` draws it."""

    def __init__(self, filter: str = "") -> None:
        """Raises FilterError."""
        self.snapshot: Snapshot | None = None
        self.rates = Rates()
        self.traces: list[Trace] = []
        self.following = False
        self.view = VIEWS["exchanges"]
        self.filter: Filter = parse(filter)
        #: For a filter by fields or bodies: the ids of matching exchanges, from the server.
        self.matching: tuple[Filter, frozenset[int]] | None = None
        self.sorted: dict[str, tuple[str, bool]] = {
            "exchanges": ("time", True), "traces": ("id", True), "errors": ("count", True),
        }  # fmt: skip
        #: The id of the chosen row. None before a choice: the first held row, or the first.
        self.selected: int | None = None
        self.place = 0  # index of that row; if it is gone, the row at this index is selected
        self.first = 0  # the first row that is visible
        self.page = 10  # how many rows are visible; set when they are drawn
        self.paused = False
        self._frozen: list[Trace] = []  # the traces shown while paused; new ones are kept too
        self.marked: set[int] = set()
        self.searched = ""  # the text of the last search
        self.hold = ""  # the filter and phases of the hold, as typed
        self.hold_before = ""  # the same of a hold that ended with its process
        self.others: list[tuple[str, str]] = []  # what other clients of the control hold, and who they are
        self.held: dict[int, dict[str, Any]] = {}
        self.leaving: set[int] = set()  # released from here; other releases are reported
        self._held_exchanges: dict[int, dict[str, Any]] = {}  # by exchange id, the oldest hold of each
        self._held_connections: dict[int, dict[str, Any]] = {}
        self.mode = TABLE
        #: The object that is shown in full; a str is a curl command.
        self.looked: Trace | dict[str, Any] | ExchangeState | ConnectionState | str | None = None
        self.request: Message | None = None  # of the shown exchange, while it still runs
        self.over = False  # the shown exchange has ended meanwhile
        self.scroll = 0
        self.below = 0  # lines below the screen; set when they are drawn
        self.prompt: Prompt | None = None
        self._then: Callable[[str], Command | None] | None = None
        self.note, self.wrong = "", False
        self.draft: tuple[int, str] | None = None  # the id and the edited text, until the edit is accepted
        self.gone = False  # the server cannot be reached
        self.asked: float | None = None  # when the question under way was sent, monotonic
        self.quits = "quit"  # what q does, for the bottom line
        self.other_held: list[dict[str, Any]] = []  # what other steppers hold, each with ``by``
        self._arrived: dict[int, float] = {}  # by id, when a finished exchange came
        self._paused_at = 0.0
        self._was_silent = False
        self.depths: dict[int, int] = {}  # by id, of exchanges that another exchange asked for
        self.ended = False

    # New data.

    def show(self, snapshot: Snapshot) -> None:
        """Take a new snapshot."""
        if self.gone or self._was_silent:
            self.say("it answers again")
        self.gone = self._was_silent = False
        self.rates.add(snapshot)
        if self.snapshot is not None and snapshot.pid != self.snapshot.pid:
            self._arrived.clear()
            self.traces.clear()  # another process has other ids
            self.marked.clear()
        if not self.paused or self.snapshot is None:
            self.snapshot = snapshot
            if isinstance(self.looked, ExchangeState):
                now = [one for one in snapshot.exchanges if one.id == self.looked.id]
                self.looked, self.over = now[0] if now else self.looked, not now

    def show_held(self, held: Sequence[dict[str, Any]]) -> None:
        """Take all that is held now."""
        now, before = monotonic(), self.held
        self.held = {one["id"]: {**one, "since": now - one["seconds"]} for one in held}
        gone = [one["title"] for one in before.values() if one["id"] not in self.held and one["id"] not in self.leaving]
        if gone:
            more = f" and {len(gone) - 1} more are" if len(gone) > 1 else " is"
            self.say(
                f"{mask_target(gone[0])}{more} no longer held: the client left, or the hold's time limit passed",
                wrong=True,
            )
        self.leaving &= self.held.keys()
        oldest_last = list(self.held.values())[::-1]
        self._held_exchanges = {one["exchange"]["id"]: one for one in oldest_last}
        self._held_connections = {one["connection"]: one for one in oldest_last}
        if isinstance(self.looked, dict):
            self.looked = self.held_now(self.looked) or {**self.looked, "held": False}

    def held_now(self, looked: Mapping[str, Any]) -> dict[str, Any] | None:
        """The current hold of the same exchange: in the next phase it has a new id."""
        if "by" in looked:
            return None  # it is held by another
        if looked["id"] in self.held:
            return self.held[looked["id"]]
        same = [
            one for one in self.held.values()
            if (one["connection"], one["exchange"]["id"]) == (looked["connection"], looked["exchange"]["id"])
        ]  # fmt: skip
        return same[0] if same else None

    def show_trace(self, trace: Trace, *, before: bool = False) -> None:
        """Take a finished exchange; one that finished ``before`` this dashboard was there is only among the traces."""
        self.traces.append(trace)
        if not before:
            self._arrived[trace.id] = monotonic()
        if len(self.traces) > TRACES_MAX:
            at = next((at for at, one in enumerate(self.traces) if not self._is_kept(one)), 0)
            self._arrived.pop(self.traces.pop(at).id, None)
        if not self.paused and isinstance(self.looked, ExchangeState) and self.looked.id == trace.id:
            self.looked = trace

    def _is_kept(self, trace: Trace) -> bool:
        """Whether it gives way last: it is marked, it failed, or it was held."""
        return trace.marked or trace.id in self.marked or has_failed(trace) or trace.held_seconds > 0

    @property
    def silent(self) -> float:
        """Seconds for which the server has owed an answer, 0 below SILENT."""
        asked = self.asked
        seconds = monotonic() - asked if asked is not None else 0.0
        if seconds < SILENT:
            return 0.0
        self._was_silent = True
        return seconds

    def finished(self) -> list[Trace]:
        """The exchanges that finished a moment ago, the newest first."""
        now = self._paused_at if self.paused else monotonic()
        traces = self._frozen if self.paused else self.traces
        busy = {one.id for one in self.snapshot.exchanges} if self.snapshot is not None else set()
        found = []
        for one in reversed(traces):
            if now - self._arrived.get(one.id, 0.0) > STAYS:
                break
            if one.id not in busy:
                found.append(one)
        return found

    def error_rate(self, seconds: float = 10.0) -> float | None:
        """The part of the requests of the last seconds that failed, None without requests."""
        since, count, failed = monotonic() - seconds, 0, 0
        for one in reversed(self.traces):
            if self._arrived.get(one.id, 0.0) < since:
                break
            count += 1
            failed += has_failed(one)
        return failed / count if count else None

    def pause(self) -> None:
        """Pause the display, or continue with all data that came meanwhile."""
        self.paused = not self.paused
        self._paused_at = monotonic()
        self._frozen = list(self.traces)

    def say(self, note: str, *, wrong: bool = False) -> None:
        self.note, self.wrong = note, wrong

    # The display.

    def rows(self) -> list[Any]:
        """The matching rows of the view, sorted."""
        if self.view.name == "held":
            rows: list[Any] = [*self.held.values(), *self.other_held]
        elif self.view.name == "errors":
            traces = self._frozen if self.paused else self.traces
            rows = list(error_groups([one for one in traces if self.filter is EVERYTHING or self._matches(one)]))
        elif self.view.name == "traces":
            traces = self._frozen if self.paused else self.traces
            rows = [replace(one, marked=one.marked or one.id in self.marked) for one in traces]
        else:
            rows = list(self.view.rows(self.snapshot)) if self.snapshot is not None else []
        if self.filter is not EVERYTHING and self.view.name != "errors":
            rows = [row for row in rows if self._matches(row)]
        heading, down = self.sorted.get(self.view.name, (self.view.columns[0].heading, False))
        column = next((one for one in self.view.columns if one.heading == heading), None)
        if column is not None:
            rows.sort(key=column.key, reverse=down)
        if self.view.name == "exchanges":
            rows += [one for one in self.finished() if self.filter is EVERYTHING or self._matches(one)]
        if self.view.name in ("exchanges", "traces"):
            rows, self.depths = as_tree(rows, self.snapshot.at if self.snapshot is not None else 0.0)
        return rows

    def search(self, text: str) -> None:
        """Choose the next row that has ``text`` in a cell."""
        rows, wanted = self.rows(), text.lower()
        self.searched = text
        at = self.at(rows)
        for row in [*rows[at + 1 :], *rows[: at + 1]]:
            cells = [column.cell(shown_row(row, self.view.name)) for column in self.view.columns]
            if any(wanted in (cell if isinstance(cell, str) else cell[0]).lower() for cell in cells):
                self.selected = number_of(row)
                return
        self.say(f"no row has {text!r:.60}", wrong=True)

    def sort_by(self, text: str) -> None:
        """Sort by a column: its number, or the beginning of its heading; again reverses. Raises ValueError."""
        names = [one.heading for one in self.view.columns if one.heading]
        found = [name for name in names if name.startswith(text)] if not text.isdigit() else names[int(text) - 1 :][:1]
        if not text or not found or text == "0":
            told = "  ".join(f"{number} {name}" for number, name in enumerate(names, 1))
            raise ValueError(f"a column is its number or its name: {told}; got {text!r:.30}")
        heading, down = self.sorted.get(self.view.name, (names[0], False))
        self.sorted[self.view.name] = (found[0], not down if heading == found[0] else False)

    def _matches(self, row: Any) -> bool:
        subject = oldest_exchange(row)
        if isinstance(row, dict):
            subject = read_exchange(row["exchange"])
        if not isinstance(subject, ExchangeState | Trace):
            return isinstance(row, tuple)  # an idle connection never matches; members always do
        if needs_whole(self.filter):
            return self.matching is not None and not self.asks and subject.id in self.matching[1]
        if subject.id in self.marked:
            subject = replace(subject, marked=True)
        try:
            return self.filter.matches(subject)
        except FilterError as error:  # the filter takes too long
            self.say(error.reason, wrong=True)
            self.filter = EVERYTHING
            return True

    @property
    def asks(self) -> bool:
        """Whether the matches of the filter are not known yet."""
        return needs_whole(self.filter) and (self.matching is None or self.matching[0] is not self.filter)

    def at(self, rows: Sequence[Any]) -> int:
        """The index of the selected row; if it is gone, of the row in its place."""
        if self.selected is None:
            if not self.held:
                return 0
            return next((at for at, row in enumerate(rows) if self.held_of(row) is not None), 0)
        found = next((at for at, row in enumerate(rows) if number_of(row) == self.selected), None)
        if found is None and rows:
            found = min(self.place, len(rows) - 1)
            self.selected = number_of(rows[found])
        self.place = found or 0
        return self.place

    def held_of(self, row: Any) -> dict[str, Any] | None:
        """The hold of a row, the oldest of several; None if it is not held."""
        if isinstance(row, dict):
            return self.held_now(row)
        if isinstance(row, ConnectionState):
            return self._held_connections.get(row.id)
        return self._held_exchanges.get(row.id) if isinstance(row, ExchangeState) else None

    def current(self) -> Any:
        """The selected row, None if there is none."""
        rows = self.rows()
        return rows[self.at(rows)] if rows else None

    def current_held(self) -> dict[str, Any] | None:
        """The hold of the selected row, or of the exchange shown in full. Keys act on no other one.

        Before a row is chosen it is the oldest hold, which the snapshot may not show yet.
        """
        if self.mode == LOOK:
            return self.held_of(self.looked)
        untouched = self.selected is None and self.view.name in ("exchanges", "connections")
        return self.held_of(self.current()) or (next(iter(self.held.values()), None) if untouched else None)

    def look(self, what: Trace | dict[str, Any] | ExchangeState | ConnectionState | str) -> None:
        """Show an object in full."""
        self.mode, self.scroll = LOOK, 0
        self.looked, self.request, self.over = what, None, False

    def leave(self) -> None:
        """Go back to the table; from the help to the object that was shown."""
        if self.mode == HELP and self.looked is not None:
            self.mode, self.scroll = LOOK, 0
            return
        self.mode, self.scroll = TABLE, 0
        self.looked = self.request = None

    # Keys.

    def ask(self, prompt: Prompt, then: Callable[[str], Command | None]) -> None:
        """Ask for a line of input; ``then`` gets it."""
        self.prompt, self._then = prompt, then

    def type(self, prompt: Prompt, key: str) -> Command | None:
        """Take one key for the prompt."""
        prompt.press(key)
        self.note = ""
        if prompt.given_up:
            self.prompt = None
            return None
        if not prompt.done:
            return None
        then, self.prompt = self._then, None
        assert then is not None
        try:
            return then(prompt.text.strip())
        except FilterError as error:
            self.say(error.reason, wrong=True)
            prompt.mend(len(prompt.text) - len(prompt.text.lstrip()) + error.column - 1)
        except ValueError as error:
            self.say(str(error).splitlines()[0], wrong=True)
            prompt.mend(None)
        self.prompt = prompt  # to be corrected
        return None

    def set_filter(self, text: str) -> None:
        """Raises FilterError."""
        self.filter = parse(text)
        self.first = 0

    def set_hold(self, text: str) -> Command:
        """Hold ``~u /x @handler``; an empty text releases everything. Raises FilterError, ValueError."""
        if not text:
            return Command("release")
        filter, at = read_hold("" if text == "." else text)
        parse(filter)
        return Command("hold", {"filter": filter, "at": at, "text": f"{filter or 'all'} @{','.join(at)}"})

    def set_edit(self, which: int, text: str) -> Command:
        """Raises ValueError."""
        return Command("edit", {"which": which, "changes": read_edit(text)})

    def move(self, by: int) -> None:
        """Move the selection, or scroll."""
        if self.mode != TABLE:
            self.scroll = max(0, self.scroll + by)
            return
        rows = self.rows()
        if rows:
            at = self.place = max(0, min(len(rows) - 1, self.at(rows) + by))
            # At the top of the traces, keep the newest one selected.
            self.selected = number_of(rows[at]) if at or self.view.name != "traces" else None

    def next_sorting(self) -> None:
        """Sort the other way, then by the next column."""
        columns: tuple[Column, ...] = self.view.columns
        names = [one.heading for one in columns if one.heading]
        heading, down = self.sorted.get(self.view.name, (names[0], False))
        at = names.index(heading) if heading in names else 0
        self.sorted[self.view.name] = (heading, True) if not down else (names[(at + 1) % len(names)], False)


def number_of(row: Any) -> int:
    """The id of a row."""
    if isinstance(row, dict):
        return int(row["id"])
    return int(row.id) if hasattr(row, "id") else hash((row[0].name, row[1].address))


def oldest_exchange(row: Any) -> Any:
    """The exchange that a row of connections stands for: the oldest, None without any. Another row is its own."""
    if isinstance(row, ErrorGroup):
        return row.last
    if not isinstance(row, ConnectionState):
        return row
    return row.exchanges[0] if row.exchanges else None


def shown_row(row: Any, view: str) -> Any:
    """The row that the columns of a view take: among exchanges a finished one looks as one under way."""
    return finished_row(row) if isinstance(row, Trace) and view == "exchanges" else row


def as_tree(rows: list[Any], now: float) -> tuple[list[Any], dict[int, int]]:
    """The rows, each exchange that another one asked for below that one; and their depths by id.

    ``now`` is the time of the snapshot in seconds since 1970. A subrequest and an exchange belong together if method,
    target and port are the same, and the exchange began while the subrequest ran.
    """
    asked: dict[tuple[str, str, str], list[tuple[float, float, int]]] = {}
    for row in rows:
        for key, begin, end in _subrequests_of(row, now):
            asked.setdefault(key, []).append((begin, end, row.id))
    if not asked:
        return rows, {}
    below: dict[int, list[Any]] = {}
    depths: dict[int, int] = {}
    for row in rows:
        began = row.at if isinstance(row, Trace) else now - row.seconds
        target = row.target if isinstance(row, Trace) else mask_target(row.target)
        candidates = asked.get((row.method, target, row.dst.rpartition(":")[2]), [])
        fits = [one for one in candidates if one[2] != row.id and one[0] - 0.02 <= began <= one[1] + 0.02]
        if fits:
            nearest = min(fits, key=lambda one: abs(one[0] - began))
            candidates.remove(nearest)
            below.setdefault(nearest[2], []).append(row)
            depths[row.id] = 1
    found: list[Any] = []

    def add(row: Any, depth: int) -> None:
        found.append(row)
        if depth:
            depths[row.id] = depth
        for child in below.pop(row.id, ()):
            add(child, depth + 1)

    for row in rows:
        if row.id not in depths:
            add(row, 0)
    for left in list(below.values()):  # rows that ask each other in a circle: wrong guesses
        found += left
    return found, depths


def _subrequests_of(row: Any, now: float) -> list[tuple[tuple[str, str, str], float, float]]:
    """Method, target and port of each subrequest, and its begin and end in seconds since 1970."""
    if isinstance(row, Trace):
        spans = [(span, span.name.partition(" "), span.detail) for span in row.spans if span.kind == SUBREQUEST]
        return [
            ((name[0], name[2], detail.rpartition(":")[2]), row.at + span.start, row.at + span.end)
            for span, name, detail in spans
        ]
    began = now - row.seconds
    return [
        ((sub.method, mask_target(sub.target), sub.member.rpartition(":")[2]), began + sub.start,
         began + sub.start + sub.seconds)
        for sub in row.subrequests
    ]  # fmt: skip
