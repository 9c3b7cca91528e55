"""Runs an ASGI application for an exchange (ASGI 3.0, HTTP message format 2.4; 2.0 is adapted).

The application runs in the exchange's own task, in a context of its own. If it goes on after the last piece of its
answer, the connection goes on in another task, and this one becomes work after the response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Mapping, MutableMapping
from contextvars import Context, copy_context
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute

from ..protocol.errors import LocalProtocolError, RemoteProtocolError
from ..server.handler.errors import ClientLeft
from ..server.http.carrier import APART, SENT, Sent
from ..transport.cancellation import is_cancellation
from ..transport.tls_info import TlsInfo
from ..upstream.parent import current_connection
from .answer import NOTHING, PARTLY, STARTED, WHOLE, Answer, ClientGone

if TYPE_CHECKING:
    from ..server.connection.base import Connection
    from ..server.http.exchange import HttpExchange
    from .endpoint import HostedEndpoint
    from .wsgi import WsgiRun

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Bytes of a body that is there already, in one message.
_PIECE = 64 * 1024


class AsgiRun(Answer):
    """One run of an ASGI application. ``work`` is its coroutine."""

    __slots__ = (
        "_body", "_body_read", "_changed", "_trailers", "_wants_trailers", "apart", "context", "endpoint", "scope",
        "work",
    )  # fmt: skip

    work: Any
    context: Context

    def __init__(self, exchange: HttpExchange, endpoint: HostedEndpoint) -> None:
        super().__init__(exchange)
        self.endpoint = endpoint
        self.scope = make_scope(exchange, endpoint)
        self.apart = False
        self._body_read = False
        self._body: Any = None  # a file, if the server has read the body already
        self._wants_trailers = False
        self._changed: anyio.Event | None = None
        request = exchange._request
        if request is not None and exchange.body_done and (request.spool is not None or request.content):
            self._body = request.body_file

    @property
    def name(self) -> str:
        """The endpoint as the framework knows it, "shop.api.read_item"; else the application's name."""
        return self.endpoint.names_of(self.scope)[0]

    @property
    def route(self) -> str:
        return self.endpoint.names_of(self.scope)[1]

    def client_left(self) -> bool:
        if self.endpoint.cancels:
            return False
        self.gone = True
        self._wake()
        return True

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def receive(self) -> Message:
        """The next event: a piece of the body, then the disconnect."""
        if self.state is WHOLE or self.gone:
            return {"type": "http.disconnect"}
        if not self._body_read:
            if self._body is not None:
                data = self._body.read(_PIECE)
                self._body_read = not (more := len(data) == _PIECE)
                return {"type": "http.request", "body": data, "more_body": more}
            exchange = self.exchange
            if exchange.body_done:
                self._body_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            try:
                data = await exchange.next_piece()
            except (ClientLeft, RemoteProtocolError) as error:
                # the client's failure, not the application's: it hears of a disconnect, the client of its mistake
                self.refused = error if isinstance(error, RemoteProtocolError) else None
                self.gone = True
                self._wake()
                return {"type": "http.disconnect"}
            self._body_read = exchange.body_done
            return {"type": "http.request", "body": data, "more_body": not exchange.body_done}
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take an event of the answer. Raises ClientGone, LocalProtocolError, RuntimeError if it is out of order."""
        kind, state = message["type"], self.state
        if kind == "http.response.body" and (state is STARTED or state is PARTLY):
            piece = message.get("body", b"")
            if type(piece) is not bytes:
                piece = _as_bytes(piece)
            if state is STARTED and not self._wants_trailers and not message.get("more_body", False):
                await self.send_whole(piece)
                self._wake()
                return
            await self._send_piece(piece, last=not message.get("more_body", False))
        elif kind == "http.response.start" and state is NOTHING:
            self._wants_trailers = bool(message.get("trailers", False))
            self._trailers: list[tuple[bytes, bytes]] | None = None
            self.begin(message["status"], message.get("headers", ()))
            if not self._wants_trailers:
                return
        else:
            await self._send_other(kind, message)

    async def _send_piece(self, piece: bytes, *, last: bool) -> None:
        if self._trailers is not None:
            raise RuntimeError("http.response.body came after the last piece; only http.response.trailers may follow")
        if piece or self.state is STARTED:
            await self.send_piece(piece)
        if not last:
            return
        if self._wants_trailers:
            self._trailers = []
            return
        await self.finish()
        self._wake()

    async def _send_other(self, kind: str, message: Message) -> None:
        if self.gone:
            raise ClientGone("the client has left")
        if kind == "http.response.early_hint" and self.state is NOTHING:
            links = [("link", bytes(link).decode("latin-1")) for link in message["links"]]
            await self.exchange.carrier.send_interim(self.exchange, 103, links)
        elif kind == "http.response.pathsend" and self.state is STARTED:
            await self.send_file(message["path"])
            self._wake()
        elif kind == "http.response.trailers" and self._wants_trailers and self._trailers is not None:
            self._trailers += [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            if not message.get("more_trailers", False):
                await self.finish([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._trailers])
                self._wake()
        else:
            raise RuntimeError(f"{_ORDER[self.state]}; got {kind!r} (ASGI, HTTP connection scope)")

    def set_apart(self) -> None:
        """The answer is whole, and the application goes on: leave the connection to another task."""
        exchange = self.exchange
        self.apart = exchange.set_apart()
        if self.apart:
            self.context.run(current_connection.set, None)


_ORDER = {
    NOTHING: "a response begins with http.response.start",
    STARTED: "after http.response.start comes http.response.body",
    PARTLY: "after http.response.body comes http.response.body",
    WHOLE: "the response is complete, so no message may follow",
}


async def run_asgi(application: AsgiApp, exchange: HttpExchange, endpoint: HostedEndpoint) -> Sent:
    """Run an application for the exchange. Returns when its answer is whole and it has ended.

    Raises what the application raised before it began to answer; BrokenOff, ClientLeft, RemoteProtocolError.
    """
    run = AsgiRun(exchange, endpoint)
    exchange.hosted = run
    failure: BaseException | None = None
    run.context = copy_context()
    connection = exchange.connection
    cancels = connection.cancels
    if cancels is None:
        cancels = connection.cancels = connection.service.loop.cancels()
    try:
        work = run.work = run.context.run(application, run.scope, run.receive, run.send)
        if type(work) is not CoroutineType:
            work = run.work = _await(work)
        await drive(run, work)
    except BaseException as error:
        failure = error
    try:
        if cancels():
            await _meet_cancellation()
        run.end(failure)
    finally:
        del failure  # it holds this frame: a cycle
        run.work = None
    return APART if run.apart else SENT


async def _meet_cancellation() -> None:
    """Let a pending ``cancel()`` that the application made strike here. At the task's end it would stop the server."""
    try:
        await anyio.lowlevel.checkpoint()
    except BaseException as error:
        if is_cancellation(error):
            raise


async def _await(work: Any) -> None:
    if not hasattr(work, "__await__"):
        raise TypeError(f"an ASGI application is an async callable; it returned {type(work).__name__}")
    await work


@coroutine
def drive(run: AsgiRun | WsgiRun, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, None]:
    """``yield from work``, each step in the run's context. If it waits after its answer, it is set apart."""
    step, send, throw = run.context.run, work.send, work.throw
    try:
        trap = step(send, None)
        while True:
            if run.state is WHOLE and not run.apart:
                run.set_apart()
            try:
                value = yield trap
            except GeneratorExit:
                step(work.close)
                raise
            except BaseException as error:
                trap = step(throw, error)
            else:
                trap = step(send, value)
    except StopIteration:
        return


def make_scope(exchange: HttpExchange, endpoint: HostedEndpoint) -> Scope:
    """The connection scope of a request."""
    head, connection = exchange.head, exchange.connection
    client, server, scheme, tls = known(connection)
    if connection.service.trust is not None:
        request = exchange.request
        if request.trusts_peer:
            scheme = request.scheme
            if (address := request.client) != "unix" and (client is None or address != client[0]):
                client = (address, 0)
    root_path, path, raw_path = endpoint.root_path, head.plain_path, head.path
    if root_path:
        path, raw_path = root_path + path, endpoint.raw_root_path + raw_path
    state = endpoint.state
    extensions: dict[str, Any] = {
        "http.response.trailers": {},
        "http.response.early_hint": {},
        "http.response.pathsend": {},
    }
    if tls is not None:
        extensions["tls"] = dict(tls)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1" if head.minor else "1.0",
        "method": head.method,
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path.encode("ascii"),
        "query_string": head.query.encode("ascii"),
        "root_path": endpoint.scope_root_path,
        "headers": list(head.fields),
        "client": client,
        "server": server,
        "extensions": extensions,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


def known(connection: Connection) -> tuple[tuple[str, int] | None, tuple[str, int | None] | None, str, Any]:
    """Client, server, scheme and TLS extension of a connection; found out once."""
    found: Any = connection.known
    if found is None:
        info = connection.tls
        found = connection.known = (
            _address(connection._peer),
            _server(connection),
            "http" if info is None else "https",
            None if info is None else _tls(info),
        )
    return found  # type: ignore[no-any-return]


def _address(peer: Any) -> tuple[str, int] | None:
    if isinstance(peer, tuple):
        return peer[:2]
    host, colon, port = str(peer).rpartition(":")
    return (host.strip("[]"), int(port)) if colon and port.isdigit() else None


def _server(connection: Connection) -> tuple[str, int | None] | None:
    try:
        local: Any = connection.stream.extra(SocketAttribute.local_address)
    except (anyio.TypedAttributeLookupError, OSError):
        return None
    if isinstance(local, tuple):
        return (local[0], local[1])
    return (local.decode(errors="replace") if isinstance(local, bytes) else local, None) if local else None


def _tls(info: TlsInfo) -> Mapping[str, Any]:
    """The extension "tls" of the ASGI specification (TLS Extension 0.2), as far as it is known."""
    versions = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
    chain: Iterable[str] = ()
    if info.certificate_der is not None:
        from ssl import DER_cert_to_PEM_cert

        chain = (DER_cert_to_PEM_cert(info.certificate_der),)
    return {
        "server_cert": None,
        "client_cert_chain": tuple(chain),
        "client_cert_name": info.peer_name or None,
        "client_cert_error": None,
        "tls_version": versions.get(info.version),
        "cipher_suite": None,
    }


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise LocalProtocolError(f"a body is bytes; got {type(piece).__name__}: {piece!r:.60}")


def adapt_asgi2(application: Callable[[Scope], Callable[[Receive, Send], Awaitable[None]]]) -> AsgiApp:
    """An ASGI 2 application, a callable of the scope that returns one of receive and send, as ASGI 3."""

    async def adapted(scope: Scope, receive: Receive, send: Send) -> None:
        await application(scope)(receive, send)

    return adapted
