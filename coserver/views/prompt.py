"""One line that a person types, at the bottom of a screen."""

from __future__ import annotations

from rich.text import Text


class Prompt:
    """``press`` takes keys; ``done`` when Enter was pressed, ``given_up`` when Escape."""

    def __init__(self, label: str, text: str = "", hint: str = "") -> None:
        self.label = label
        self.text = text
        self.hint = hint
        self.at = len(text)
        self.done = self.given_up = False

    def press(self, key: str) -> None:
        text, at = self.text, self.at
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

    def line(self, width: int) -> Text:
        """The line, its cursor in view."""
        room = max(width - len(self.label) - 3, 1)
        begin = max(0, self.at - room + 1)
        shown = self.text[begin : begin + room] + " "
        where = self.at - begin
        line = Text.assemble((f"{self.label} ", "bold cyan"), no_wrap=True, overflow="crop")
        line.append(shown[:where])
        line.append(shown[where], "reverse")
        line.append(shown[where + 1 :])
        if self.hint and not self.text:
            line.append(self.hint, "bright_black")
        return line
