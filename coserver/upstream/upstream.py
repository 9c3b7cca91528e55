"""``Upstream``: the object that a handler sends subrequests through. ``users.get("/u/1")`` starts one at once.

An Upstream belongs to no loop. Each loop that serves, or that enters ``async with Upstream(...)``, opens it for itself.
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

from ..keywords import unknown_keyword
from ..protocol.codecs import choose_codec
from ..protocol.framing import FRAMINGS, Framing
from ..protocol.http1_client import choose_response_codec
from ..transport.loop import Loop
from .connection.readers import FramedReader, HttpReader
from .encode import EncodeOptions, Forwardable, ForwardOptions, encode_request, forward_request
from .gather import Map
from .limits import UpstreamLimits
from .member import UpstreamMember
from .parent import find_parent, hand_on, mark_opened
from .pool.balance import POLICIES, Key
from .pool.client import Client
from .relay import ForwardedSubrequest
from .subrequest import OnDone, Subrequest
from .tls import UpstreamTls

if TYPE_CHECKING:
    from ssl import SSLContext


class UpstreamOptions(TypedDict, total=False):
    """The keywords of ``Upstream``, except the members and the name."""

    policy: str
    key: Key | None
    limits: UpstreamLimits
    codec: str
    framing: str | Callable[[int], Framing] | None
    tls: SSLContext | UpstreamTls | None
    accept_bare_lf: bool


class ConfigureOptions(TypedDict, total=False):
    """The keywords of ``configure``. ``limits`` maps names of fields of UpstreamLimits to their new values."""

    members: Sequence[str | UpstreamMember]
    policy: str | None
    framing: str | Callable[[int], Framing] | None
    limits: Mapping[str, Any]
    tls: UpstreamTls | None
    accept_bare_lf: bool | None


class SendOptions(TypedDict, total=False):
    """The keywords of ``send``."""

    timeout: float
    detach: bool
    on_done: OnDone


class RequestOptions(EncodeOptions, total=False):
    """The keywords of ``request``, ``get`` and the other methods."""

    timeout: float
    detach: bool
    on_done: OnDone


_OPTIONS = RequestOptions.__optional_keys__
#: What other clients call them.
_ELSEWHERE = {"body": "content", "form": "data", "query": "params", "fields": "headers"}


class MapOptions(RequestOptions, total=False):
    """The keywords of ``map``: those of ``request``, and the method."""

    method: str


class Upstream:
    """A group of servers that handlers ask, its members. ``async with Upstream("http://127.0.0.1:8000") as users:``

    ``members`` are URLs or ``UpstreamMember`` objects. ``policy`` is a key of POLICIES. ``key``, for the policy
    "consistent-hash", takes a Subrequest and returns a str or bytes: equal keys go to the same member. ``codec`` is the
    HTTP parser, as for a server. ``framing``, for tcp members, is a key of FRAMINGS or a class of the same kind.
    ``tls``, for https members, is an UpstreamTls or an ssl.SSLContext; without it the system's authorities are
    trusted. ``accept_bare_lf`` takes answers whose lines end with LF alone, as old servers send them; each ends its
    connection. Raises ValueError, TypeError.
    """

    def __init__(
        self,
        *members: str | UpstreamMember,
        name: str = "",
        policy: str = "round-robin",
        key: Key | None = None,
        limits: UpstreamLimits | None = None,
        codec: str = "auto",
        framing: str | Callable[[int], Framing] | None = None,
        tls: SSLContext | UpstreamTls | None = None,
        accept_bare_lf: bool = False,
    ) -> None:
        if not members:
            raise ValueError("an upstream needs at least one member: Upstream('http://127.0.0.1:8000')")
        self.members = [
            member if isinstance(member, UpstreamMember) else UpstreamMember.parse(member) for member in members
        ]
        if policy not in POLICIES:
            raise ValueError(f"policy is one of {', '.join(map(repr, POLICIES))}; got {policy!r}")
        self.name = name or self.members[0].authority
        self.policy = policy
        if key is not None and policy != "consistent-hash":
            raise ValueError(f"a key is for policy 'consistent-hash'; the policy is {policy!r}")
        self.key = key
        self.limits = limits or UpstreamLimits()
        self.codec = choose_codec(codec)
        self.framing = _check_framing(framing, self.members)
        if self.framing is not None and self.limits.check_path:
            raise ValueError("check_path is for members that speak HTTP: a tcp member cannot be asked for a path")
        self.accept_bare_lf = accept_bare_lf
        self._own_tls = tls
        self.tls = _check_tls(tls, self.members)
        #: The name in the members' certificates, where it is not the one in their addresses.
        self.server_name = tls.server_name if isinstance(tls, UpstreamTls) else None
        self._clients: dict[int, Client] = {}  # by the thread of their loops
        self._opened: dict[int, int] = {}  # how often, by thread
        self._stack: list[AbstractAsyncContextManager[None]] = []

    def __repr__(self) -> str:
        state = f"open on {len(self._clients)} loops" if self._clients else "not open"
        return f"<Upstream {self.name!r} {', '.join(member.address for member in self.members)}, {state}>"

    def __reduce__(self) -> Any:
        """Pickle the declaration only: in another process the upstream is not open."""
        options = {
            "name": self.name, "policy": self.policy, "key": self.key, "limits": self.limits, "codec": self.codec,
            "framing": self.framing, "tls": self._own_tls, "accept_bare_lf": self.accept_bare_lf,
        }  # fmt: skip
        return _declare, (type(self), tuple(self.members), options)

    def configure(self, **given: Unpack[ConfigureOptions]) -> None:
        """Change the declaration: the given keywords replace the old values, the rest stays.

        Raises ValueError and TypeError like the constructor; RuntimeError if the upstream is open and anything would
        change.
        """
        policy = given.get("policy") or self.policy
        changed = Upstream(
            *(given.get("members") or self.members),
            name=self.name,
            policy=policy,
            key=self.key if policy == "consistent-hash" else None,
            limits=replace(self.limits, **given.get("limits", {})),
            codec=self.codec,
            framing=given.get("framing") or self.framing,
            tls=given.get("tls") or self._own_tls,
            accept_bare_lf=self.accept_bare_lf if (bare_lf := given.get("accept_bare_lf")) is None else bare_lf,
        )
        if self._clients and changed._declared() != self._declared():
            raise RuntimeError(f"upstream {self.name!r} is open: it can be changed only before its app starts")
        self.members, self.policy, self.limits, self.framing, self._own_tls, self.accept_bare_lf = changed._declared()
        self.tls, self.server_name = changed.tls, changed.server_name

    def _declared(self) -> tuple[Any, ...]:
        """The values that ``configure`` can change."""
        return self.members, self.policy, self.limits, self.framing, self._own_tls, self.accept_bare_lf

    # Sending subrequests.

    def get(self, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """``request`` with GET. ``target`` is a path, with its query if it has one."""
        return self._start("GET", target, b"", options)

    def head(self, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """``request`` with HEAD."""
        return self._start("HEAD", target, b"", options)

    def post(self, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """``request`` with POST."""
        return self._start("POST", target, b"", options)

    def put(self, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """``request`` with PUT."""
        return self._start("PUT", target, b"", options)

    def patch(self, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """``request`` with PATCH."""
        return self._start("PATCH", target, b"", options)

    def delete(self, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """``request`` with DELETE."""
        return self._start("DELETE", target, b"", options)

    def request(self, method: str, target: str, **options: Unpack[RequestOptions]) -> Subrequest:
        """Start a request at once, and return it: ``await`` it, or call its ``result()``.

        Keywords: params, headers, json, data (a form), content (bytes, str, or an iterable of them), stream (settle at
        the head of the response); ``timeout`` in seconds for the whole; ``repeat``: whether it may be sent twice, where
        the method does not tell.

        In a handler the subrequest ends with the handler's exchange. With ``detach`` it goes on, and
        ``on_done(subrequest)``, a ``def`` or an ``async def``, is called at its end.

        Raises RuntimeError if the upstream is not open, LocalProtocolError, TypeError or ValueError for a request that
        cannot be sent, TooDeep for too many subrequests inside each other.
        """
        return self._start(method, target, b"", options)

    def _start(
        self, method: str, target: str, message: bytes, options: Any, kind: type[Subrequest] = Subrequest
    ) -> Subrequest:
        """Start a subrequest. ``message`` holds the framed bytes of ``send``; it is empty for HTTP."""
        if self.framing is not None and not message:
            raise RuntimeError(f"upstream {self.name!r} speaks no HTTP: use send(message)")
        thread = get_ident()
        client = self._clients.get(thread) or self._other_client()
        if options and not options.keys() <= _OPTIONS:
            name = next(name for name in options if name not in _OPTIONS)
            raise unknown_keyword("a request", name, _OPTIONS, _ELSEWHERE)
        started = monotonic()
        sub = kind(client, method, target, started)
        exchange = find_parent()
        if exchange is not None:
            sub.exchange = exchange
        if message:
            sub.body, sub.may_repeat = message, False
        else:
            encode_request(sub, options, b"" if exchange is None else exchange.handed_on or hand_on(exchange, client))
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
            client.begin_from_thread(sub)
        return sub

    def send(self, message: bytes | str, **options: Unpack[SendOptions]) -> Subrequest:
        """Send one framed message to a ``tcp`` upstream; ``await`` gives the bytes of the one that comes back.

        Keywords: timeout, detach, on_done (see ``request``). Raises RuntimeError, LocalProtocolError.
        """
        if self.framing is None:
            raise RuntimeError(f"upstream {self.name!r} speaks HTTP: use get, post and so on; send is for tcp members")
        framed = self.framing(self.limits.body_size).encode(message.encode() if isinstance(message, str) else message)
        return self._start("SEND", "", framed, options)

    def forward(self, request: Forwardable, **options: Unpack[ForwardOptions]) -> Subrequest:
        """Stream a handler's request to this upstream and its response back: ``return users.forward(request)``.

        The target is the request's own, byte for byte (RFC 9110 §7.7), without the prefix ``strip``: "/api" makes
        "/users?x" of "/api/users?x". Whole segments are compared, decoded. Without ``strip`` a mounted app's prefix is
        removed; ``strip=""`` removes nothing. A ``target`` is sent as it is, so it is percent-encoded. Dot segments
        pass; ``dot_segments="refuse"`` answers them with 400.

        Hop-by-hop fields are dropped (RFC 9110 §7.6.1), the usual forwarded fields are set. Keywords: headers (added;
        they replace fields of the same name), keep_host (send the client's Host instead of the member's), timeout in
        seconds (until the head of the response). In a route with ``stream=True`` the body is never in memory as a
        whole. A client that leaves cancels the subrequest. Interim responses (1xx, such as 103 Early Hints) go to the
        client as they come, while the handler waits for the response (RFC 9110 §15.2). OPTIONS and TRACE with
        ``Max-Forwards: 0`` are answered here; a larger number is lowered by one (§7.6.2).

        Raises ValueError if the target has no such prefix, or a given target is not percent-encoded.
        """
        method, target, asked = forward_request(request, options)
        if method in ("OPTIONS", "TRACE") and (given := request.answer_last_hop()) is not None:
            client = self._clients.get(get_ident()) or self._other_client()
            answered = ForwardedSubrequest(client, method, target, monotonic())
            answered.answer_here(*given)
            return answered
        sub = self._start(method, target, b"", asked, ForwardedSubrequest)
        assert isinstance(sub, ForwardedSubrequest)
        sub.pass_on = request.pass_interim
        return sub

    def map(
        self, targets: Iterable[str], *, limit: int = 8, as_completed: bool = False, **options: Unpack[MapOptions]
    ) -> Map:
        """Send many requests, a few at a time: ``async for answer in users.map(targets)``; in a ``def``, ``for``.

        At most ``limit`` subrequests are under way or wait to be taken. Answers come in the order of ``targets``; with
        ``as_completed``, in the order of their completion. Keywords: method, and those of ``request``. The first
        failure is raised in the place of its answer, and ends the iteration. Raises ValueError for a limit below 1.
        """
        return Map(self, targets, limit, as_completed, options)

    def client_of(self, thread: int) -> Client | None:
        """The client on the loop of that thread, None if there is none. From any thread."""
        return self._clients.get(thread)

    def reader(self) -> Callable[[], Any]:
        """The factory that makes the reader of each connection."""
        if self.framing is not None:
            framing, size = self.framing, self.limits.body_size
            return lambda: FramedReader(framing(size))
        make, limits, accept_bare_lf = choose_response_codec(self.codec), self.limits.response, self.accept_bare_lf
        return lambda: HttpReader(make, limits, accept_bare_lf=accept_bare_lf)

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
        """Open the upstream on this loop during the block; at its end, cancel the subrequests under way.

        Detached subrequests of no exchange get ``grace`` seconds to end first; those of an exchange are waited for by
        the drain of its server. Blocks may overlap: they share the client that the first has opened.
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
                failure = error  # of the block; raised below, since a task group would wrap it in an ExceptionGroup
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

    def _other_client(self) -> Client:
        """The client that was opened last, for a thread without a loop or a loop that has not opened this upstream."""
        for client in reversed(list(self._clients.values())):
            return client
        raise RuntimeError(
            f"upstream {self.name!r} is not open: start its app (app.start()), or use it in a block, "
            f"'async with Upstream(...) as users:'"
        )


def _detach(sub: Subrequest, detach: bool | None, on_done: OnDone | None) -> None:
    if sub.stream:
        raise TypeError("stream and detach exclude each other: nobody would read the body; leave one out")
    if not detach:
        raise TypeError("on_done needs detach=True; without detach, await the subrequest")
    sub.detached = sub.more = True
    sub.on_done = on_done
    sub.client.detached.begin(sub)


def _declare(kind: type[Upstream], members: tuple[UpstreamMember, ...], options: dict[str, Any]) -> Upstream:
    return kind(*members, **options)


def _check_framing(framing: Any, members: Sequence[UpstreamMember]) -> Callable[[int], Framing] | None:
    """The class of the framing, called once for each connection; None for HTTP members. Raises ValueError."""
    tcp = {member.scheme == "tcp" for member in members}
    if len(tcp) > 1:
        raise ValueError("the members of an upstream speak one protocol: all of them tcp, or none")
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


def _check_tls(tls: SSLContext | UpstreamTls | None, members: Sequence[UpstreamMember]) -> SSLContext | None:
    """The TLS context for https members, None if there are none. Raises ValueError, TypeError."""
    if not any(member.scheme == "https" for member in members):
        if tls is not None:
            raise ValueError("tls is for https members, 'https://users.example'")
        return None
    if isinstance(tls, UpstreamTls):
        return tls.load()
    import ssl  # takes 10 ms: only for https

    if tls is None:
        return ssl.create_default_context()
    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is an UpstreamTls or an ssl.SSLContext; got {tls!r}")
    return tls
