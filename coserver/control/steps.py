"""The steppers that clients of the control opened. Each lives as long as its client reads: one that is killed holds
nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..observe.filters import FilterError
from ..observe.step.actions import ACTIONS
from ..observe.step.held import NotHeld
from ..observe.step.stepper import Stepper
from ..server.handler.errors import HTTPException
from .feed import HEARTBEAT, Feed

if TYPE_CHECKING:
    from .server_handle import ServerHandle

_ALWAYS = ("held",)
#: One request, however many there are: after each change of what is held, all that is held is told.
_ALL = "resume_all"


class Steppers:
    """All steppers of one control, by number."""

    def __init__(self, server: ServerHandle) -> None:
        self._server = server
        self._steps: dict[int, Stepper] = {}
        self._last = 0

    @property
    def count(self) -> int:
        return len(self._steps)

    def close(self) -> None:
        for step in tuple(self._steps.values()):
            step.close()

    def as_list(self) -> list[dict[str, Any]]:
        return [_state(number, step) for number, step in self._steps.items()]

    def find(self, number: int) -> Stepper:
        """Raises HTTPException (404)."""
        step = self._steps.get(number)
        if step is None:
            raise HTTPException(404, f"no stepper {number} is open; it ends when whoever opened it reads no more")
        return step

    async def open(self, filter: str, at: Any, limit: float | None) -> AsyncIterator[dict[str, Any]]:
        """A line with what is held after each change. Raises HTTPException (400, 409) before the first."""
        try:
            step = self._server.step(filter, at, limit=limit)
        except (FilterError, ValueError, TypeError) as error:
            raise HTTPException(400, str(error)) from error
        except RuntimeError as error:
            raise HTTPException(409, str(error)) from error
        self._last += 1
        number, feed = self._last, Feed(1)
        self._steps[number] = step
        step.watch(lambda: feed.put(None))
        try:
            yield _state(number, step)
            async for _ in feed.batches(HEARTBEAT):
                yield _state(number, step)
                if step.closed:
                    break
            if step.error is not None:
                yield {"error": str(step.error)}
        finally:
            step.close()
            del self._steps[number]

    def do(self, number: int, what: str, given: Any) -> dict[str, Any]:
        """Raises HTTPException: 400 for what cannot be, 404, 409 for what is held no more."""
        step = self.find(number)
        if what == _ALL:
            if given:
                raise HTTPException(400, f"{_ALL} takes nothing, since all that is held is meant; got {given!r:.80}")
            return {"let_go": step.resume_all()}
        names = ACTIONS.get(what)
        if names is None:
            raise HTTPException(404, f"a stepper cannot {what!r:.30}; there are {', '.join((*ACTIONS, _ALL))}")
        if not isinstance(given, dict) or any(name not in (*names, *_ALWAYS) for name in given):
            raise HTTPException(400, f"{what} takes an object with {', '.join((*names, *_ALWAYS))}; got {given!r:.80}")
        arguments = {name: value for name, value in given.items() if name not in _ALWAYS}
        try:
            held = step.find(given.get("held"))
            getattr(held, what)(**arguments)
        except (ValueError, TypeError) as error:
            raise HTTPException(400, str(error)) from error
        except NotHeld as error:
            raise HTTPException(409, str(error)) from error
        return held.as_dict()


def _state(number: int, step: Stepper) -> dict[str, Any]:
    return {
        "step": number,
        "filter": str(step.filter),
        "at": sorted(step.at),
        "limit": step.limit,
        "closed": step.closed,
        "held": [one.as_dict() for one in step.waiting],
    }
