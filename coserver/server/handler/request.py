"""The request for a handler. Its body has been read before the handler starts, or ``stream()`` reads it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import anyio

from ...hooks.suspension import await_unseen
from ...hooks.workers import in_worker
from ...protocol.errors import RemoteProtocolError
from ...protocol.fields import Headers, RawFields
from ...protocol.head import RequestHead
from ...protocol.jsons import decode_json
from ...protocol.values import decode_text, parse_urlencoded
from ...transport.peer import host_of
from ...transport.tls_info import TlsInfo
from ..limits import Limits
from .errors import ClientLeft, HTTPException, too_much
from .params import Params, RequestHeaders

if TYPE_CHECKING:
    from ..connection.base import Connection
    from ..http.exchange import HttpExchange
    from ..service import Service
    from .forms import Form
    from .trusted_proxies import Trust
    from .uploads import Spool


_process = (0, "")  # the process id, and the begin of its request ids


def make_request_id(number: int) -> str:
    """Make an id for the exchange ``number``. No other process on any machine makes the same id."""
    global _process
    pid = os.getpid()
    if _process[0] != pid:  # the first id of this process, perhaps after a fork
        _process = (pid, os.urandom(6).hex())
    return f"{_process[1]}-{number:x}"


class Request:
    """One HTTP request.

    ``params`` are the path's parameters. Most other values are worked out at their first use.
    """

    # Defaults of the class, not set one by one: most requests never change them.
    _body: bytes | None = b""
    _file: IO[bytes] | None = None
    _headers: Headers | None = None
    _query: Params[str] | None = None
    _cookies: Params[str] | None = None
    _form: Form | None = None
    spool: Spool | None = None  # the temporary file, if the body is not in memory
    _pieces: Callable[[], Awaitable[bytes]] | None = None
    _client: str | None = None
    _request_id: str | None = None
    trailers_raw: RawFields = []  # noqa: RUF012 - replaced, never changed

    def __init__(
        self,
        head: RequestHead,
        number: int,
        peer: str | None,
        params: Mapping[str, Any],
        connection: Connection | None = None,
    ) -> None:
        self.head = head
        self.id = number
        self._peer = peer
        self.params = params
        self._connection = connection  # not the exchange: it refers to this request, so they would be a reference cycle

    @property
    def peer(self) -> str:
        """The client's address as text; a proxy's, where one stands between."""
        if self._peer is None:
            self._peer = self._connection.peer if self._connection is not None else ""
        return self._peer

    if not TYPE_CHECKING:  # a checker shall find a misspelt name

        def __getattr__(self, name: str) -> Any:
            """Python asks this for a name that is not there: another framework's name has a message of its own."""
            if name[:1] != "_":
                from .other_frameworks import REQUEST, missing_attribute

                if (error := missing_attribute(self, name, REQUEST)) is not None:
                    raise error
            return object.__getattribute__(self, name)  # raises the usual error, or that of a property again

    def __repr__(self) -> str:
        return f"<Request {self.id} {self.method} {self.target} from {self.peer}>"

    @property
    def method(self) -> str:
        """The method as sent, in capitals: "GET" (RFC 9110 §9)."""
        return self.head.method

    @property
    def target(self) -> str:
        """The request-target as sent (RFC 9112 §3.2)."""
        return self.head.target

    @property
    def path(self) -> str:
        """The target's path, percent-decoded."""
        return self.head.plain_path

    @property
    def query_string(self) -> str:
        """The target's text after the "?", as sent."""
        return self.head.query

    @property
    def query(self) -> Params[str]:
        """The query's parameters, decoded (WHATWG URL §5.1). Raises HTTPException (400) beyond ``Limits.form_fields``.

        ``query["page"]`` is the first value; without one the client gets a 400. ``query.get("page", 1, type=int)`` is a
        number; for any other text the client gets a 400. ``query.get_all("tag")`` has all values.
        """
        if self._query is None:
            try:
                pairs = parse_urlencoded(self.head.query.encode(), self._limits.form_fields)
            except RemoteProtocolError as error:
                raise too_much(f"The query is too long: {error.reason}", "form_fields", 400) from error
            self._query = Params("query parameter", pairs)
        return self._query

    @property
    def cookies(self) -> Params[str]:
        """The client's cookies (RFC 6265 §5.4). Of equal names the first one counts. Invalid ones are left out."""
        if self._cookies is None:
            from ...protocol.cookies import parse_cookies

            fields = [value for name, value in self.head.fields if name == b"cookie"]
            self._cookies = Params("cookie", parse_cookies(fields))
        return self._cookies

    @property
    def _limits(self) -> Limits:
        connection = self._connection
        if connection is None:
            return Limits()
        exchange = connection.find_exchange(self.id)
        return connection.service.limits if exchange is None else exchange.limits

    @property
    def http_version(self) -> str:
        """The HTTP version, "1.1" or "1.0"."""
        return f"1.{self.head.minor}"

    @property
    def host(self) -> str:
        """The authority that the request is for: the target's, else the Host field's; "" if HTTP/1.0 sent none.

        Behind trusted peers it is the host in their X-Forwarded-Host, or Forwarded.
        """
        trust = self._trust
        said = trust.host(self.peer, self.head.fields) if trust is not None else ""
        return said or self.head.host.decode("ascii")

    @property
    def client(self) -> str:
        """The client's address without a port: the peer's; behind trusted peers, that in their X-Forwarded-For, or
        Forwarded.

        "unix" for a client on a UNIX socket. See ``Settings.trusted_peers``, ``forwarded_fields``.
        """
        if self._client is None:
            trust = self._trust
            self._client = trust.client(self.peer, self.head.fields) if trust is not None else host_of(self.peer)
        return self._client

    @property
    def trusts_peer(self) -> bool:
        """Whether the peer is one of ``Settings.trusted_peers``."""
        trust = self._trust
        return trust is not None and trust.trusts(self.peer)

    def forwarded_fields(self) -> list[tuple[str, str]]:
        """The fields that tell an upstream of the client: X-Forwarded-For, -Proto, -Host. See ``Upstream.forward``."""
        from .gateway import forwarded_fields

        return forwarded_fields(self)

    @property
    def mount(self) -> str:
        """The prefix below which the handler's app is mounted, "/api"; "" if it is not mounted.

        Raises RuntimeError after the response has been sent.
        """
        if self._connection is None:
            return ""
        exchange = self._under_way("mount")
        endpoint = exchange.endpoint
        if exchange.failed:  # it is an error handler
            mount: str = exchange.connection.service.router.mount_of(endpoint, self.head.path)
            return mount
        return endpoint.mount

    def forward_target(self, target: str | None = None, strip: str | None = None, dot_segments: str = "pass") -> str:
        """The raw target for the next hop: ``target``, or this request's without ``strip``. See ``Upstream.forward``.

        Raises ValueError, TypeError; HTTPException (400) for a dot segment that is refused.
        """
        from .gateway import forward_target

        return forward_target(self, target, strip, dot_segments)

    @property
    def scheme(self) -> str:
        """The scheme, "http" or "https": by a trusted peer's X-Forwarded-Proto, or Forwarded; else the connection's."""
        spoken, trust = "http" if self.tls is None else "https", self._trust
        return trust.scheme(self.peer, self.head.fields, spoken) if trust is not None else spoken

    @property
    def tls(self) -> TlsInfo | None:
        """The TLS version and cipher, and the client's certificate; None without TLS. A proxy's TLS does not count."""
        return self._connection.tls if self._connection is not None else None

    @property
    def request_id(self) -> str:
        """The X-Request-ID of a trusted peer, if it has 1 to 128 visible ASCII characters; else a new id."""
        if self._request_id is None:
            trust = self._trust
            given = trust.request_id(self.peer, self.head.fields) if trust is not None else None
            self._request_id = given or make_request_id(self.id)
        return self._request_id

    @property
    def _trust(self) -> Trust | None:
        return self._connection.service.trust if self._connection is not None else None

    @property
    def headers(self) -> Headers:
        """The request's fields. ``headers[name]`` raises MissingValue, a 400, if the client left the field out."""
        if self._headers is None:
            self._headers = RequestHeaders(self.head.fields)
        return self._headers

    @property
    def trailers(self) -> Headers:
        """The fields after a chunked body; empty until the body has been read (RFC 9110 §6.5)."""
        return Headers(self.trailers_raw)

    @property
    def body(self) -> bytes:
        """The whole body. Raises RuntimeError in a route with ``stream=True``: use ``stream()`` there."""
        if self._body is None:
            file = self.body_file
            self._body = file.read()
            file.seek(0)
        return self._body

    @property
    def body_file(self) -> IO[bytes]:
        """The body as a binary file, at its start. It is on disk if it is longer than ``Limits.body_buffer``."""
        if self._pieces is not None:
            raise RuntimeError(
                "this route has stream=True: read 'async for piece in request.stream()' (in a def: 'for')"
            )
        if self._file is None:
            from io import BytesIO

            self._file = BytesIO(self._body or b"")
        self._file.seek(0)
        return self._file

    def text(self) -> str:
        """The body as text, decoded by the charset of Content-Type, or as UTF-8. Raises HTTPException (400)."""
        content_type = self.headers.get("content-type", "")
        _, _, charset = content_type.lower().partition("charset=")
        charset = charset.split(";")[0].strip(" \"'") or "utf-8"
        try:
            return decode_text(self.body, charset)
        except ValueError as error:
            raise HTTPException(400, f"The body is not text in {charset}: {error}") from error

    def json(self) -> Any:
        """The body decoded from JSON (RFC 8259): UTF-8, without NaN. Raises HTTPException (400) if it is not JSON.

        Integers keep every digit. A handler may return this value again.
        """
        try:
            return decode_json(self.body)
        except ValueError as error:
            raise HTTPException(400, f"The body is not JSON: {error}") from error

    def form(self) -> Form:
        """The body as a form, urlencoded or multipart (RFC 7578): str for text, Upload for a file. It is parsed once.

        Raises HTTPException: 400 if the body is no form, 413 beyond ``Limits.form_fields`` or ``Limits.form_text``, 415
        for another Content-Type. Raises RuntimeError in a route with ``stream=True``: use ``stream()`` there.
        """
        if self._form is None:
            from .forms import read_form

            self.body_file  # noqa: B018 - raises RuntimeError for a stream
            self._form = read_form(self, self._limits)
        return self._form

    def stream(self) -> RequestStream:
        """The body piece by piece as it comes: by ``async for``, or in a ``def`` by ``for``.

        Nothing is read ahead: the client waits while the handler works. This works in every route, but only with
        ``stream=True`` does the handler start before the whole body has come. Raises ClientLeft if the client leaves
        before the end of the body.
        """
        return RequestStream(self._pieces or self._whole())

    def _whole(self) -> Callable[[], Awaitable[bytes]]:
        file = self.body_file

        async def read() -> bytes:
            return file.read(64 * 1024)

        return read

    def send_early_hints(self, fields: Mapping[str, str] | Iterable[tuple[str, str]]) -> Awaitable[None]:
        """Send 103 Early Hints at once, before the response (RFC 8297): ``{"Link": "</a.css>; rel=preload"}``.

        Write ``await request.send_early_hints(...)``; in a ``def`` leave out the await. A client of HTTP/1.0 gets
        nothing. Raises LocalProtocolError for an invalid field, RuntimeError once the response has begun, ClientLeft.
        """
        sending = self._send_early_hints(list(fields.items() if isinstance(fields, Mapping) else fields))
        if not in_worker():
            return sending
        await_unseen(sending)
        return _SENT

    async def _send_early_hints(self, fields: list[tuple[str, str]]) -> None:
        exchange = self._under_way("send_early_hints()")
        if exchange.status:
            raise RuntimeError("early hints come before the response, and this one has begun")
        try:
            await exchange.carrier.send_interim(exchange, 103, fields)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ClientLeft("the client left before its early hints") from error

    def answer_last_hop(self) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Status, fields and body of the answer to OPTIONS or TRACE with ``Max-Forwards: 0`` (RFC 9110 §7.6.2).

        None for any other request, which is passed on.
        """
        from .gateway import answer_last_hop

        return answer_last_hop(self)

    async def pass_interim(self, status: int, fields: list[tuple[str, str]]) -> None:
        """Send an interim response of an upstream, unless the response has begun. A second 100 is left out."""
        exchange: Any = self._connection.find_exchange(self.id) if self._connection is not None else None
        if exchange is not None and not exchange.status and not (status == 100 and exchange.continued):
            await exchange.carrier.send_interim(exchange, status, fields)

    def after(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        """Call ``function``, a ``def`` or an ``async def``, after the response has been sent.

        Several functions are called in turn. The client does not wait for them, but a drain does. None is called if the
        handler fails or is cancelled. Raises RuntimeError once the response has been sent.
        """
        exchange = self._under_way("after()")
        if exchange.after is None:
            exchange.after = []
        exchange.after.append(partial(function, *args, **keywords))

    @property
    def service(self) -> Service:
        """The listener's Service. Raises RuntimeError after the response has been sent."""
        service: Service = self._under_way("service").connection.service
        return service

    @property
    def app(self) -> Any:
        """The App of the handler; in a mounted app, that one. Raises RuntimeError after the response has been sent."""
        return self._under_way("app").endpoint.app

    @property
    def content(self) -> bytes:
        """The body if it is in memory; b"" if it is streamed or on disk. Never raises."""
        return self._body or b""

    def _under_way(self, what: str) -> HttpExchange:
        exchange: Any = self._connection.find_exchange(self.id) if self._connection is not None else None
        if exchange is None:
            raise RuntimeError(f"request.{what} is for the handler: its response has been sent already")
        found: HttpExchange = exchange
        return found

    # Called by the exchange.

    def set_body(self, body: bytes) -> None:
        self._body = body

    def set_body_file(self, file: IO[bytes]) -> None:
        self._file, self._body = file, None

    def set_spool(self, spool: Spool) -> None:
        self.spool = spool
        self.set_body_file(spool.file)

    def set_pieces(self, pieces: Callable[[], Awaitable[bytes]]) -> None:
        self._pieces, self._body = pieces, None


class _Sent:
    """What has been sent already, for a caller that awaits it all the same."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_SENT = _Sent()


class RequestStream:
    """A body piece by piece. Iterate once: by ``async for``, or by ``for`` in a ``def`` handler."""

    __slots__ = ("_next",)

    def __init__(self, pieces: Callable[[], Awaitable[bytes]]) -> None:
        self._next = pieces

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> bytes:
        piece = await_unseen(self._next())
        if not piece:
            raise StopIteration
        return piece
