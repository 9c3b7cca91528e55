"""The emitter tells observers about events, and lets gates hold them. Code tests one attribute if there are neither.

An observer is told and cannot wait. A gate may hold an event: it returns None to let the event pass at once, or an
awaitable. An exception of the awaitable is logged, and the exchange goes on, except for Answered, which ends the
exchange with an answer. A tap gets the pieces of bodies that are not kept.

Most exchanges go smoothly: the handler returns, and its response goes out in one piece. An observer that only counts or
keeps may be called once for such an exchange, at its end. That saves building three events, which is most of the cost.
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
#: Called with an exchange that went smoothly, and the time of its end in monotonic seconds.
Served = Callable[[Any, float], None]


class Tap(Protocol):
    """Called with each piece of a body: of a streamed request (``sent`` is false), or of a response that does not go
    out in one piece with its head.

    Of a file that the kernel sends, it gets the beginning. It must not wait, and should keep no more than it needs.
    """

    def __call__(self, exchange: Any, piece: bytes, *, sent: bool) -> None: ...


log = logging.getLogger("coserver.lifecycle")


class Answered(Exception):
    """Raised by a hold: send ``answer``, and skip whatever would have made one.

    The exchange makes it (``make_answer``), and accepts it at its head, its body, its handler and its response.
    """

    def __init__(self, answer: Any) -> None:
        super().__init__("answered at a gate")
        self.answer = answer


class Emitter:
    """The observers, gates and taps of one server. They may be added and removed from any thread, at any time.

    ``watched`` is true while an observer or a gate wants every event, ``heard`` while one wants the main events: test
    it before building an event. ``prompt`` is true while one wants the main events at once, also those of smooth
    exchanges. The main events are all but ConnectionOpened, RequestHead, ConnectionRecycled, the RequestRead of a
    request without a body, and the ResponseStarted of a response that goes out in one piece.
    """

    __slots__ = ("_briefly", "_lock", "_observers", "_patient", "gates", "heard", "prompt", "taps", "watched")

    def __init__(self) -> None:
        # Removed by equality, not identity: each access to a bound method makes a new object.
        self._observers: tuple[Observer, ...] = ()
        self._briefly: tuple[Observer, ...] = ()  # observers of the main events only
        # those of them that are called at the end of smooth exchanges
        self._patient: tuple[tuple[Observer, Served], ...] = ()
        self.gates: tuple[Gate, ...] = ()
        self.taps: tuple[Tap, ...] = ()
        self.watched = self.heard = self.prompt = False
        self._lock = threading.Lock()  # for changes by two threads at once

    def __repr__(self) -> str:
        return f"<Emitter {len(self._observers)} observers, {len(self.gates)} gates>"

    def add_observer(self, observer: Observer, *, brief: bool = False, served: Served | None = None) -> None:
        """Add an observer. ``brief`` costs half: it may then miss all but the main events.

        ``served``, with ``brief``, costs a quarter: it may be called instead of the HandlerStarted, HandlerFinished and
        ResponseFinished of an exchange that went smoothly. If the exchange turns out otherwise, the events that were
        held back are emitted then, with their own times.
        """
        with self._lock:
            self._observers = (*self._observers, observer)
            if brief or served is not None:
                self._briefly = (*self._briefly, observer)
            if served is not None:
                self._patient = (*self._patient, (observer, served))
            self._count()

    def remove_observer(self, observer: Observer) -> None:
        """Remove an observer. Does nothing if it is gone: an observer that raises is removed automatically."""
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
        """Give ``tap`` the pieces of bodies that are not kept."""
        with self._lock:
            self.taps = (*self.taps, tap)

    def remove_tap(self, tap: Tap) -> None:
        """Remove the tap."""
        with self._lock:
            self.taps = tuple(one for one in self.taps if one != tap)

    @contextmanager
    def observing(self, observer: Observer) -> Iterator[Observer]:
        """Observe everything during a block: ``with emitter.observing(print):``."""
        self.add_observer(observer)
        try:
            yield observer
        finally:
            self.remove_observer(observer)

    def tell(self, event: Event) -> None:
        """Call every observer. One that raises is logged and removed, so that the connection does not suffer."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                self.remove_observer(observer)
                log.exception("observer %r raised on %r and was removed", observer, event)

    def tell_served(self, exchange: Any, at: float) -> None:
        """Report a smooth exchange to the observers with ``served``; there must be no other observers."""
        for observer, served in self._patient:
            try:
                served(exchange, at)
            except Exception:
                self.remove_observer(observer)
                log.exception("observer %r raised on %r and was removed", observer, exchange)

    def holds(self, event: Event) -> Iterator[Awaitable[None]]:
        """Yield the awaitables of the gates that hold ``event``, gate by gate. A gate that raises is logged and
        removed.
        """
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
        """Call every tap with a piece of a body. One that raises is logged and removed."""
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
