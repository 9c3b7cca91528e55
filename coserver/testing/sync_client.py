"""The client for tests that are plain functions, and for notebooks: the same methods without ``await``.

The app runs in a thread with a loop of its own.

    with testing.sync_client(app) as c:
        assert c.get("/items/3").json() == {"id": 3}
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar, Unpack

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..app.app import App
from ..app.config.validate import backend_arguments
from .client import Client, ClientOptions, client
from .conversation import Conversation
from .cookies import Cookies
from .request import Asked
from .response import Head, Response, StreamedResponse

T = TypeVar("T")


class SyncStreamedResponse(Head):
    """An answer whose body is still coming: ``for piece in response``, ``response.read()``."""

    def __init__(self, response: StreamedResponse, portal: BlockingPortal) -> None:
        super().__init__(response.request, response.status, response.headers, response.interim)
        self._response = response
        self._portal = portal

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the pieces of the body as they come, which may differ from those that the handler yielded."""
        while (piece := self.receive()) is not None:
            yield piece

    def receive(self) -> bytes | None:
        """The next piece; None at the end. Raises TimeoutError, Disconnected."""
        piece = self._portal.call(self._response.receive)
        self.trailers = self._response.trailers
        return piece

    def read(self) -> bytes:
        """The rest of the body."""
        return b"".join(self)

    def lines(self) -> Iterator[str]:
        """The lines of the body, without their ends."""
        lines = self._response.lines()
        while (line := self._portal.call(_next, lines)) is not None:
            yield line


class SyncConversation:
    """A Conversation for plain functions."""

    def __init__(self, conversation: Conversation, portal: BlockingPortal) -> None:
        self._conversation = conversation
        self._portal = portal

    def __repr__(self) -> str:
        return f"<blocking {self._conversation!r}>"

    def send(self, message: bytes | str) -> None:
        """See Conversation.send."""
        self._portal.call(self._conversation.send, message)

    def receive(self) -> bytes:
        """See Conversation.receive."""
        return self._portal.call(self._conversation.receive)

    def send_eof(self) -> None:
        """See Conversation.send_eof."""
        self._portal.call(self._conversation.send_eof)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the messages of the app."""
        while (message := self._portal.call(_next, self._conversation)) is not None:
            yield message


class SyncClient:
    """A Client for plain functions; several threads may use it at once."""

    def __init__(self, one: Client, portal: BlockingPortal) -> None:
        self._client = one
        self._portal = portal

    def __repr__(self) -> str:
        return f"<blocking {self._client!r}>"

    @property
    def app(self) -> App:
        """The app that gets the requests."""
        return self._client.app

    @property
    def connections(self) -> int:
        """See Client.connections."""
        return self._client.connections

    @property
    def cookies(self) -> Cookies:
        """The cookies that the app has set, sent with each request."""
        return self._client.cookies

    def get(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("GET", target, **asked)

    def head(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("HEAD", target, **asked)

    def options(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("OPTIONS", target, **asked)

    def post(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("POST", target, **asked)

    def put(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("PUT", target, **asked)

    def patch(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("PATCH", target, **asked)

    def delete(self, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self.request("DELETE", target, **asked)

    def request(self, method: str, target: str, **asked: Unpack[Asked]) -> Response:
        """See Client.request."""
        return self._portal.call(partial(self._client.request, method, target, **asked))

    @contextmanager
    def stream(self, method: str, target: str, **asked: Unpack[Asked]) -> Iterator[SyncStreamedResponse]:
        """See Client.stream: ``with client.stream("GET", "/events") as r: for piece in r:``."""
        with self._portal.wrap_async_context_manager(self._client.stream(method, target, **asked)) as response:
            yield SyncStreamedResponse(response, self._portal)

    @contextmanager
    def tcp(self, name: str | None = None) -> Iterator[SyncConversation]:
        """See Client.tcp."""
        with self._portal.wrap_async_context_manager(self._client.tcp(name)) as conversation:
            yield SyncConversation(conversation, self._portal)


@contextmanager
def sync_client(app: App, **options: Unpack[ClientOptions]) -> Iterator[SyncClient]:
    """``client`` for plain functions. ``backend`` is the loop that the app runs on: asyncio, uvloop or trio.

    Raises SetupError, LeakError, OutOfOrder.
    """
    with (
        start_blocking_portal(**backend_arguments(options.get("backend", "asyncio"))) as portal,
        portal.wrap_async_context_manager(client(app, **options)) as one,
    ):
        yield SyncClient(one, portal)


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
