"""Tells observers what happened and lets gates hold it. One attribute to test when nobody does either.

An observer is told and cannot wait; a gate may: it returns None to let the event pass at once, or something to await.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from .events import Event

Observer = Callable[[Event], None]
Gate = Callable[[Event], Awaitable[None] | None]

log = logging.getLogger("coserver.lifecycle")


class Emitter:
    """One server's observers and gates. Both may be added and removed from any thread, at any time.

    ``watched`` is true while there is any: test it before an event is built.
    """

    __slots__ = ("_observers", "gates", "watched")

    def __init__(self) -> None:
        # Removed by equality: a bound method is a new object each time it is named.
        # Tuples, replaced whole: a loop over them never sees a change.
        self._observers: tuple[Observer, ...] = ()
        self.gates: tuple[Gate, ...] = ()
        self.watched = False

    def __repr__(self) -> str:
        return f"<Emitter {len(self._observers)} observers, {len(self.gates)} gates>"

    def add_observer(self, observer: Observer) -> None:
        self._observers = (*self._observers, observer)
        self._count()

    def remove_observer(self, observer: Observer) -> None:
        """Remove it; one that is not there is no error, since a raising observer is removed by itself."""
        self._observers = tuple(one for one in self._observers if one != observer)
        self._count()

    def add_gate(self, gate: Gate) -> None:
        self.gates = (*self.gates, gate)
        self._count()

    def remove_gate(self, gate: Gate) -> None:
        self.gates = tuple(one for one in self.gates if one != gate)
        self._count()

    @contextmanager
    def observing(self, observer: Observer) -> Iterator[Observer]:
        """``with emitter.observing(print):`` tells it everything that happens inside."""
        self.add_observer(observer)
        try:
            yield observer
        finally:
            self.remove_observer(observer)

    def tell(self, event: Event) -> None:
        """Tell every observer. One that raises is logged and removed: its trouble is not the connection's."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                self.remove_observer(observer)
                log.exception("observer %r raised on %r and was removed", observer, event)

    def holds(self, event: Event) -> Iterator[Awaitable[None]]:
        """What is to be awaited before the story goes on, gate by gate. A gate that raises is logged and removed."""
        for gate in self.gates:
            try:
                hold = gate(event)
            except Exception:
                self.remove_gate(gate)
                log.exception("gate %r raised on %r and was removed", gate, event)
                continue
            if hold is not None:
                yield hold

    def _count(self) -> None:
        self.watched = bool(self._observers or self.gates)
