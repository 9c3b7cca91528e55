"""``coserver step``: a stepper for shells and scripts. Commands are lines; held exchanges are printed as they arrive.

Commands: ``next``, ``resume``, ``until response``, ``edit target=/x``, ``respond 503 'later'``, ``abort``, ``show``,
``list``, ``quit``; or their first letters, but for ``abort``. With ``json`` each printed line is a JSON object.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TextIO

from rich.console import Console

from ...control.client import Refused, StepStream, Unreachable
from ...control.edit_syntax import read_arguments, read_edit
from .. import held as view
from ..text import plain
from .line_input import LineInput

#: Each command, with its usage and its line in the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "next": ("next", "resume until the next phase"),
    "resume": ("resume [all]", "resume it, or all that is held"),
    "until": ("until PHASE", "resume until that phase"),
    "edit": ("edit target=/x Name:value body=… status=…", "change it; 'Name:' removes a field"),
    "respond": ("respond STATUS [BODY] [Name:value]", "answer without the handler"),
    "abort": ("abort", "reset its connection"),
    "show": ("show", "show it in full"),
    "list": ("list", "list all that is held"),
    "help": ("help", "show this help"),
    "quit": ("quit", "release all, and end"),
}


@dataclass(frozen=True, slots=True)
class StepOptions:
    """Options. ``once``: end when the first held exchange is released; ``asks``: a person types, so show a prompt."""

    json: bool = False
    once: bool = False
    asks: bool = False


class LineStepper:
    """Reads commands and prints their results. A command acts on the oldest held exchange, or on ``#id`` after it."""

    def __init__(self, step: StepStream, out: TextIO, options: StepOptions) -> None:
        self.step = step
        self.options = options
        self._out = out
        self._console = Console(file=out, highlight=False, soft_wrap=True, emoji=False)
        self._changed = threading.Condition()
        self._held: dict[int, dict[str, Any]] = {}
        self._seen: set[int] = set()
        self._let_go: set[int] = set()  # by commands of this stepper
        self._first: int | None = None
        self._lines: LineInput | None = None
        self._gone: Exception | None = None
        self._closing = False

    def run(self, lines: LineInput) -> None:
        """Run until the lines end. Raises Unreachable if the server is gone, or drains and so releases everything."""
        self._lines = lines
        reader = threading.Thread(target=self._follow, name="coserver step", daemon=True)
        reader.start()
        try:
            if self.options.once:
                self._wait_for(None)
            self._prompt()  # from now on, matching exchanges are held
            typed = iter(lines)
            for line in typed:
                if not self._do(line.strip()):
                    break
                if self.options.once and self._over():
                    lines.close()
                    self._tell_undone([line.strip() for line in typed])
                    break
                self._prompt()
        finally:
            self._closing = True
            self.step.close()
            reader.join(5)
        if self._gone is not None:
            raise self._gone

    def _follow(self) -> None:
        assert self._lines is not None
        try:
            for held in self.step.changes():
                with self._changed:
                    self._take(held)
                    self._changed.notify_all()
                if self.options.once and self._over():
                    self._lines.close()
            if not self._closing:
                raise Unreachable("the server is stopping: it has released all that was held")
        except Unreachable as error:
            if not self._closing:
                self._gone = error
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._gone is not None:
            self._over_prompt("\n")
            self._lines.close()

    def _take(self, held: Sequence[dict[str, Any]]) -> None:
        """Take all that is held now. Print new holds, and holds that ended without a command of this stepper."""
        now, before = monotonic(), self._held
        self._held = {
            one["id"]: {**one, "since": now - one["seconds"]} for one in held if one["id"] not in self._let_go
        }
        for one in before.values():
            if one["id"] not in self._held and one["id"] not in self._let_go:
                self._tell_gone(one, now - one["since"])
        for one in self._held.values():
            if one["id"] not in self._seen:
                self._seen.add(one["id"])
                self._first = self._first or one["id"]
                self._tell(one)

    def _tell(self, one: dict[str, Any]) -> None:
        if self.options.json:
            self._say({"held": _sent(one)})
            return
        self._over_prompt("\r")
        self._console.print(view.heading(one))
        self._prompt()

    def _tell_gone(self, one: dict[str, Any], seconds: float) -> None:
        limit = float(self.step.first["limit"])
        why = (
            f"its time limit of {limit:g} s passed"
            if seconds > limit - 0.5
            else "its client left, or another stepper released it"
        )
        if self.options.json:
            self._say({"gone": one["id"], "why": why})
            return
        self._over_prompt("\r")
        self._console.print(
            f"#{one['id']} {plain(one['title'])}  is no longer held: {why}", style="yellow", markup=False
        )
        self._prompt()

    def _over_prompt(self, how: str) -> None:
        """Leave the line of the prompt before other output."""
        if self.options.asks:
            self._out.write(how)

    def _prompt(self) -> None:
        if self.options.asks and not self._closing:
            self._out.write("step> ")
            self._out.flush()

    def _say(self, found: dict[str, Any]) -> None:
        self._out.write(json.dumps(found, ensure_ascii=False) + "\n")
        self._out.flush()

    def _do(self, line: str) -> bool:
        """Carry out one command; false to end."""
        if not line or line.startswith("#"):
            return True
        word, _, rest = line.partition(" ")
        name = next((each for each in COMMANDS if each.startswith(word)), None)
        if name == "quit":
            return False
        try:
            if word == "a":  # a means resume in top and in mitmproxy
                raise ValueError("'a' is resume in coserver top: write abort or resume in full")
            if name is None:
                raise ValueError(f"there is no command {word!r:.30}; the commands are {', '.join(COMMANDS)}")
            if name in _DO:
                _DO[name](self, rest.strip())
            else:
                self._act(name, rest.strip())
        except (ValueError, Refused) as error:
            self._complain(str(error))
        return self._gone is None

    def _tell_undone(self, lines: Sequence[str]) -> None:
        """Report lines that were not carried out, because ``once`` ended before them."""
        undone = [line for line in lines if line and not line.startswith("#") and line != "quit"]
        if undone:
            self._complain(f"--once ends with the first release, by next and until too; not done: "
                           f"{'; '.join(undone)}; leave out --once for more commands")  # fmt: skip

    def _complain(self, what: str) -> None:
        if self.options.json:
            self._say({"error": what})
        else:
            self._console.print(f"error: {what}", style="red", markup=False)

    def _wait_for(self, which: int | None) -> dict[str, Any]:
        """The hold that a command acts on. Raises ValueError if there is none, Unreachable."""
        with self._changed:
            if which is None:
                wanted = lambda: self._held or self._closing  # noqa: E731
                if not self._changed.wait_for(wanted, None if self.options.asks is False else 0.0) and not self._held:
                    raise ValueError("nothing is held")
            elif which not in self._held:
                raise ValueError(f"#{which} is not held")
            if self._gone is not None:
                raise self._gone
            if not self._held:
                raise ValueError("nothing is held, and the stepper is closed")
            return self._held[which] if which is not None else next(iter(self._held.values()))

    def _meant(self, rest: str) -> tuple[dict[str, Any], str]:
        word, _, more = rest.partition(" ")
        if word.startswith("#") and word[1:].isdigit():
            return self._wait_for(int(word[1:])), more.strip()
        return self._wait_for(None), rest

    def _over(self) -> bool:
        with self._changed:
            return self._first is not None and self._first not in self._held

    def _act(self, action: str, rest: str) -> None:
        """Do an action that releases. The next command acts on another hold, even before the stream reports this."""
        one, line = self._meant(rest)
        arguments = read_arguments(action, line)
        self._let_go.add(one["id"])  # first: the stream may be faster than the response
        try:
            self.step.do(action, one, **arguments)
        except BaseException:
            self._let_go.discard(one["id"])
            raise
        with self._changed:
            self._held.pop(one["id"], None)
        if self.options.json:
            self._say({"let_go": one["id"]})

    # The commands.

    def _resume(self, rest: str) -> None:
        if rest != "all":
            self._act("resume", rest)
            return
        with self._changed:
            held = list(self._held)
        self._let_go.update(held)
        self.step.resume_all()
        with self._changed:
            for one in held:
                self._held.pop(one, None)
        if self.options.json:
            self._say({"let_go": held})

    def _edit(self, rest: str) -> None:
        one, items = self._meant(rest)
        found = {**self.step.edit(one, **read_edit(items)), "since": one["since"]}
        with self._changed:
            if one["id"] in self._held:
                self._held[one["id"]] = found
        self._show_one(found)

    def _show(self, rest: str) -> None:
        self._show_one(self._meant(rest)[0])

    def _show_one(self, one: dict[str, Any]) -> None:
        if self.options.json:
            self._say({"held": _sent(one)})
        else:
            self._console.print(view.render(one))

    def _list(self, rest: str) -> None:
        with self._changed:
            held = list(self._held.values())
        if self.options.json:
            self._say({"list": [_sent(one) for one in held]})
        for one in () if self.options.json else held:
            self._console.print(view.heading(one))
        if not held and not self.options.json:
            self._console.print("nothing is held")

    def _help(self, rest: str) -> None:
        if self.options.json:
            self._say({"commands": dict(COMMANDS.values())})
            return
        self._console.print("A command acts on the oldest, or on the number after it: next #12", style="bright_black")
        for usage, about in COMMANDS.values():
            self._console.print(f"{usage:<42} {about}", markup=False)


def _sent(one: dict[str, Any]) -> dict[str, Any]:
    """A hold as the server sent it, with its seconds up to now."""
    found = {**one, "seconds": round(monotonic() - one["since"], 6)}
    del found["since"]
    return found


#: The commands that are more than an action.
_DO: dict[str, Callable[[LineStepper, str], None]] = {
    "resume": LineStepper._resume,
    "edit": LineStepper._edit,
    "show": LineStepper._show,
    "list": LineStepper._list,
    "help": LineStepper._help,
}
