"""The steppers of a server: those that clients of the control opened, and those of the program itself.

A client's stepper lives as long as the client reads: one that is killed holds nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ..observe.filters import FilterError
from ..observe.step.actions import ACTIONS
from ..observe.step.held import NotHeld
from ..observe.step.stepper import Stepper
from ..server.handler.errors import HTTPException
from .feed import HEARTBEAT, Feed

log = logging.getLogger("coserver.control")

if TYPE_CHECKING:
    from .server_handle import ServerHandle

_ALWAYS = ("held",)
#: Who opened a stepper by ``server.step``: a notebook or a script, in the server's process.
_PROGRAM = "the server's own program"
#: Characters of a client's name that are kept.
_BY_MAX = 100
#: One request, however many there are: after each change of what is held, all that is held is told.
_ALL = "resume_all"


class Steppers:
    """All steppers of one control, by number."""

    def __init__(self, server: ServerHandle) -> None:
        self._server = server
        self._steps: dict[int, Stepper] = {}
        self._by: dict[int, str] = {}
        self._last = 0

    @property
    def count(self) -> int:
        """The steppers of clients: each has a stream of its own."""
        return sum(by is not _PROGRAM for by in self._by.values())

    def close(self) -> None:
        """Close the steppers of clients."""
        for number, step in tuple(self._steps.items()):
            if self._by[number] is not _PROGRAM:
                step.close()

    def as_list(self, *, brief: bool = False) -> list[dict[str, Any]]:
        """All steppers. ``brief``: of what is held only the ids and the titles."""
        self._look_at_own()
        states = [self._state(number, step) for number, step in self._steps.items()]
        if brief:
            for state in states:
                state["held"] = [{"id": one["id"], "title": one["title"]} for one in state["held"]]
        return states

    def find(self, number: int) -> Stepper:
        """Raises HTTPException (404)."""
        self._look_at_own()
        step = self._steps.get(number)
        if step is None:
            raise HTTPException(404, f"no stepper {number} is open; it ends when its client stops reading")
        return step

    async def open(self, filter: str, at: Any, limit: float | None, by: str) -> AsyncIterator[dict[str, Any]]:
        """A line with what is held after each change. Raises HTTPException (400, 409) before the first.

        ``by`` names the client: the log says who holds what, and so does the list of steppers.
        """
        try:
            step = self._server.step(filter, at, limit=limit)
        except (FilterError, ValueError, TypeError) as error:
            raise HTTPException(400, str(error)) from error
        except RuntimeError as error:
            raise HTTPException(409, str(error)) from error
        feed = Feed(1)
        number = self._add(step, by := "".join(one if one.isprintable() else "?" for one in by[:_BY_MAX]) or "a client")
        what = f"{step.filter!s} @{','.join(sorted(step.at))}" if filter else f"all @{','.join(sorted(step.at))}"
        log.info("%s holds requests: %s; each for %g s at most", by, what, step.limit)
        step.watch(lambda: feed.put(None))
        try:
            yield self._state(number, step)
            async for _ in feed.batches(HEARTBEAT):
                yield self._state(number, step)
                if step.closed:
                    break
            if step.error is not None:
                yield {"error": str(step.error)}
        finally:
            step.close()
            del self._steps[number], self._by[number]
            log.info("%s holds nothing more: %s", by, what)

    def do(self, number: int, what: str, given: Any) -> dict[str, Any]:
        """Raises HTTPException: 400 for what cannot be, 404, 409 for what is held no more."""
        step = self.find(number)
        if what == _ALL:
            if given:
                raise HTTPException(400, f"{_ALL} takes no arguments, it releases everything; got {given!r:.80}")
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

    def _add(self, step: Stepper, by: str) -> int:
        self._last += 1
        self._steps[self._last] = step
        self._by[self._last] = by
        return self._last

    def _look_at_own(self) -> None:
        """Number the steppers that the program has opened since the last call, and forget those that it closed."""
        for number, step in tuple(self._steps.items()):
            if step.closed and self._by[number] is _PROGRAM:
                del self._steps[number], self._by[number]
        known = set(map(id, self._steps.values()))
        for step in self._server.steps:
            if not step.closed and id(step) not in known:
                self._add(step, _PROGRAM)

    def _state(self, number: int, step: Stepper) -> dict[str, Any]:
        return {
            "step": number,
            "by": self._by[number],
            "filter": str(step.filter),
            "at": sorted(step.at),
            "limit": step.limit,
            "closed": step.closed,
            "held": [one.as_dict() for one in step.waiting],
        }
