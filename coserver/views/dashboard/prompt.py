"""One line that a person types, at the bottom of a screen."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text


class Prompt:
    """A line of input. ``press`` takes keys; Enter sets ``done``, Escape sets ``given_up``.

    A text that is there at the beginning is selected: the first character that is typed replaces it.
    ``wrong`` is the position of an error in the text, None if it is unknown.
    """

    def __init__(self, label: str, text: str = "", hint: str = "") -> None:
        self.label = label
        self.text = text
        self.hint = hint
        self.at = len(text)
        self.selected = bool(text)
        self.done = self.given_up = False
        self.wrong: int | None = None

    def press(self, key: str) -> None:
        """Take one key: its name, or the character that it types."""
        if self.selected and (len(key) == 1 or key in ("backspace", "delete", "ctrl-u", "ctrl-w")):
            self.text, self.at = "", 0
        self.selected = False
        text, at = self.text, self.at
        self.wrong = None
        if key == "enter":
            self.done = True
        elif key in ("escape", "ctrl-c"):
            self.given_up = True
        elif key == "backspace":
            self.text, self.at = text[: max(at - 1, 0)] + text[at:], max(at - 1, 0)
        elif key == "delete":
            self.text = text[:at] + text[at + 1 :]
        elif key == "ctrl-u":
            self.text, self.at = text[at:], 0
        elif key == "ctrl-w":
            kept = text[:at].rstrip().rpartition(" ")
            before = kept[0] + kept[1]
            self.text, self.at = before + text[at:], len(before)
        elif key in ("left", "right", "home", "end"):
            self.at = {"left": max(at - 1, 0), "right": min(at + 1, len(text)), "home": 0, "end": len(text)}[key]
        elif len(key) == 1:
            self.text, self.at = text[:at] + key + text[at:], at + 1

    def mend(self, at: int | None) -> None:
        """Go on typing after an error; the cursor goes to its position ``at``, if that is known."""
        self.done = False
        self.wrong = None if at is None else min(at, len(self.text))
        self.at = self.at if self.wrong is None else self.wrong

    def cell(self, at: int, width: int) -> int:
        """The column of the line at which the character ``at`` is shown."""
        return cell_len(self.label) + 1 + cell_len(self.text[self._begin(width) : at])

    def _begin(self, width: int) -> int:
        """The first shown character, so that the cursor is visible. A character is one or two cells wide."""
        room, begin = max(width - cell_len(self.label) - 3, 2), self.at
        while begin and cell_len(self.text[begin - 1 : self.at + 1]) <= room:
            begin -= 1
        return begin

    def line(self, width: int) -> Text:
        """The line as shown, with the cursor visible."""
        begin = self._begin(width)
        shown = self.text[begin : self.at + width] + " "
        where = self.at - begin
        line = Text.assemble((f"{self.label} ", "bold cyan"), no_wrap=True, overflow="crop")
        line.append(shown[:where], "black on cyan" if self.selected else "")
        line.append(shown[where], "reverse")
        line.append(shown[where + 1 :])
        if self.hint and not self.text:
            line.append(self.hint, "bright_black")
        return line
