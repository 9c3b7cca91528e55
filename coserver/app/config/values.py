"""Values as people write them: "10 MiB", "30s", "off", "a,b". Nothing else parses them.

The configuration file, the environment and the flags use these parsers. They check the form of a value alone; its range
(at least 1, at most 65535) is checked by the dataclass that has the field.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

_MEASURE = re.compile(r"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_WHOLE = re.compile(r"-?[0-9]+(?:_[0-9]+)*")
_REFERENCE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")

#: Powers of 1024. KB and MB are refused: to some they are powers of 1000.
SIZES = {"": 1, "b": 1, **{u + i: 1024**n for n, u in enumerate("kmgt", 1) for i in ("", "ib")}}
SECONDS = {"": Fraction(1), "ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
_ON = ("1", "true", "yes", "on")
_OFF = ("0", "false", "no", "off")
#: Characters of a size or a time at most. Python itself converts at most 4300 digits.
_LONGEST = 40


class _Unfit(ValueError):
    """The value has another form. The message is made from the kind's rule."""


@dataclass(frozen=True)
class Kind:
    """One form of values: its name in a table, its rule, its parsers for text and for TOML, and its metavar."""

    name: str
    rule: str
    of_text: Callable[[str], Any]
    of_toml: Callable[[Any], Any]
    metavar: str

    def text(self, written: str) -> Any:
        """Parse the text of an environment variable or a flag. Raises ValueError."""
        return self._read(self.of_text, written)

    def toml(self, written: Any) -> Any:
        """Convert the value of a TOML key. Raises ValueError."""
        return self._read(self.of_toml, written)

    def _read(self, reader: Callable[[Any], Any], written: Any) -> Any:
        try:
            return reader(written)
        except ValueError as error:
            raise ValueError(str(error) or f"must be {self.rule}; got {shown(written)}") from None


def shown(written: Any) -> str:
    """A value for a message: its repr, or true or false for a switch, cut to one line."""
    if isinstance(written, bool):
        return str(written).lower()
    try:
        text = repr(written)
    except (ValueError, RecursionError):  # an int of more than 4300 digits, a table too deep
        return f"a {type(written).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def size(text: str) -> int:
    """Bytes: ``65536``, ``64k``, ``10 MiB``, ``1.5G``. Raises ValueError."""
    match = _MEASURE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        return whole(text)
    number, unit = Fraction(match[1]), match[2].lower()
    if unit in ("kb", "mb", "gb", "tb"):
        raise ValueError(f"must not be in {unit.upper()}, 1000 to some: write {unit[0].upper()}iB; got {text!r}")
    if unit not in SIZES:
        raise _Unfit
    count = number * SIZES[unit]
    if count.denominator != 1:
        raise ValueError(f"must be a whole number of bytes; got {text!r}")
    return int(count)


def seconds(text: str) -> float:
    """Seconds: ``30``, ``0.5``, ``30s``, ``500ms``, ``5m``, ``1h``, and ``inf`` for never. Raises ValueError."""
    if text.strip().lower() == "inf":
        return math.inf
    match = _MEASURE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        if re.fullmatch(r"-[0-9.]{1,30}", text.strip()):
            return float(text)  # a negative number: the dataclass has the better message
        raise _Unfit
    if match[2].lower() not in SECONDS:
        raise _Unfit
    return float(Fraction(match[1]) * SECONDS[match[2].lower()])


def whole(text: str) -> int:
    if len(text) > _LONGEST or not _WHOLE.fullmatch(text.strip()):
        raise _Unfit
    return int(text)


def switch(text: str) -> bool:
    """``1 true yes on`` or ``0 false no off``, in any case. Raises ValueError."""
    if (word := text.strip().lower()) in _ON:
        return True
    if word in _OFF:
        return False
    raise _Unfit


def names(text: str) -> tuple[str, ...]:
    """``a,b , c``; an empty text is an empty list."""
    return tuple(word for one in text.split(",") if (word := one.strip()))


def reference(text: str) -> str:
    """``module:attribute``. Raises ValueError."""
    if not _REFERENCE.fullmatch(text):
        raise _Unfit
    return text


def _plain(text: str) -> str:
    if "\0" in text:
        raise _Unfit
    return text


def _if_text(reader: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(written: Any) -> Any:
        if not isinstance(written, str):
            raise _Unfit
        return reader(written)

    return read


def _toml_whole(written: Any) -> int:
    if isinstance(written, bool) or not isinstance(written, int):
        raise _Unfit
    return written


def _toml_switch(written: Any) -> bool:
    if not isinstance(written, bool):
        raise _Unfit
    return written


def _toml_size(written: Any) -> int:
    return size(written) if isinstance(written, str) else _toml_whole(written)


def _toml_seconds(written: Any) -> float:
    if isinstance(written, float):
        return written
    if isinstance(written, str):
        return seconds(written)
    number = _toml_whole(written)
    if number.bit_length() > 1023:  # too large for a float
        raise _Unfit
    return float(number)


def _toml_names(written: Any) -> tuple[str, ...]:
    if isinstance(written, str):
        return names(written)
    if isinstance(written, list) and all(isinstance(one, str) for one in written):
        return tuple(written)
    raise _Unfit


TEXT = Kind("text", "a text", _plain, _if_text(_plain), "TEXT")
WHOLE = Kind("whole number", "a whole number", whole, _toml_whole, "NUMBER")
SIZE = Kind("size", "a number of bytes, or a text like '64k' or '10 MiB'", size, _toml_size, "SIZE")
TIME = Kind("time", "a number of seconds, or a text like '30s', '5m' or 'inf'", seconds, _toml_seconds, "SECONDS")
SWITCH = Kind("switch", "true or false", switch, _toml_switch, "")
NAMES = Kind("list", "a list of texts", names, _toml_names, "A,B,...")
REFERENCE = Kind("reference", "a text like 'module:name'", reference, _if_text(reference), "MODULE:NAME")


def choice(of: Sequence[str], metavar: str = "WORD", *, else_reference: bool = False) -> Kind:
    """One of these words, or ``module:name`` if ``else_reference``."""
    rule = ", ".join(of) + (", or a text like 'module:name'" if else_reference else "")

    def read(text: str) -> str:
        if text in of or (else_reference and _REFERENCE.fullmatch(text)):
            return text
        raise ValueError(f"may be {rule}; got {shown(text)}")

    return Kind("choice", f"one of {rule}", read, _if_text(read), metavar)


def choices(of: Sequence[str]) -> Kind:
    """Some of these words."""

    def check(given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if one not in of:
                raise ValueError(f"may hold {', '.join(of)}; got {shown(one)}")
        return given

    rule = f"a list of {', '.join(of)}"
    return Kind("list", rule, lambda text: check(names(text)), lambda raw: check(_toml_names(raw)), "WORD")


def written(value: Any, unit: str) -> str:
    """A value in the form that these parsers read, for a table: ``64 KiB``, ``30s``, ``off``."""
    if value is None or value == "" or value == ():
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if unit == "bytes":
        for name, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if value and value % factor == 0:
                return f"{value // factor} {name}"
        return str(value)
    if unit == "seconds":
        return "inf" if value == math.inf else f"{format(Decimal(repr(value)), 'f').removesuffix('.0')}s"
    return str(value)
