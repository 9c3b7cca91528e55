"""The order of events: checked by the tests, and the source of the diagram in the docs and of the stepper's labels.

An exchange has several tracks that may interleave: a streamed body is read while the handler runs, a handler's stream
is written while its body is read, and each subrequest has a track of its own. So the table is one of tracks;
``OrderCheck`` follows every connection through it.
"""

from __future__ import annotations

from . import events as ev
from . import phases

Kind = type[ev.Event]
_Key = tuple[int, int | None, str, int]  # connection, exchange, track, subrequest (0: none)

#: The track of each event: a sequence within a connection or within an exchange.
TRACKS: dict[str, tuple[Kind, ...]] = {
    "connection": (ev.ConnectionOpened, ev.ConnectionRecycled, ev.ConnectionClosed),
    "request": (ev.RequestHead, ev.RequestRead, ev.RequestRefused),
    "handler": (ev.HandlerStarted, ev.HandlerFinished, ev.HandlerFailed, ev.HandlerCancelled),
    "subrequest": (ev.SubrequestStarted, ev.SubrequestFinished, ev.SubrequestFailed, ev.SubrequestCancelled),
    "suspend": (ev.Suspended, ev.Resumed),
    "response": (ev.ResponseStarted, ev.ResponseFinished, ev.ResponseFailed, ev.ResponseCancelled),
    "reset": (ev.ExchangeReset,),
}

#: The events that may come next on the same track. The tracks of an exchange begin with those of FIRST.
FOLLOWS: dict[Kind, tuple[Kind, ...]] = {
    ev.ConnectionOpened: (ev.ConnectionRecycled, ev.ConnectionClosed),
    ev.ConnectionRecycled: (ev.ConnectionRecycled, ev.ConnectionClosed),
    ev.ConnectionClosed: (),
    ev.RequestHead: (ev.RequestRead, ev.RequestRefused),
    ev.RequestRead: (),
    ev.RequestRefused: (),
    ev.HandlerStarted: (ev.HandlerFinished, ev.HandlerFailed, ev.HandlerCancelled),
    # An error handler answers for a handler that raised, or whose stream raised before the first piece.
    ev.HandlerFinished: (ev.HandlerStarted,),
    ev.HandlerFailed: (ev.HandlerStarted,),
    ev.HandlerCancelled: (),
    ev.SubrequestStarted: (ev.SubrequestFinished, ev.SubrequestFailed, ev.SubrequestCancelled),
    ev.SubrequestFinished: (),
    ev.SubrequestFailed: (),
    ev.SubrequestCancelled: (),
    ev.Suspended: (ev.Resumed,),
    ev.Resumed: (ev.Suspended,),
    ev.ResponseStarted: (ev.ResponseFinished, ev.ResponseFailed, ev.ResponseCancelled),
    # TCP answers a message with any number of messages.
    ev.ResponseFinished: (ev.ResponseStarted,),
    # A response that failed before its first byte is replaced by an error response; a TCP handler may try again.
    ev.ResponseFailed: (ev.ResponseStarted,),
    ev.ResponseCancelled: (ev.ResponseStarted,),
    ev.ExchangeReset: (),
}

FIRST: dict[str, tuple[Kind, ...]] = {
    "connection": (ev.ConnectionOpened,),
    "request": (ev.RequestHead, ev.RequestRead, ev.RequestRefused),
    "handler": (ev.HandlerStarted,),
    "subrequest": (ev.SubrequestStarted,),
    "suspend": (ev.Suspended,),
    "response": (ev.ResponseStarted,),
    "reset": (ev.ExchangeReset,),
}

#: Each of these must be closed before its connection is: by exactly one Finished, Failed or Cancelled, or by Resumed.
OPENING: tuple[Kind, ...] = (ev.HandlerStarted, ev.SubrequestStarted, ev.Suspended, ev.ResponseStarted)

#: The events that a gate may hold, by the phase that ``at=`` names. The others are told only: waiting might lose
#: something.
HOLDABLE: dict[str, Kind] = {
    phases.ACCEPT: ev.ConnectionOpened,
    phases.HEAD: ev.RequestHead,
    phases.BODY: ev.RequestRead,
    phases.HANDLER: ev.HandlerStarted,
    phases.SUBREQUEST: ev.SubrequestStarted,
    phases.RESPONSE: ev.ResponseStarted,
    phases.RECYCLE: ev.ConnectionRecycled,
}

_TRACK_OF = {kind: track for track, kinds in TRACKS.items() for kind in kinds}


class OutOfOrder(AssertionError):
    """Events came in an order that the table does not allow."""


class OrderCheck:
    """An observer that checks every event against the table. ``problems`` collects the violations; ``check()`` raises
    them.

    It does not raise while it observes, since an observer that raises is removed.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._last: dict[_Key, Kind] = {}
        self._detached: dict[int, str] = {}
        self.seen = 0

    def __call__(self, event: ev.Event) -> None:
        self.seen += 1
        kind = type(event)
        track = _TRACK_OF.get(kind)
        if track is None:
            self.problems.append(f"{kind.__name__} has no row in TRACKS")
            return
        exchange = None if track == "connection" else event.exchange
        if track != "connection" and exchange is None:
            self.problems.append(f"{event!r} names no exchange")
            return
        number = event.subrequest if isinstance(event, ev.SubrequestEvent) else 0
        detached = isinstance(event, ev.SubrequestEvent) and event.detached
        key = (event.connection, exchange, track, number)
        before = self._last.get(key)
        allowed = FIRST[track] if before is None else FOLLOWS[before]
        if kind not in allowed:
            came_after = before.__name__ if before else "nothing"
            self.problems.append(
                f"connection {event.connection}, exchange {exchange}: {kind.__name__} after {came_after}"
            )
        outside = self._last.get((event.connection, None, "connection", 0)) in (None, ev.ConnectionClosed)
        if track != "connection" and outside and not (detached and before is not None):
            self.problems.append(f"connection {event.connection}: {kind.__name__} outside its life")
        self._last[key] = kind
        if detached:
            self._follow_detached(key, kind, outside)
        if kind is ev.ConnectionClosed:
            self._close(event.connection)
        elif kind is ev.ExchangeReset:
            self._check_closed(event.connection, exchange)

    def _follow_detached(self, key: _Key, kind: Kind, outside: bool) -> None:
        """Follow a detached subrequest: it may end after its connection, but must end."""
        if kind in OPENING:
            self._detached[key[3]] = f"connection {key[0]}, exchange {key[1]}"
            return
        self._detached.pop(key[3], None)
        if outside:
            del self._last[key]

    def _check_closed(self, connection: int, exchange: int | None) -> None:
        """An exchange that was reset must have closed what it opened."""
        for key, last in self._last.items():
            if key[:2] == (connection, exchange) and last in OPENING and key[3] not in self._detached:
                self.problems.append(f"connection {connection}, exchange {exchange}: {last.__name__} was never closed")

    def _close(self, connection: int) -> None:
        for key in [key for key in self._last if key[0] == connection]:
            number, exchange, _, subrequest = key
            if subrequest in self._detached:
                continue
            last = self._last.pop(key)
            if last in OPENING:
                self.problems.append(f"connection {number}, exchange {exchange}: {last.__name__} was never closed")
        # Kept, so that a later event of this connection is noticed.
        self._last[connection, None, "connection", 0] = ev.ConnectionClosed

    def check(self) -> None:
        """Raise OutOfOrder if an event came out of order, or a connection lacks its last event."""
        still_open = sorted(
            key[0] for key, kind in self._last.items()
            if kind is not ev.ConnectionClosed and key[3] not in self._detached
        )  # fmt: skip
        problems = [
            *self.problems,
            *(f"connection {number}: no ConnectionClosed" for number in dict.fromkeys(still_open)),
            *(f"{where}: detached subrequest {number} was never closed" for number, where in self._detached.items()),
        ]
        if problems:
            raise OutOfOrder("\n".join(problems))
