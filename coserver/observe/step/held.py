"""One exchange, connection or subrequest that a stepper holds: its values, and the actions on it.

Any thread may call every method; each returns at once. A call that comes too late raises NotHeld: the client has left,
the hold's limit was reached, or another caller has let it go.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ...lifecycle import phases
from ...lifecycle.emitter import Answered
from ...lifecycle.order import HOLDABLE
from ...transport.loop import poster
from ..snapshot.json_rows import exchange_dict
from ..snapshot.rows import ExchangeState
from ..text import Fields, decode_fields
from .actions import ACTIONS, HeldActions

if TYPE_CHECKING:
    from ...lifecycle.events import Event

#: Bytes of a body in ``Held.as_dict``; ``Held.body`` has all of them.
SHOWN = 64 * 1024
#: Phases in which ``respond`` works, since the client, or the handler of a subrequest, expects an answer.
ANSWERABLE = (phases.HEAD, phases.BODY, phases.HANDLER, phases.SUBREQUEST, phases.RESPONSE)


_next_number = itertools.count(1).__next__


class NotHeld(Exception):
    """The action needs something that is held, and it is no longer held."""


class Held(HeldActions):
    """Something that a stepper holds: an exchange, a connection, or a subrequest.

    ``id`` is unique in this process. ``phase`` is the phase in which it is held, ``event`` the event that it reached.
    ``exchange`` is its row as in a snapshot; ``connection`` is the connection's number.
    """

    def __init__(self, event: Event, phase: str, exchange: ExchangeState, lock: AbstractContextManager[Any]) -> None:
        self.id = _next_number()
        self.event = event
        self.phase = phase
        self.exchange = exchange
        self.connection = event.connection
        self.began = monotonic()
        self.over = False
        self.answered: Answered | None = None
        self.following: frozenset[str] | None = None  # phases that hold it next, whether the filter matches or not
        self.let_go: Callable[[Held], None] = _nothing  # the stepper's, called when it is let go
        self._released = anyio.Event()
        self._post = poster()
        self._lock = lock
        self._source = event.source

    # Values.

    @property
    def title(self) -> str:
        """One line that names it: GET /page/1."""
        if self._is_subrequest:
            return f"{self._upstream} {self._source.method} {self.target}"
        if self.exchange.protocol != "http":
            return self.exchange.url
        return f"{self.method} {self.target}" if self.method else f"connection {self.connection}"

    @property
    def subrequest(self) -> int | None:
        """The subrequest's number; None if an exchange or a connection is held."""
        return getattr(self.event, "subrequest", None)

    @property
    def method(self) -> str:
        """The method that would be served or sent now."""
        if self._is_subrequest:
            return str(self._source.method)
        head = getattr(self._source, "head", None)
        return head.method if head is not None else ""

    @property
    def target(self) -> str:
        """The target that would be served or sent now, unmasked."""
        if self._is_subrequest:
            words = self._source.start.split(b" ")  # the target with its query; empty for a TCP message
            return words[1].decode("latin-1") if len(words) > 1 else str(self._source.target)
        head = getattr(self._source, "head", None)
        return head.target if head is not None else ""

    @property
    def headers(self) -> Fields:
        """The request's fields, names in lower case."""
        if self._is_subrequest:
            lines = (line.partition(b": ") for line in self._source.fields.split(b"\r\n") if line)
            return decode_fields([(name.lower(), value) for name, _, value in lines])
        head = getattr(self._source, "head", None)
        return decode_fields(head.fields) if head is not None else ()

    @property
    def body(self) -> bytes:
        """The request's body as far as it is in memory, or the TCP message."""
        source = self._source
        if self._is_subrequest:
            return bytes(source.body)
        return bytes(getattr(source, "message", getattr(source, "content", b"")))

    @property
    def handler(self) -> str:
        """Its handler's name; "" until one is found."""
        return self.exchange.handler

    @property
    def status(self) -> int:
        """The answer's status, at ``response`` and for a subrequest that was answered; 0 without an answer."""
        return getattr(self._answer, "status", 0)

    @property
    def answer_headers(self) -> Fields:
        """The answer's fields, in order; empty without an answer."""
        answer = self._answer
        if answer is None or isinstance(answer, bytes):
            return ()
        if self._is_subrequest:
            return decode_fields(answer.fields)
        fields = [(name.lower(), value) for name, value in answer.fields]
        return (*((("content-type", answer.content_type),) if answer.content_type else ()), *fields)

    @property
    def answer_body(self) -> bytes | None:
        """The answer's body; None without an answer, and for a stream or a file."""
        answer = self._answer
        body = answer if isinstance(answer, bytes) else getattr(answer, "body", None)
        return body if isinstance(body, bytes) else None

    def as_dict(self) -> dict[str, Any]:
        """All values as plain ones, for JSON; bodies are cut at SHOWN bytes."""
        answered = self._answer is not None
        return {
            "id": self.id,
            "phase": self.phase,
            "event": type(self.event).__name__,
            "connection": self.connection,
            "subrequest": self.subrequest,
            "title": self.title,
            "seconds": round(self.seconds, 6),
            "held": not self.over,
            "exchange": {**exchange_dict(self.exchange), "held": not self.over},
            "request": {
                "method": self.method,
                "target": self.target,
                "headers": [list(field) for field in self.headers],
                "body": self._shown_request(),
            },
            "response": {
                "status": self.status,
                "headers": [list(field) for field in self.answer_headers],
                "body": shown_body(self.answer_body),
            }
            if answered
            else None,
        }

    def do(self, action: str, /, **arguments: Any) -> None:
        """Do one of ACTIONS, by its name. Raises NotHeld; ValueError for arguments that cannot be."""
        with self._lock:
            self._check()
            match action:
                case "next":
                    self._go(frozenset(phases.PHASES))
                case "resume":
                    self._go(None)
                case "until":
                    self._go(holdable(arguments["phase"]))
                case "edit":
                    self._edit(arguments)
                case "respond":
                    self._respond(**arguments)
                case "abort":
                    self._abort()
                case _:
                    raise ValueError(f"{action!r:.30} is not an action; the actions are {', '.join(ACTIONS)}")

    def _edit(self, changes: dict[str, Any]) -> None:
        edit = getattr(self._source, "edit", None)
        if edit is None or not changes:
            raise ValueError(f"nothing can be changed at {self.phase!r}" if edit is None else "nothing to change")
        edit(self.phase, changes)

    def _respond(self, status: int, body: Any, headers: Any) -> None:
        source = self._source
        if self.phase not in ANSWERABLE or not hasattr(source, "make_answer"):
            raise ValueError(f"no answer can be given at {self.phase!r}; one can be given at {', '.join(ANSWERABLE)}")
        endpoint = getattr(source, "endpoint", None)
        if self.phase == phases.BODY and endpoint is not None and endpoint.stream:
            raise ValueError("its handler runs already (stream=True) and answers itself; hold it at 'response'")
        self.answered = Answered(source.make_answer(status, body, headers))
        self._go(None)

    def _abort(self) -> None:
        source = self._source
        self._go(None, source.cancel if self._is_subrequest else lambda: source.abort("aborted while held"))

    # For the stepper.

    async def wait(self) -> None:
        """Wait, on the server's loop, until it is let go."""
        await self._released.wait()

    def release(self) -> None:
        """Let it go, unless that was done before."""
        with self._lock:
            if not self.over:
                self._go(None)

    def _go(self, following: frozenset[str] | None, by: Callable[[], Any] | None = None) -> None:
        """Let it go. ``by`` is called instead on the server's loop, to end the exchange."""
        with self._lock:
            self._check()
            self.following = following
            self.over = True
            self.let_go(self)
        try:
            self._post(by or self._released.set)
        except RuntimeError:
            pass  # the server's loop has ended

    def _shown_request(self) -> dict[str, Any] | None:
        """The request's body for JSON. A body on disk is read from its file; its handler may have closed the file."""
        spooled = getattr(self._source, "spooled", None)
        if spooled is None:
            return shown_body(self.body)
        try:
            start = spooled.read_at(0, SHOWN)
        except (OSError, ValueError):
            start = b""
        return {**(shown_body(start) or {}), "size": self._source.body_size}

    def _check(self) -> None:
        if self.over:
            raise NotHeld(f"{self.title} is no longer held")

    @property
    def _is_subrequest(self) -> bool:
        return hasattr(self.event, "subrequest")

    @property
    def _upstream(self) -> str:
        return str(self._source.client.name)

    @property
    def _answer(self) -> Any:
        return getattr(self._source, "response" if self._is_subrequest else "answer", None)


def holdable(given: str | Iterable[str]) -> frozenset[str]:
    """Check phases to hold at. Raises ValueError, which lists the phases that can be held."""
    named = [given] if isinstance(given, str) else list(given)
    for name in named:
        if name not in HOLDABLE:
            hint = "; 'suspend' can be observed, not held" if name == phases.SUSPEND else ""
            raise ValueError(f"nothing can be held at {name!r}{hint}; hold at one of {', '.join(HOLDABLE)}")
    if not named:
        raise ValueError(f"name a phase to hold at: {', '.join(HOLDABLE)}")
    return frozenset(named)


def shown_body(body: bytes | None) -> dict[str, Any] | None:
    """A body for JSON: its size, and its first SHOWN bytes as text, or as base64 if they are not UTF-8."""
    if body is None:
        return None
    part = body[:SHOWN]
    try:
        return {"size": len(body), "text": part.decode()}
    except UnicodeDecodeError as error:
        if len(part) < len(body) and error.start > len(part) - 4:  # a character cut in two
            return {"size": len(body), "text": part[: error.start].decode()}
        return {"size": len(body), "base64": base64.b64encode(part).decode()}


def _nothing(held: Held) -> None:
    """Do nothing: no stepper has taken the hold yet."""
