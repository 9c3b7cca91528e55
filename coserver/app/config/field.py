"""A field that is an option: with what it says to whoever reads the reference, or the command's help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def told(why: str, of: Sequence[str] = (), flag: str = "") -> dict[str, Any]:
    """A field's metadata. ``of``: the only values there are. ``flag``: its name on the command line, if another."""
    return {"unit": "", "why": why, "of": of, "flag": flag}


def option(default: Any, why: str, *, of: Sequence[str] = (), flag: str = "", secret: bool = False) -> Any:
    """A field of a settings dataclass. ``secret``: nobody is shown its value."""
    return field(default=default, repr=not secret, metadata={**told(why, of, flag), "secret": secret})
