"""How a connection to a member ends: a deadline, a broken socket, a member that leaves, somebody who gives it up.

Whoever ends it closes it, and tells whom it worked for. What it does while all is well is ``connection.py``.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout
from ..stream import BodyStream
from .dial import Wire
from .readers import Reader

if TYPE_CHECKING:
    from ..pool.client import Client
    from ..pool.pool import Pool
    from ..subrequest import Subrequest

# What it is at, as ``UpstreamTimeout.phase`` says it.
CONNECT, TLS, SEND, FIRST_BYTE, BODY, IDLE, CLOSED = "connect", "tls", "send", "first byte", "body", "idle", "closed"

#: What a deadline means in each phase: the limit, and what did not happen.
_LATE = {
    CONNECT: ("connect_timeout", "no connection"),
    TLS: ("tls_timeout", "no end of the TLS handshake"),
    SEND: ("send_timeout", "nothing of the request was taken"),
    FIRST_BYTE: ("first_byte_timeout", "no first byte of an answer"),
    BODY: ("between_timeout", "nothing more of the answer"),
}


class Ending:
    """The state of a connection, and its ends. ``sub`` is whom it works for, None while it is idle."""

    __slots__ = (
        "_body", "_fd", "_limits", "_reader", "_recv", "_sending", "_wire", "born", "client", "deadline",
        "phase", "pool", "scope", "send", "sub", "uses",
    )  # fmt: skip

    def __init__(self, client: Client, pool: Pool) -> None:
        self.client = client
        self.pool = pool
        self._limits = client.limits
        self._reader: Reader = client.make_reader()
        self._wire: Wire | None = None
        self._fd = -1
        self.scope: anyio.CancelScope | None = None  # around a task that works for it
        self._sending = False
        self._body: BodyStream | None = None  # of a streamed answer
        self.sub: Subrequest | None = None
        self.phase = CONNECT
        self.uses = 0
        self.born = monotonic()
        self.deadline = math.inf
        pool.connections.add(self)
        client.sweeper.add(self)

    def close(self, *, hand_on: bool = True) -> None:
        """The end; whom it worked for is told by whoever calls. Twice is fine."""
        if self.phase is CLOSED:
            return
        was_idle = self.phase is IDLE
        self.phase = CLOSED
        self.client.sweeper.discard(self)
        self._reader.close()
        wire = self._wire
        if wire is not None:
            self.client.poller.forget(self._fd)
            if self.scope is None:  # else the task that sends does, when it no longer waits
                wire.close()
        if self.scope is not None:
            self.scope.cancel()
        if was_idle and hand_on:
            try:
                self.pool.idle.remove(self)  # type: ignore[arg-type]  # an UpstreamConnection, as all are
            except ValueError:
                pass
        self.pool.left(self, hand_on=hand_on)

    def hand_over(self) -> Subrequest | None:
        """Its member leaves: a subrequest of which nothing has been sent is given back."""
        sub = self.sub
        if sub is None or self.phase not in (CONNECT, TLS):
            return None
        self.sub = None
        sub.attempts -= 1
        self.close(hand_on=False)
        return sub

    # What the sweeper calls.

    def expire(self, now: float) -> None:
        """The deadline of what it is at has passed."""
        sub, limits = self.sub, self._limits
        if sub is None:
            self.close()
            return
        if self._body is not None and self._body.paused:
            what = f"nobody took the body for {limits.take_timeout:.3g} s"
            self.abandon(sub.make_error(UpstreamTimeout, what, phase="take"))
            return
        if now >= sub.until:
            self.fail(UpstreamTimeout, f"no whole answer in {sub.until - sub.started:.3g} s", phase="total")
            return
        limit, what = _LATE[self.phase]
        self.fail(UpstreamTimeout, f"{what} in {getattr(limits, limit):.3g} s ({limit})", phase=self.phase)

    # How it goes wrong.

    def broken(self, error: OSError) -> None:
        """The socket says that the member is gone."""
        sub = self.sub
        if sub is None:
            self.close()
        elif self._is_stale(sub):
            self._again(sub)
        else:
            self.fail(UpstreamProtocolError, f"the connection broke: {error.strerror or error}", error)

    def give_up(self, sub: Subrequest, error: BaseException) -> None:
        """What whoever asked gave as its body failed: nobody else's fault."""
        if self.sub is sub:
            self.abandon(error)
            if not sub.done:
                sub.fail(error)

    def abandon(self, error: BaseException) -> None:
        """Nobody wants the rest; ``error`` is for whoever asks for it all the same."""
        body, self._body = self._body, None
        self.sub = None
        self.close()
        if body is not None:
            body.end(error)

    def _is_stale(self, sub: Subrequest) -> bool:
        """Whether the member closed a kept connection as the request went out, which nobody can help."""
        return bool(self.uses) and not self._reader.begun and not sub.resent and sub.may_repeat

    def _again(self, sub: Subrequest) -> None:
        """Once more on a new connection, which takes this one's place; another kept one may be as dead."""
        sub.resent = True
        sub.via = self.sub = None
        pool = self.pool
        self.close(hand_on=False)
        if pool.leaving:
            self.client.place_first([sub])
            return
        pool.open += 1
        self.client.connect(pool, sub)

    def fail(
        self, kind: type[UpstreamError], reason: str, cause: BaseException | None = None, *, phase: str = ""
    ) -> None:
        """Close the connection, and end its request by an error of ``kind``; it may be tried again elsewhere."""
        sub, self.sub = self.sub, None
        body, self._body = self._body, None
        self.close()
        if sub is None:
            return
        error = sub.make_error(kind, reason, phase=phase) if phase else sub.make_error(kind, reason)
        error.__cause__ = cause
        self.client.attempt_ended(sub, self.pool, error, 0)
        if body is not None:
            body.end(error)
        elif not sub.done:
            self.client.failed(sub, error)
