"""A dataclass field that describes itself: unit, reason, choices, flag.

The command line's flags, the configuration's keys and the reference are made from these descriptions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any

KiB = 1024
MiB = 1024 * 1024


def option(
    default: Any, why: str, *, unit: str = "", of: Sequence[str] = (), flag: str = "", secret: bool = False
) -> Any:
    """A setting. ``why`` is its help text; ``of`` lists the only values that it may have.

    ``flag`` is its name on the command line, if that is another. A ``secret`` value is shown to nobody.
    """
    metadata = {"unit": unit, "why": why, "of": of, "flag": flag, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


def limit(default: Any, unit: str, why: str, *, least: float = 0, most: float = math.inf, route: bool = False) -> Any:
    """A limit, in ``unit``, between ``least`` and ``most``. A ``route`` limit concerns one exchange: a route may have
    its own.
    """
    return field(default=default, metadata={"unit": unit, "why": why, "least": least, "most": most, "route": route})


def check_limits(limits: Any) -> None:
    """Check the numbers among the fields of a dataclass of limits; texts are the dataclass's own affair.

    Raises TypeError for a value that is no number, ValueError for one below ``least`` or above ``most``.
    """
    for each in fields(limits):
        if isinstance(each.default, str):
            continue
        value, least, most = getattr(limits, each.name), each.metadata["least"], each.metadata["most"]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{each.name} must be a number of {each.metadata['unit']}; got {value!r}")
        if value > most:
            raise ValueError(f"{each.name} must be at most {most}; got {value!r}")
        if not value >= least:  # a NaN is neither
            raise ValueError(f"{each.name} must be at least {least}; got {value!r}")
