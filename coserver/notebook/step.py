"""The stepper in a notebook: held exchanges, the phase, changes since the last hold, and a button for each action.

Typed text is read as ``coserver step`` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from time import time
from typing import Any
from weakref import WeakSet

from ..control.edit_syntax import read_arguments
from ..lifecycle.order import HOLDABLE
from ..observe.secrets import mask_target
from ..observe.step.actions import ACTIONS
from ..observe.step.held import Held, NotHeld
from ..views.columns import Column, View
from ..views.html import lines, table
from ..views.svg.lifecycle import lifecycle_svg
from ..views.text import plain
from .clicks import Wrong
from .exchange_page import facts_html, held_message, message_html, subrequests_html
from .panel import Bundle, Panel

#: Exchanges whose last look is remembered after a release.
_REMEMBERED = 50

Facts = dict[str, str]


def _title(held: Held) -> str:
    return plain(mask_target(held.title))


HELD = View(
    "held",
    (
        Column("id", 6, lambda row: str(row.id), lambda row: row.id, right=True),
        Column("what", 0, _title, lambda row: row.id),
        Column("held at", 12, lambda row: row.phase, lambda row: row.phase),
    ),
    lambda snapshot: (),
    "nothing is held",
)


@dataclass(slots=True)
class Appearance:
    """The look of a held exchange: its facts ``now``, and ``then``, in the hold before, at the phase ``before``.

    ``at`` is the start of the hold, in seconds since 1970.
    """

    id: int
    phase: str
    at: float
    before: str | None
    now: Facts
    then: Facts


class StepPanel(Panel):
    """The panel of ``server.step()``."""

    kind = "step"
    #: Seconds between two pushes: short, so that a click shows at once.
    pause = 0.05
    looks = False

    def __init__(self, step: Any, server: str, pattern: str = "") -> None:
        """``step`` is a Stepper, of this process or of an isolated server; ``server`` is the server's name."""
        super().__init__(pattern)
        self.step = step
        self.server = server
        self._chosen: int | None = None
        self._seen_before: dict[tuple[int, int | None], Appearance] = {}
        step.watch(self.wake)

    def show(self) -> None:
        """Show it under the running cell. The stepper of the same cell's last run is closed: it is not visible."""
        for other in list(_shown):
            if other is not self and other._same() == self._same():
                other.step.close()
        _shown.add(self)
        super().show()

    def __repr__(self) -> str:
        return f"<StepPanel of {self.step!r}>"

    def _same(self) -> tuple[Any, ...]:
        return self.server, self.step.filter, self.step.at

    def draw(self) -> StepPicture:
        """All that is held now, and the chosen hold in full."""
        waiting = self.step.waiting
        chosen = next((one for one in waiting if one.id == self._chosen), waiting[0] if waiting else None)
        found: dict[str, Any] = {
            "filter": str(self.step.filter),
            "at_phases": sorted(self.step.at),
            "phases": list(HOLDABLE),
            "held": [{"id": one.id, "title": _title(one), "phase": one.phase} for one in waiting],
        }
        if chosen is None:
            found |= {"chosen": None, "phase": "", "began": 0, "svg": lifecycle_svg(), "html": ""}
        else:
            shown = chosen.as_dict()
            seen, changed = self._compare(chosen, _facts(shown))
            found |= {"chosen": chosen.id, "phase": chosen.phase, "began": seen.at}
            found |= {"svg": lifecycle_svg(chosen.phase, seen.before), "html": held_html(chosen, shown, changed)}
        return StepPicture(found)

    def _compare(self, held: Held, now: Facts) -> tuple[Appearance, frozenset[str]]:
        """The look of a hold, and the names of the facts that changed since the hold before."""
        key = (held.connection, held.exchange.id)
        seen = self._seen_before.pop(key, None)
        if seen is None:
            seen = Appearance(held.id, held.phase, time() - held.seconds, None, now, now)
        elif seen.id != held.id:  # a new hold: the last facts become ``then``
            seen = Appearance(held.id, held.phase, time() - held.seconds, seen.phase, now, seen.now)
        seen.now = now
        self._seen_before[key] = seen
        while len(self._seen_before) > _REMEMBERED:
            del self._seen_before[next(iter(self._seen_before))]
        return seen, frozenset(name for name in now if seen.then.get(name) != now[name])

    def frozen(self) -> Bundle:
        """The table for a saved notebook: what was held last."""
        about, rows = plain(repr(self.step)), self.step.waiting
        return {
            "text/plain": f"{about}\n{lines(HELD, rows)}",
            "text/html": f"<p><strong>{escape(about)}</strong></p>\n{table(HELD, rows)}",
        }

    def over(self) -> bool:
        return bool(self.step.closed)

    def ended(self) -> None:
        self.step.unwatch(self.wake)

    def answer(self, what: str, given: dict[str, Any]) -> Any:
        """Carry out a button. Raises Wrong."""
        if what in ("hello", "choose"):
            if what == "choose":
                self._chosen = _number(given)
                self.wake()
            return {}
        if what not in (*ACTIONS, "close"):
            raise Wrong(f"a stepper has no question {what!r:.30}; it has {', '.join(ACTIONS)}, close")
        try:
            if what == "close":
                self.step.close()
            else:
                self.step.do(what, _number(given), **read_arguments(what, str(given.get("line", ""))))
        except (ValueError, TypeError, NotHeld) as error:
            raise Wrong(str(error)) from error
        self.wake()
        return {}


_shown: WeakSet[StepPanel] = WeakSet()


class StepPicture:
    """The panel's content; small enough to be sent as a whole."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def since(self, before: StepPicture | None) -> dict[str, Any] | None:
        return None if before is not None and before._found == self._found else self._found


def held_html(held: Held, shown: Mapping[str, Any], changed: frozenset[str]) -> str:
    """A held exchange as HTML; facts named in ``changed`` are marked."""
    exchange, request, response = held.exchange, shown["request"], shown["response"]
    facts = [
        ("exchange", f"{exchange.id} on connection {held.connection}, {exchange.src} → {exchange.dst}"),
        ("handler", f"{exchange.handler} on {exchange.route}" if exchange.route else exchange.handler),
    ]
    parts = [facts_html(facts, changed)]
    if exchange.subrequests:
        parts.append(subrequests_html(exchange.subrequests))
    if request["method"] or (request["body"] and request["body"]["size"]):
        line = f"{request['method']} {mask_target(request['target'])}" if request["method"] else "message"
        parts.append(message_html("→", line, held_message(request), _of(changed, "request")))
    if response is not None:
        line = str(response["status"] or "answer")
        parts.append(message_html("←", line, held_message(response), _of(changed, "response")))
    return "\n".join(parts)


def _facts(shown: Mapping[str, Any]) -> Facts:
    """The facts that may change between two phases, by name."""
    found = {"handler": shown["exchange"]["handler"]}
    for which in ("request", "response"):
        message = shown[which]
        if message is not None:
            found[f"{which} line"] = f"{message.get('method')} {message.get('target')} {message.get('status')}"
            found[f"{which} body"] = repr(message["body"])
            found |= {f"{which} {name}": value for name, value in message["headers"]}
    return found


def _of(changed: frozenset[str], which: str) -> frozenset[str]:
    return frozenset(name.removeprefix(f"{which} ") for name in changed if name.startswith(f"{which} "))


def _number(given: Mapping[str, Any]) -> int | None:
    held = given.get("held")
    return held if isinstance(held, int) else None
