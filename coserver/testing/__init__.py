"""Public test tools: a client without a socket, the same for plain functions, the order check and the leak check.

async with testing.client(app) as c:       # or: with testing.sync_client(app) as c: c.get("/")
    r = await c.get("/")

async with testing.serving(app) as server:  # a real server on a free port, under both checks
    ...

| file | what it holds |
|---|---|
| client | ``client``: requests without a socket, in the app's own event loop |
| sync_client | ``sync_client``: the same for plain functions |
| request | a request to be sent |
| response | a response, whole or still coming; ``BadStatus``, ``Disconnected`` |
| cookies | the cookies of a client |
| conversation | a conversation with a TCP handler |
| http_connection | one HTTP connection of the client |
| app_host | an app that runs without a listener |
| memory | a pair of streams in memory |
| memory_carrier | ``streams``: several exchanges at once on one connection |
| checks | ``serving``, ``order_check``, ``leak_check`` |
| fixtures | fixtures for pytest |
"""

from ..lifecycle.order import OrderCheck, OutOfOrder
from .checks import LeakError, leak_check, order_check, serving
from .client import Client, ClientOptions, client
from .conversation import Conversation
from .cookies import Cookies
from .memory_carrier import Stream, Streams, streams
from .response import BadStatus, Disconnected, Response, StreamedResponse
from .sync_client import SyncClient, SyncConversation, SyncStreamedResponse, sync_client

__all__ = [
    "BadStatus",
    "Client",
    "ClientOptions",
    "Conversation",
    "Cookies",
    "Disconnected",
    "LeakError",
    "OrderCheck",
    "OutOfOrder",
    "Response",
    "Stream",
    "StreamedResponse",
    "Streams",
    "SyncClient",
    "SyncConversation",
    "SyncStreamedResponse",
    "client",
    "leak_check",
    "order_check",
    "serving",
    "streams",
    "sync_client",
]
