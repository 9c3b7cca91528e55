"""Public test tools: a client without a socket, its twin for plain functions, the order check and the leak check.

async with testing.client(app) as c:       # or: with testing.sync_client(app) as c: c.get("/")
    r = await c.get("/")

async with testing.serving(app) as server:  # a real server on a free port, under both checks
    ...
"""

from ..lifecycle.order import OrderCheck, OutOfOrder
from .checks import LeakError, leak_check, order_check, serving
from .client import Client, ClientOptions, client
from .conversation import Conversation
from .cookies import Cookies
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
    "StreamedResponse",
    "SyncClient",
    "SyncConversation",
    "SyncStreamedResponse",
    "client",
    "leak_check",
    "order_check",
    "serving",
    "sync_client",
]
