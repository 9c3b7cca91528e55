"""What can happen to a connection and its exchanges, as frozen values; built only while someone observes.

``at`` is monotonic seconds. ``source`` is the live connection or exchange: a gate may look inside it and change it.
What may follow what stands in ``order``.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from .frozen_dataclass import frozen, maker


@frozen
class Event:
    """``connection`` and ``exchange`` are numbers, each given once in a process; ``exchange`` is None between two."""

    at: float
    connection: int
    exchange: int | None = None
    source: Any = field(default=None, repr=False, compare=False)


@frozen
class ConnectionOpened(Event):
    """A connection was accepted. ``peer`` is its address as text; ``protocol`` is "http/1.1" or "tcp"."""

    peer: str
    protocol: str


@frozen
class RequestHead(Event):
    """A request's head was read and found sound. Nothing of its body need have come."""

    method: str
    target: str


@frozen
class RequestRead(Event):
    """The request was read to its end; ``size`` is its body's length in bytes. For TCP: a message came."""

    size: int


@frozen
class RequestRefused(Event):
    """The peer broke the protocol or a limit; ``status`` is the answer it gets, 0 where none can be sent."""

    status: int
    reason: str


@frozen
class HandlerStarted(Event):
    """The handler is about to be called; ``handler`` is its name."""

    handler: str


@frozen
class HandlerFinished(Event):
    """The handler returned. For TCP: it asked for the next message, or ended."""


@frozen
class HandlerFailed(Event):
    """The handler raised ``error``."""

    error: BaseException


@frozen
class HandlerCancelled(Event):
    """The handler was cancelled: the client left, a deadline passed, or the server stops."""


@frozen
class SubrequestEvent(Event):
    """``subrequest`` is a number, given once in a process. A ``detached`` one may outlive its exchange's connection."""

    subrequest: int
    detached: bool = False


@frozen
class SubrequestStarted(SubrequestEvent):
    """A handler asks ``upstream``, a name, for something; nothing has been sent."""

    upstream: str
    method: str
    target: str


@frozen
class SubrequestFinished(SubrequestEvent):
    """The upstream's answer is there, whole; for a streamed one, its head. ``member`` is who answered."""

    status: int
    member: str


@frozen
class SubrequestFailed(SubrequestEvent):
    """There is no answer: ``error`` says why."""

    error: BaseException


@frozen
class SubrequestCancelled(SubrequestEvent):
    """Nobody wants the answer any more: its exchange has ended, or whoever waited was cancelled."""


@frozen
class Suspended(Event):
    """Blocking code waits: in which ``call``, ``on`` what (an address, a lock, seconds), and ``where`` in the user's
    code, as ``file:line in function``."""

    call: str
    on: str
    where: str


@frozen
class Resumed(Event):
    """It goes on, or is broken off; ``seconds`` is how long it waited."""

    call: str
    seconds: float


@frozen
class ResponseStarted(Event):
    """The response is about to be written; nothing of it has been. ``status`` is 0 for TCP."""

    status: int


@frozen
class ResponseFinished(Event):
    """The response's last byte was handed to the operating system; ``size`` counts its body's bytes."""

    size: int


@frozen
class ResponseFailed(Event):
    """The response was broken off: the client left, or what produced it raised."""

    error: BaseException


@frozen
class ResponseCancelled(Event):
    """The response was broken off by a cancellation."""


@frozen
class ConnectionRecycled(Event):
    """The exchange is over and the connection ready for the next."""


@frozen
class ConnectionClosed(Event):
    """The last event of every connection; ``reason`` is why, in words."""

    reason: str


#: What an observed plain request is told by: made by each of them, so at a third of what a call of the class costs.
make_handler_started = maker(HandlerStarted)
make_handler_finished = maker(HandlerFinished)
make_response_finished = maker(ResponseFinished)
