"""A TOML document with the line of each key, which tomllib does not tell.

There is no grammar here: tomllib parses growing parts of the text. A statement ends with the first line up to which
tomllib can parse it. A key belongs to the first statement with which tomllib finds the key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Path = Sequence[str | int]


class TomlError(ValueError):
    """The text is not TOML. ``line`` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Document:
    """A parsed text; ``values`` is the result of tomllib. Raises TomlError."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._ends: list[int] | None = None
        self._known: dict[int, dict[str, Any]] = {}
        try:
            self.values = _loads(text)
        except ValueError as error:
            raise self._located(error) from None
        except RecursionError:
            raise TomlError(self._after_last(), "its values are nested too deeply") from None

    def line(self, path: Path) -> int:
        """The first line of the statement that holds the key; 1 if there is none."""
        ends = self._statements()
        low, high = 0, len(ends) - 1
        while low < high:  # bisect: if a part of the text has the key, each longer part has it
            middle = (low + high) // 2
            if _holds(self._beginning(ends[middle]), path):
                high = middle
            else:
                low = middle + 1
        return (ends[low - 1] if low else 0) + 1

    def _located(self, error: ValueError) -> TomlError:
        match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        if match is not None:
            return TomlError(int(match[2]), f"{match[1]} (column {match[3]})")
        return TomlError(self._after_last(), str(error).removesuffix(" (at end of document)"))

    def _after_last(self) -> int:
        """The first line of the statement that does not end."""
        ends = self._statements()
        return min((ends[-1] if ends else 0) + 1, len(self._lines))

    def _beginning(self, lines: int) -> dict[str, Any]:
        if lines not in self._known:
            self._known[lines] = _loads("\n".join(self._lines[:lines]))
        return self._known[lines]

    def _statements(self) -> list[int]:
        """The last line of each statement."""
        if self._ends is None:
            self._ends, begun = [], 0
            for count in range(1, len(self._lines) + 1):
                try:
                    _loads("\n".join(self._lines[begun:count]))
                except (ValueError, RecursionError):
                    continue
                self._ends.append(count)
                begun = count
        return self._ends


def _loads(text: str) -> dict[str, Any]:
    import tomllib  # takes 6 ms, needed only with a file

    return tomllib.loads(text)


def _holds(values: Any, path: Path) -> bool:
    for step in path:
        if isinstance(step, int):
            if not isinstance(values, list) or step >= len(values):
                return False
        elif not isinstance(values, dict) or step not in values:
            return False
        values = values[step]
    return True
