"""Who waits for a connection, first come first served; joining, leaving and being first cost the same at any length."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..subrequest import Subrequest


class Line:
    """It is not empty only while no pool that it waits for has room: a newcomer never overtakes."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        # A plain dict would look at every place that was ever left at its head.
        self.waiting: OrderedDict[Subrequest, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.waiting)

    def __repr__(self) -> str:
        return f"<Line {len(self)} waiting>"

    def join(self, sub: Subrequest) -> None:
        self.waiting[sub] = None

    def join_first(self, sub: Subrequest) -> None:
        """Somebody who had been served, and has to be served anew."""
        self.waiting[sub] = None
        self.waiting.move_to_end(sub, last=False)

    def leave(self, sub: Subrequest) -> bool:
        """Whether it was there."""
        if sub in self.waiting:
            del self.waiting[sub]
            return True
        return False

    def peek(self) -> Subrequest:
        """The first, who stays. Raises StopIteration if nobody waits."""
        return next(iter(self.waiting))

    def first(self) -> Subrequest:
        """Take out the first. Raises KeyError if nobody waits."""
        return self.waiting.popitem(last=False)[0]
