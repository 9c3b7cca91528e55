"""The events of connections and their exchanges, as frozen values. They are built only while they are observed.

``at`` is in monotonic seconds. ``source`` is the live connection or exchange: a gate may look inside and change it. The
order of events is in ``order.py``.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from .frozen_dataclass import frozen, maker


@frozen
class Event:
    """``connection`` and ``exchange`` are numbers, unique in the process; ``exchange`` is None between exchanges."""

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
    """The head of a request was read and is sound. Its body may not have come yet."""

    method: str
    target: str


@frozen
class RequestRead(Event):
    """The request was read to its end; ``size`` is its body's length in bytes. For TCP: a message came."""

    size: int


@frozen
class RequestRefused(Event):
    """The peer broke the protocol or a limit. ``status`` is that of the answer, 0 if none can be sent."""

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
    """``subrequest`` is a number, unique in the process. A ``detached`` subrequest may outlive the connection of its
    exchange.
    """

    subrequest: int
    detached: bool = False


@frozen
class SubrequestStarted(SubrequestEvent):
    """A handler starts a request to ``upstream``, given by its name; nothing has been sent yet."""

    upstream: str
    method: str
    target: str


@frozen
class SubrequestFinished(SubrequestEvent):
    """The response is whole; of a streamed one, the head has come. ``member`` is the address that answered."""

    status: int
    member: str


@frozen
class SubrequestFailed(SubrequestEvent):
    """The subrequest failed with ``error``."""

    error: BaseException


@frozen
class SubrequestCancelled(SubrequestEvent):
    """The subrequest was cancelled: its exchange has ended, or the waiting task was cancelled."""


@frozen
class Suspended(Event):
    """A worker began to wait in the blocking call ``call``.

    ``on`` is what it waits for (an address, a lock, seconds); ``where`` is the place in the user's code, as ``file:line
    in function``.
    """

    call: str
    on: str
    where: str


@frozen
class Resumed(Event):
    """The worker goes on, or is cancelled, after ``seconds``."""

    call: str
    seconds: float


@frozen
class ResponseStarted(Event):
    """The response is about to be written; no byte of it has been. ``status`` is 0 for TCP."""

    status: int


@frozen
class ResponseFinished(Event):
    """The last byte of the response was handed to the operating system; ``size`` counts the bytes of its body."""

    size: int


@frozen
class ResponseFailed(Event):
    """The response was broken off: the client left, or its source raised."""

    error: BaseException


@frozen
class ResponseCancelled(Event):
    """The response was broken off by a cancellation."""


@frozen
class ExchangeReset(Event):
    """The exchange ended before its response was whole, and its connection goes on; ``reason`` says why.

    Only a connection with several exchanges at once has it (HTTP/2: RST_STREAM); else the connection closes.
    """

    reason: str


@frozen
class ConnectionRecycled(Event):
    """The exchange is over and the connection is ready for the next."""


@frozen
class ConnectionClosed(Event):
    """The last event of every connection; ``reason`` says why, in words."""

    reason: str


#: Makers of the events of an observed plain request: they cost a third of a call of the class.
make_handler_started = maker(HandlerStarted)
make_handler_finished = maker(HandlerFinished)
make_response_finished = maker(ResponseFinished)
