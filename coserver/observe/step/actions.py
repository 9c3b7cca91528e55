"""Actions on something held: their table, and the methods that call them.

Each action is written here once. A held thing has a method for each; a stepper has the same methods with one more
argument, ``which``. Every method ends in ``do(action, ...)``, which each class implements in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any, Generic, TypeVar

#: Each action with the names of its arguments.
ACTIONS: dict[str, tuple[str, ...]] = {
    "next": (),
    "resume": (),
    "until": ("phase",),
    "edit": ("method", "target", "headers", "body", "status"),
    "respond": ("status", "body", "headers"),
    "abort": (),
}

#: The type of a held thing: Held, or its counterpart in another process.
HeldT = TypeVar("HeldT")
#: The type that an action returns.
ReturnT = TypeVar("ReturnT")


class HeldActions:
    """A held thing, here or in another process: its number, its phase, and the actions as methods."""

    id: int
    phase: str
    began: float  # monotonic seconds
    over: bool

    def __repr__(self) -> str:
        state = "let go" if self.over else f"held at {self.phase} for {self.seconds:.3g} s"
        return f"<{type(self).__name__} {self.id} {self.title}, {state}>"

    @property
    def title(self) -> str:
        """One line that names it: GET /page/1."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """Seconds since it was held."""
        return monotonic() - self.began

    def do(self, action: str, /, **arguments: Any) -> None:
        """Do one of ACTIONS, by its name. Raises NotHeld; ValueError for arguments that cannot be."""
        raise NotImplementedError

    def next(self) -> None:
        """Let it go on to the next phase that can be held. Raises NotHeld."""
        self.do("next")

    def resume(self) -> None:
        """Let it go on; it is held again only where its stepper holds. Raises NotHeld."""
        self.do("resume")

    def until(self, phase: str | Iterable[str]) -> None:
        """Let it go on to ``phase``, or to the first of several, past its stepper's own phases.

        Raises NotHeld, ValueError.
        """
        self.do("until", phase=_plain(phase))

    def edit(self, **changes: Any) -> None:
        """Change method, target, headers, body of the request; or status, headers, body of an answer that is there.

        ``headers``: a mapping sets those fields, and None removes one; a list of pairs replaces all fields. Raises
        ValueError for a change that cannot be made, and changes nothing then. Raises NotHeld.
        """
        self.do("edit", **changes)

    def respond(self, status: int = 200, body: Any = b"", headers: Any = None) -> None:
        """Answer without the handler. ``body`` is what a handler may return: str, bytes, dict.

        A subrequest is answered without its upstream. A TCP message is answered by ``body`` alone. Raises ValueError,
        NotHeld.
        """
        self.do("respond", status=status, body=body, headers=headers)

    def abort(self) -> None:
        """End it: reset the connection, or cancel the subrequest. Raises NotHeld."""
        self.do("abort")


class StepperActions(Generic[HeldT, ReturnT]):
    """The actions as methods of a stepper. ``which`` is a held thing or its id; None means the oldest."""

    def do(self, action: str, /, which: HeldT | int | None = None, **arguments: Any) -> ReturnT:
        """Do one of ACTIONS, by its name, to ``which``."""
        raise NotImplementedError

    def next(self, which: HeldT | int | None = None) -> ReturnT:
        """Let it go on to the next phase that can be held. Raises as ``do`` does."""
        return self.do("next", which)

    def resume(self, which: HeldT | int | None = None) -> ReturnT:
        """Let it go on; it is held again only where this stepper holds. Raises as ``do`` does."""
        return self.do("resume", which)

    def until(self, phase: str | Iterable[str], which: HeldT | int | None = None) -> ReturnT:
        """Let it go on to ``phase``, or to the first of several. Raises as ``do`` does."""
        return self.do("until", which, phase=_plain(phase))

    def edit(self, which: HeldT | int | None = None, **changes: Any) -> ReturnT:
        """Change it, by keywords as of ``Held.edit``: method, target, headers, body, status. Raises as ``do`` does."""
        return self.do("edit", which, **changes)

    def respond(
        self, status: int = 200, body: Any = b"", headers: Any = None, *, which: HeldT | int | None = None
    ) -> ReturnT:
        """Answer without the handler, or without the upstream; see ``Held.respond``. Raises as ``do`` does."""
        return self.do("respond", which, status=status, body=body, headers=headers)

    def abort(self, which: HeldT | int | None = None) -> ReturnT:
        """End it: reset the connection, or cancel the subrequest. Raises as ``do`` does."""
        return self.do("abort", which)


def _plain(phases: str | Iterable[str]) -> str | list[str]:
    """One phase or several, as JSON takes them."""
    return phases if isinstance(phases, str) else list(phases)
