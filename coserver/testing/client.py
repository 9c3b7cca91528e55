"""A client in the app's own event loop, without a socket between the two.

Limits, deadlines, errors, streams, keep-alive, hang-ups and the drain are the server's own, as in production.

    async with testing.client(app) as c:
        r = await c.get("/items/3")
        assert r.json() == {"id": 3}
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Unpack
from urllib.parse import urljoin

import anyio

from ..app.app import App
from ..app.config.settings import Options
from .app_host import Host, Link, hosted
from .checks import unleaking, until_polling
from .conversation import Conversation
from .cookies import Cookies
from .http_connection import Line
from .request import HOST, Asked, Outgoing, build, clean_target
from .response import Disconnected, Response, StreamedResponse

#: As many as browsers follow.
_MOST_REDIRECTS = 20


class ClientOptions(Options, total=False):
    """The keywords of ``client`` and ``sync_client``: those of ``App.serving``, and the client's own.

    ``raise_errors``: raise in the test what a handler raised, unless an error handler of the app expects it; False
    gives the 500 that clients get. ``timeout``: seconds for an answer, None for no limit. ``checks``: do the order
    check and the leak check at the end of the block.
    """

    raise_errors: bool
    follow_redirects: bool
    timeout: float | None
    checks: bool


@dataclass
class _Manners:
    """The client's own options."""

    raise_errors: bool = True
    follow_redirects: bool = False
    timeout: float | None = 30.0  # a test that hangs fails with a message, long before a CI job is ended
    checks: bool = True


_OWN = tuple(field.name for field in fields(_Manners))


class Client:
    """Sends requests to one app. Connections are kept and used again; several requests at once take one connection
    each.
    """

    def __init__(self, host: Host, manners: _Manners) -> None:
        self.app = host.app
        self.cookies = Cookies()
        self._host = host
        self._manners = manners
        self._idle: list[Line] = []

    def __repr__(self) -> str:
        return f"<Client of {self.app.name!r}, {self.connections} connections>"

    @property
    def connections(self) -> int:
        """The number of connections that the app has open now."""
        return self._host.connections

    # Requests.

    async def get(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("GET", target, **asked)

    async def head(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("HEAD", target, **asked)

    async def options(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("OPTIONS", target, **asked)

    async def post(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("POST", target, **asked)

    async def put(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("PUT", target, **asked)

    async def patch(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("PATCH", target, **asked)

    async def delete(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See ``request``."""
        return await self.request("DELETE", target, **asked)

    async def request(self, method: str, target: str, **asked: Unpack[Asked]) -> Response:
        """Send a request, and read the whole answer. The keywords are those of ``Asked``.

        Raises what the handler raised (see ``raise_errors``), Disconnected, TimeoutError; TypeError and ValueError for
        a request that contradicts itself.
        """
        request = build(method, target, asked)
        history: list[Response] = []
        timeout = asked.get("timeout", self._manners.timeout)
        while True:
            with anyio.move_on_after(timeout):
                response = await self._whole(request)
                response.history = tuple(history)
                location = self._leads_on(response, asked)
                if location is None:
                    return response
                request = redirected(request, response.status, location)
                history.append(response)
                if len(history) > _MOST_REDIRECTS:
                    raise ValueError(f"{history[0].request!r}: redirected more than {_MOST_REDIRECTS} times")
                continue
            raise TimeoutError(f"{request!r}: no whole answer within {timeout} s (timeout)")

    @asynccontextmanager
    async def stream(self, method: str, target: str, **asked: Unpack[Asked]) -> AsyncIterator[StreamedResponse]:
        """Send a request, and stream the answer: ``async with client.stream("GET", "/events") as r: async for piece in
        r:``.

        Follows no redirect. The client leaves at the end of the block: a handler that still runs is cancelled.
        """
        request = build(method, target, asked)
        timeout = asked.get("timeout", self._manners.timeout)
        self.cookies.give(request)
        line = await self._line()
        try:
            with self._raising(line.link):
                head = await line.ask(request, timeout)
            self.cookies.take(request, head)
            with self._raising(line.link):
                yield StreamedResponse(head, line, timeout)
        finally:
            await self._done(line)

    @asynccontextmanager
    async def tcp(self, name: str | None = None) -> AsyncIterator[Conversation]:
        """Connect to an ``@app.tcp`` handler by its name, or to the first. The end of the block closes the connection.

        "http" is the HTTP listener: it takes raw bytes, for requests that no client would send. Raises KeyError.
        """
        link = await self._host.connect(self._host.name_of("tcp", name))
        try:
            yield Conversation(link, self._manners.timeout, self._raise_failure)
        finally:
            self._host.failures.take(link.accepted.id, broken=False)
            link.leave()

    # Private.

    async def _whole(self, request: Outgoing) -> Response:
        """Send one request, and read its whole answer."""
        self.cookies.give(request)
        line = await self._line()
        try:
            with self._raising(line.link) as failures:
                head = await line.ask(request, None)
                self.cookies.take(request, head)
                pieces = []
                while (piece := await line.piece()) is not None:
                    pieces.append(piece)
        finally:
            await self._done(line)
        response = Response(head, b"".join(pieces))
        response.trailers = line.trailers
        response.failure = failures[0] if failures else None
        return response

    async def _line(self) -> Line:
        """An idle connection that the server still reads from, or a new one."""
        while self._idle:
            line = self._idle.pop()
            if line.link.alive:
                return line
            line.link.leave()
        return Line(await self._host.connect(self._host.name_of("http")), self._host.tasks)

    async def _done(self, line: Line) -> None:
        """Keep the connection if it can serve another request."""
        self._host.failures.take(line.link.accepted.id, broken=False)
        if await line.finish():
            self._idle.append(line)

    @contextmanager
    def _raising(self, link: Link) -> Iterator[list[BaseException]]:
        """Raise the handler's exception instead of the client's error. With ``raise_errors=False`` it is in the list
        after the block.
        """
        failures: list[BaseException] = []
        try:
            yield failures
        except Disconnected as error:
            self._raise_failure(link, error)
            raise
        if (failure := self._raise_failure(link, None)) is not None:
            failures.append(failure)

    def _raise_failure(self, link: Link, error: Exception | None) -> BaseException | None:
        failure = self._host.failures.take(link.accepted.id, broken=error is not None)
        if failure is not None and self._manners.raise_errors:
            raise failure from error
        return failure

    def _leads_on(self, response: Response, asked: Asked) -> str | None:
        """The target of a redirect that is to be followed; None for any other answer."""
        if not asked.get("follow_redirects", self._manners.follow_redirects):
            return None
        return response.headers.get("location") if response.status in (301, 302, 303, 307, 308) else None

    def leave(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().link.leave()


def redirected(request: Outgoing, status: int, location: str) -> Outgoing:
    """The request that follows a redirect (RFC 9110 §15.4), as browsers make it.

    Raises ValueError if it leads out of the app, TypeError if it needs a body again that can be sent only once.
    """
    target = clean_target(urljoin(f"http://{HOST}{request.target}", location))
    headers = [(name, value) for name, value in request.headers if name.lower() != "cookie"]
    to_get = (status == 303 and request.method != "HEAD") or (status in (301, 302) and request.method == "POST")
    if to_get:
        kept = [(name, value) for name, value in headers if not name.lower().startswith(("content-", "transfer-"))]
        return Outgoing("GET", target, kept)
    if not isinstance(request.body, bytes | None):
        raise TypeError(f"{request!r}: a {status} needs the body again, and an iterator is sent only once; use bytes")
    return Outgoing(request.method, target, headers, request.body)


@asynccontextmanager
async def client(app: App, **options: Unpack[ClientOptions]) -> AsyncIterator[Client]:
    """Run ``app``, with its lifespans, in the caller's loop, and give a client for it.

    The keywords are those of ``ClientOptions``. At the end the app is drained, and both checks are made. Raises
    SetupError, LeakError, OutOfOrder.
    """
    manners = _Manners(**{name: options.pop(name) for name in _OWN if name in options})  # type: ignore[misc]
    async with unleaking() if manners.checks else nullcontext(), hosted(app, options) as host:
        await until_polling()
        one = Client(host, manners)
        yield one
        one.leave()
    if manners.checks:
        host.order.check()
