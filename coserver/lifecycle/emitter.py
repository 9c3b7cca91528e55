"""Tells observers what happened and lets gates hold it. One attribute to test when nobody does either.

An observer is told and cannot wait; a gate may: it returns None to let the event pass at once, or something to await.
What that raises is logged, and the story goes on; but for Answered, which ends the exchange with an answer. A tap is
handed what streams pass: the pieces of bodies that nobody keeps.

Most exchanges go smoothly: the handler returns, and its answer goes out in one piece. An observer that only counts or
keeps may hear of such a one once, when it is over; three events that need not be built are what watching costs most.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from .events import Event

Observer = Callable[[Event], None]
Gate = Callable[[Event], Awaitable[None] | None]
#: Told of an exchange that went smoothly, and when it ended in monotonic seconds.
Served = Callable[[Any, float], None]


class Tap(Protocol):
    """Handed each piece of a body: of a request that is streamed (``sent`` is false), of a response that is no one
    piece with its head. Of a file that the kernel sends it is the begin. Must not wait, nor keep more than it must.
    """

    def __call__(self, exchange: Any, piece: bytes, *, sent: bool) -> None: ...


log = logging.getLogger("coserver.lifecycle")


class Answered(Exception):
    """Raised by a hold: ``answer`` is to be sent, and what would have made one is passed over.

    The exchange itself makes it (``make_answer``), and takes it at its head, its body, its handler and its response.
    """

    def __init__(self, answer: Any) -> None:
        super().__init__("answered at a gate")
        self.answer = answer


class Emitter:
    """One server's observers, gates and taps. All may be added and removed from any thread, at any time.

    ``watched`` is true while anybody wants every event, ``heard`` while anybody wants the main ones: test it before an
    event is built. Not among the main ones are ConnectionOpened, RequestHead, ConnectionRecycled, the RequestRead of
    a request without a body, and the ResponseStarted of a response that goes out in one piece. ``prompt`` is true while
    anybody wants the main ones as they happen, also of exchanges that go smoothly.
    """

    __slots__ = ("_briefly", "_lock", "_observers", "_patient", "gates", "heard", "prompt", "taps", "watched")

    def __init__(self) -> None:
        # Removed by equality: a bound method is a new object each time it is named.
        # Tuples, replaced whole: a loop over them never sees a change.
        self._observers: tuple[Observer, ...] = ()
        self._briefly: tuple[Observer, ...] = ()  # those of them that want the main events only
        self._patient: tuple[tuple[Observer, Served], ...] = ()  # ... and hear of smooth exchanges when they are over
        self.gates: tuple[Gate, ...] = ()
        self.taps: tuple[Tap, ...] = ()
        self.watched = self.heard = self.prompt = False
        self._lock = threading.Lock()  # of those who add and remove: two threads may do so at once

    def __repr__(self) -> str:
        return f"<Emitter {len(self._observers)} observers, {len(self.gates)} gates>"

    def add_observer(self, observer: Observer, *, brief: bool = False, served: Served | None = None) -> None:
        """With ``brief`` it costs half, and may miss all but the main events.

        With ``served``, brief too, it costs a quarter: that may be called in place of the HandlerStarted,
        HandlerFinished and ResponseFinished of an exchange that went smoothly. If one takes another turn, what was kept
        back is told then, with its own times.
        """
        with self._lock:
            self._observers = (*self._observers, observer)
            if brief or served is not None:
                self._briefly = (*self._briefly, observer)
            if served is not None:
                self._patient = (*self._patient, (observer, served))
            self._count()

    def remove_observer(self, observer: Observer) -> None:
        """Remove it; one that is not there is no error, since a raising observer is removed by itself."""
        with self._lock:
            self._observers = tuple(one for one in self._observers if one != observer)
            self._briefly = tuple(one for one in self._briefly if one != observer)
            self._patient = tuple(pair for pair in self._patient if pair[0] != observer)
            self._count()

    def add_gate(self, gate: Gate) -> None:
        """Ask ``gate`` of every event: it returns None to let the event pass, or something to await."""
        with self._lock:
            self.gates = (*self.gates, gate)
            self._count()

    def remove_gate(self, gate: Gate) -> None:
        """Remove the gate. What it holds now stays held until its own await ends."""
        with self._lock:
            self.gates = tuple(one for one in self.gates if one != gate)
            self._count()

    def add_tap(self, tap: Tap) -> None:
        """Hand ``tap`` the pieces of bodies that nobody keeps."""
        with self._lock:
            self.taps = (*self.taps, tap)

    def remove_tap(self, tap: Tap) -> None:
        """Remove the tap."""
        with self._lock:
            self.taps = tuple(one for one in self.taps if one != tap)

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

    def tell_served(self, exchange: Any, at: float) -> None:
        """Tell those who hear of it once that an exchange went smoothly; there must be no others."""
        for observer, served in self._patient:
            try:
                served(exchange, at)
            except Exception:
                self.remove_observer(observer)
                log.exception("observer %r raised on %r and was removed", observer, exchange)

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

    def pass_on(self, exchange: Any, piece: bytes, *, sent: bool) -> None:
        """Hand a piece of a body to every tap. One that raises is logged and removed."""
        for tap in self.taps:
            try:
                tap(exchange, piece, sent=sent)
            except Exception:
                self.remove_tap(tap)
                log.exception("tap %r raised and was removed", tap)

    def _count(self) -> None:
        self.heard = bool(self._observers or self.gates)
        self.watched = len(self._observers) > len(self._briefly) or bool(self.gates)
        self.prompt = len(self._observers) > len(self._patient) or bool(self.gates)
