"""The stepper as a notebook shows it: what is held, where in the life of a connection, what changed since, and buttons.

Each button is a method of the stepper; what is typed is read as ``coserver step`` reads it.
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

#: Of exchanges that went on, so many are remembered: what they looked like when they were held last.
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
    """One that is held: how it looks ``now``, how it looked ``then``, when it was held ``before``, at that phase.

    ``at`` is when it was held, in seconds since 1970.
    """

    id: int
    phase: str
    at: float
    before: str | None
    now: Facts
    then: Facts


class StepPanel(Panel):
    """``server.step()``, shown."""

    kind = "step"
    #: Seconds between two pushes: a click is to be seen at once.
    pause = 0.05
    looks = False

    def __init__(self, step: Any, server: str, pattern: str = "") -> None:
        """``step`` is a Stepper, or an isolated server's; ``server`` the name of the one that is stepped."""
        super().__init__(pattern)
        self.step = step
        self.server = server
        self._chosen: int | None = None
        self._seen_before: dict[tuple[int, int | None], Appearance] = {}
        step.watch(self.wake)

    def show(self) -> None:
        """Under the cell that runs. Of one that the same cell showed before, the stepper is closed: nobody sees it."""
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
        """What is held now, and the chosen one in full."""
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
        """How it was seen, and the names of what has changed since it was held before."""
        key = (held.connection, held.exchange.id)
        seen = self._seen_before.pop(key, None)
        if seen is None:
            seen = Appearance(held.id, held.phase, time() - held.seconds, None, now, now)
        elif seen.id != held.id:  # held anew: what was known last is how it looked then
            seen = Appearance(held.id, held.phase, time() - held.seconds, seen.phase, now, seen.now)
        seen.now = now
        self._seen_before[key] = seen
        while len(self._seen_before) > _REMEMBERED:
            del self._seen_before[next(iter(self._seen_before))]
        return seen, frozenset(name for name in now if seen.then.get(name) != now[name])

    def frozen(self) -> Bundle:
        """What a saved notebook shows: what was held last."""
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
        """What a button asks. Raises Wrong."""
        if what in ("hello", "choose"):
            if what == "choose":
                self._chosen = _number(given)
                self.wake()
            return {}
        if what not in (*ACTIONS, "close"):
            raise Wrong(f"a stepper is not asked {what!r:.30}; it knows {', '.join(ACTIONS)}, close")
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
    """Small enough to be sent whole."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def since(self, before: StepPicture | None) -> dict[str, Any] | None:
        return None if before is not None and before._found == self._found else self._found


def held_html(held: Held, shown: Mapping[str, Any], changed: frozenset[str]) -> str:
    """What is held, and marked what ``changed``, by names as ``_facts`` has them."""
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
    """What may change from one phase to the next, by name."""
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
