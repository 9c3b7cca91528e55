"""An upstream: the face that a handler asks through. ``users.get("/u/1")`` starts at once and returns a Subrequest.

It belongs to no loop: each loop that serves, or ``async with Upstream(...)``, opens it for itself.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import anyio

from ..protocol.codecs import choose_codec
from ..protocol.framing import FRAMINGS, Framing
from ..protocol.http1_client import choose_response_codec
from ..transport.loop import Loop
from .asking import Asking, say
from .balance import POLICIES
from .client import Client
from .forwarding import Forwardable, ForwardOptions, forwarded
from .gathering import Map
from .limits import UpstreamLimits
from .member import Member
from .parent import current_host, hand_on
from .readers import FramedReader, HttpReader
from .subrequest import OnDone, Subrequest

if TYPE_CHECKING:
    from ssl import SSLContext


class UpstreamOptions(TypedDict, total=False):
    """The keywords of an Upstream, beside its members."""

    policy: str
    limits: UpstreamLimits
    codec: str
    framing: str | Callable[[int], Framing] | None
    tls: SSLContext | None


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


class Upstream:
    """One or more members that serve the same. ``async with Upstream("http://127.0.0.1:8000") as users:``

    A member is a URL or a ``Member``; ``policy`` is a row of POLICIES, ``codec`` as for a server. ``framing``, a row of
    FRAMINGS or a class like them, is for tcp members; ``tls`` for https ones: an ssl.SSLContext, or the system's
    certificates are trusted. Raises ValueError.
    """

    def __init__(
        self,
        *members: str | Member,
        name: str = "",
        policy: str = "round-robin",
        limits: UpstreamLimits | None = None,
        codec: str = "auto",
        framing: str | Callable[[int], Framing] | None = None,
        tls: SSLContext | None = None,
    ) -> None:
        if not members:
            raise ValueError("an upstream has at least one member: Upstream('http://127.0.0.1:8000')")
        self.members = [member if isinstance(member, Member) else Member.parse(member) for member in members]
        if policy not in POLICIES:
            raise ValueError(f"policy is one of {', '.join(map(repr, POLICIES))}; got {policy!r}")
        self.name = name or self.members[0].authority
        self.policy = policy
        self.limits = limits or UpstreamLimits()
        self.codec = choose_codec(codec)
        self.framing = _check_framing(framing, self.members)
        self._own_tls = tls
        self.tls = _check_tls(tls, self.members)
        self._clients: dict[int, Client] = {}  # by the thread of their loops
        self._opened: dict[int, int] = {}  # how often, by thread
        self._stack: list[AbstractAsyncContextManager[None]] = []

    def __repr__(self) -> str:
        state = f"open on {len(self._clients)} loops" if self._clients else "not open"
        return f"<Upstream {self.name!r} {', '.join(member.address for member in self.members)}, {state}>"

    def configure(
        self,
        *,
        members: Sequence[str | Member] = (),
        policy: str | None = None,
        framing: str | Callable[[int], Framing] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        """Change what was declared, before it is opened: what is given takes the place of that, the rest stays.

        ``limits`` are fields of UpstreamLimits. Raises ValueError, TypeError; RuntimeError while it is open.
        """
        changed = Upstream(
            *(members or self.members),
            name=self.name,
            policy=policy or self.policy,
            limits=replace(self.limits, **(limits or {})),
            codec=self.codec,
            framing=framing or self.framing,
            tls=self._own_tls,
        )
        if self._clients and self._declared() != changed._declared():
            raise RuntimeError(f"upstream {self.name!r} is open: it can be changed only before its app starts")
        self.members, self.policy, self.limits = changed.members, changed.policy, changed.limits
        self.framing, self.tls = changed.framing, changed.tls

    def _declared(self) -> tuple[Any, ...]:
        return self.members, self.policy, self.limits, self.framing

    # Asking.

    def get(self, target: str, **options: Unpack[Options]) -> Subrequest:
        """Ask for ``target``, a path with its query; see ``request``."""
        return self._ask("GET", target, options)

    def head(self, target: str, **options: Unpack[Options]) -> Subrequest:
        return self._ask("HEAD", target, options)

    def post(self, target: str, **options: Unpack[Options]) -> Subrequest:
        return self._ask("POST", target, options)

    def put(self, target: str, **options: Unpack[Options]) -> Subrequest:
        return self._ask("PUT", target, options)

    def patch(self, target: str, **options: Unpack[Options]) -> Subrequest:
        return self._ask("PATCH", target, options)

    def delete(self, target: str, **options: Unpack[Options]) -> Subrequest:
        return self._ask("DELETE", target, options)

    def request(self, method: str, target: str, **options: Unpack[Options]) -> Subrequest:
        """Start a request, at once; ``await`` it, or take its ``result()``.

        Keywords: params, headers, json, data (a form), content (bytes or str); ``timeout`` in seconds for the whole.
        Inside a handler it ends with the handler's exchange, unless ``detach``: then ``on_done(subrequest)``, a ``def``
        or an ``async def``, is called with its outcome. Raises RuntimeError where the upstream is not open,
        LocalProtocolError for what cannot be sent, TooDeep.
        """
        return self._ask(method, target, options)

    def _ask(self, method: str, target: str, options: Any) -> Subrequest:
        if self.framing is not None:
            raise RuntimeError(f"upstream {self.name!r} speaks no HTTP: send(message) is how it is asked")
        return self._start(method, target, b"", options)

    def _start(self, method: str, target: str, message: bytes, options: Any) -> Subrequest:
        """``message``: what a framing has made of it; HTTP makes its own."""
        thread = get_ident()
        client = self._clients.get(thread) or self._elsewhere()
        started = monotonic()
        sub = Subrequest(client, method, target, started)
        host = current_host.get()
        exchange = host.exchange if host is not None else None
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

    def reader(self) -> Callable[[], Any]:
        """What makes a reader for each connection."""
        if self.framing is not None:
            framing, size = self.framing, self.limits.body_size
            return lambda: FramedReader(framing(size))
        make, limits = choose_response_codec(self.codec), self.limits.response
        return lambda: HttpReader(make, limits)

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
                await client.wait_detached()
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


def _check_framing(framing: Any, members: Sequence[Member]) -> Callable[[int], Framing] | None:
    tcp = {member.scheme == "tcp" for member in members}
    if len(tcp) > 1:
        raise ValueError("the members of an upstream speak the same: all of them tcp, or none")
    if True not in tcp:
        if framing is not None:
            raise ValueError("a framing is for tcp members, 'tcp://127.0.0.1:9000'")
        return None
    if framing is None:
        raise ValueError(f"tcp members need a framing: {', '.join(map(repr, FRAMINGS))}, or a class like them")
    if isinstance(framing, str):
        if framing not in FRAMINGS:
            raise ValueError(f"framing is one of {', '.join(map(repr, FRAMINGS))}, or a class; got {framing!r}")
        return FRAMINGS[framing]
    made: Callable[[int], Framing] = framing
    return made


def _check_tls(tls: SSLContext | None, members: Sequence[Member]) -> SSLContext | None:
    if not any(member.scheme == "https" for member in members):
        if tls is not None:
            raise ValueError("a TLS context is for https members, 'https://users.example'")
        return None
    import ssl  # 10 ms, for those who need it

    if tls is None:
        return ssl.create_default_context()
    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an ssl.SSLContext; got {tls!r}")
    return tls


def _detach(sub: Subrequest, detach: bool | None, on_done: OnDone | None) -> None:
    if sub.stream:
        raise TypeError("a streamed answer is somebody's to take, and a detached subrequest is nobody's: leave out one")
    if not detach:
        raise TypeError("on_done is for detach=True: what is not detached is awaited")
    sub.detached = True
    sub.on_done = on_done
    sub.client.detach(sub)

