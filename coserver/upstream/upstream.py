"""An upstream: the face that a handler asks through. ``users.get("/u/1")`` starts at once and returns a Subrequest.

It belongs to no loop: each loop that serves, or ``async with Upstream(...)``, opens it for itself.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, TypedDict, Unpack

import anyio

from ..transport.loop import Loop
from .declaring import Configured, Declared, UpstreamOptions
from .encode import Asking, say
from .forwarding import Forwardable, ForwardOptions, forwarded
from .gather import Map
from .member import UpstreamMember
from .parent import current_host, exchange_of, hand_on, mark_opened
from .pool.client import Client
from .subrequest import OnDone, Subrequest


class Options(Asking, total=False):
    """The keywords of ``get`` and its kin."""

    timeout: float
    detach: bool
    on_done: OnDone


class SendOptions(TypedDict, total=False):
    """The keywords of ``send``."""

    timeout: float
    detach: bool
    on_done: OnDone


class MapOptions(Options, total=False):
    """The keywords of ``map``, beside those of ``request``."""

    method: str


class Upstream(Declared):
    """One or more members that serve the same. ``async with Upstream("http://127.0.0.1:8000") as users:``

    A member is a URL or an ``UpstreamMember``; ``policy`` is a row of POLICIES, ``codec`` as for a server. ``key`` is
    for "consistent-hash": called with a Subrequest it says what goes to the same member. ``framing``, a row of
    FRAMINGS or a class like them, is for tcp members; ``tls`` for https ones: an UpstreamTls or an
    ssl.SSLContext; without it the system's authorities are trusted. Raises ValueError.
    """

    def __init__(self, *members: str | UpstreamMember, name: str = "", **options: Unpack[UpstreamOptions]) -> None:
        super().__init__(*members, name=name, **options)
        self._clients: dict[int, Client] = {}  # by the thread of their loops
        self._opened: dict[int, int] = {}  # how often, by thread
        self._stack: list[AbstractAsyncContextManager[None]] = []

    def __repr__(self) -> str:
        state = f"open on {len(self._clients)} loops" if self._clients else "not open"
        return f"<Upstream {self.name!r} {', '.join(member.address for member in self.members)}, {state}>"

    def __reduce__(self) -> Any:
        """To another process, where it is not open yet: as it was declared."""
        options = {
            "name": self.name, "policy": self.policy, "key": self.key, "limits": self.limits, "codec": self.codec,
            "framing": self.framing, "tls": self._own_tls,
        }  # fmt: skip
        return _declared_again, (type(self), tuple(self.members), options)

    def configure(self, **given: Unpack[Configured]) -> None:
        """As of what is declared; RuntimeError while it is open, unless that changes nothing."""
        before = self.declared()
        super().configure(**given)
        if self._clients and self.declared() != before:
            self.restore(before)
            raise RuntimeError(f"upstream {self.name!r} is open: it can be changed only before its app starts")

    # Asking.

    def get(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """Ask for ``target``, a path with its query; see ``request``."""
        return self._start("GET", target, b"", options)

    def head(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """``request`` with HEAD."""
        return self._start("HEAD", target, b"", options)

    def post(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """``request`` with POST."""
        return self._start("POST", target, b"", options)

    def put(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """``request`` with PUT."""
        return self._start("PUT", target, b"", options)

    def patch(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """``request`` with PATCH."""
        return self._start("PATCH", target, b"", options)

    def delete(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """``request`` with DELETE."""
        return self._start("DELETE", target, b"", options)

    def request(self, method: str, target: str, **options: Unpack[Options]) -> Subrequest:
        """Start a request, at once; ``await`` it, or take its ``result()``.

        Keywords: params, headers, json, data (a form), content (bytes or str); ``timeout`` in seconds for the whole;
        ``repeat``: whether it may be sent twice, if its method does not say.
        Inside a handler it ends with the handler's exchange, unless ``detach``: then ``on_done(subrequest)``, a ``def``
        or an ``async def``, is called with its outcome. Raises RuntimeError where the upstream is not open,
        LocalProtocolError for what cannot be sent, TooDeep.
        """
        return self._start(method, target, b"", options)

    def _start(self, method: str, target: str, message: bytes, options: Any) -> Subrequest:
        """``message``: what a framing has made of it; HTTP makes its own."""
        if self.framing is not None and not message:
            raise RuntimeError(f"upstream {self.name!r} speaks no HTTP: send(message) is how it is asked")
        thread = get_ident()
        client = self._clients.get(thread) or self._elsewhere()
        started = monotonic()
        sub = Subrequest(client, method, target, started)
        host = current_host.get()
        exchange = None if host is None else exchange_of(host)
        if exchange is not None:
            sub.host, sub.exchange = host, exchange
        if message:
            sub.body, sub.may_repeat = message, False
        else:
            say(sub, options, b"" if exchange is None else exchange.handed_on or hand_on(exchange, client))
        sub.until = started + client.limits.total_timeout
        if options:
            if "timeout" in options:
                sub.until = started + options["timeout"]
            if "detach" in options or "on_done" in options:
                _detach(sub, options.get("detach"), options.get("on_done"))
        if exchange is not None and not sub.detached:
            if exchange.children is None:
                exchange.children = [sub]
            else:
                exchange.children.append(sub)
        if client.thread == thread:
            client.begin(sub)
        else:
            client.begin_from_elsewhere(sub)
        return sub

    def send(self, message: bytes | str, **options: Unpack[SendOptions]) -> Subrequest:
        """Ask a ``tcp`` upstream: one message out, framed, one back; ``await`` gives its bytes.

        Keywords: timeout, detach, on_done (see ``request``). Raises RuntimeError, LocalProtocolError.
        """
        if self.framing is None:
            raise RuntimeError(f"upstream {self.name!r} speaks HTTP: get, post and so on; send is for tcp members")
        framed = self.framing(self.limits.body_size).encode(message.encode() if isinstance(message, str) else message)
        return self._start("SEND", "", framed, options)

    def forward(self, request: Forwardable, **options: Unpack[ForwardOptions]) -> Subrequest:
        """Stream a handler's request to this upstream and its answer back: ``return users.forward(request)``.

        Hop-by-hop fields go no further, the usual forwarded fields are set. Keywords: target (the request's own if not
        given), headers (added, or put in the place of the request's), keep_host (the client's Host, not the member's),
        timeout (until the answer's head). In a route with ``stream=True`` nothing of the body is kept. A client that
        leaves cancels it.
        """
        method, target, asked = forwarded(request, options)
        return self._start(method, target, b"", asked)

    def map(
        self, targets: Iterable[str], *, limit: int = 8, as_completed: bool = False, **options: Unpack[MapOptions]
    ) -> Map:
        """Ask for many without starting all: ``async for answer in users.map(targets)``; in a ``def``, ``for``.

        At most ``limit`` are under way or wait to be taken. In the order of ``targets``, or with ``as_completed`` as
        they come. Keywords: method, and those of ``request``. The first failure is raised where its answer would be,
        and ends it. Raises ValueError.
        """
        return Map(self, targets, limit, as_completed, options)

    def client_of(self, thread: int) -> Client | None:
        """What works for it on the loop of that thread; from any thread."""
        return self._clients.get(thread)

    # Opening.

    async def __aenter__(self) -> Upstream:
        opened = self.opened()
        await opened.__aenter__()
        self._stack.append(opened)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stack.pop().__aexit__(kind, error, trace)

    @asynccontextmanager
    async def opened(self, grace: float = math.inf) -> AsyncIterator[None]:
        """Open on this loop during the block; at its end the rest of what is under way is cancelled.

        Detached subrequests that stand alone are waited for, ``grace`` seconds; a handler's are its server's to drain.
        Several may do so at once: they share what the first has opened.
        """
        thread = get_ident()
        if thread in self._clients:
            self._opened[thread] += 1
            try:
                yield
            finally:
                await self._leave(thread, grace)
            return
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Loop.current().run)
            mark_opened()
            self._clients[thread] = Client(self, tasks)
            self._opened[thread] = 1
            try:
                yield
            except Exception as error:
                failure = error  # the block's own, raised below: a task group would wrap it in an ExceptionGroup
            finally:
                await self._leave(thread, grace)
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _leave(self, thread: int, grace: float) -> None:
        self._opened[thread] -= 1
        if self._opened[thread]:
            return
        client = self._clients[thread]
        try:
            with anyio.move_on_after(grace):
                await client.detached.wait()
        finally:
            del self._clients[thread], self._opened[thread]
            client.close()

    def _elsewhere(self) -> Client:
        """In a thread without a loop of its own, or on a loop that has not opened it: the one opened last."""
        for client in reversed(list(self._clients.values())):
            return client
        raise RuntimeError(
            f"upstream {self.name!r} is not open: start its app (app.start()), or use it in a block, "
            f"'async with Upstream(...) as users:'"
        )


def _detach(sub: Subrequest, detach: bool | None, on_done: OnDone | None) -> None:
    if sub.stream:
        raise TypeError("a streamed answer is somebody's to take, and a detached subrequest is nobody's: leave out one")
    if not detach:
        raise TypeError("on_done is for detach=True: what is not detached is awaited")
    sub.detached = sub.more = True
    sub.on_done = on_done
    sub.client.detached.begin(sub)


def _declared_again(kind: type[Upstream], members: tuple[UpstreamMember, ...], options: dict[str, Any]) -> Upstream:
    return kind(*members, **options)
