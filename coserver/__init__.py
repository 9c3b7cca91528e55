"""coserver: an embeddable server toolkit. TCP and HTTP on coroutines, on asyncio or trio, every connection in view."""

from .app.app import App
from .app.server import Server
from .hooks.workers import await_, run_blocking
from .protocol.sse import Event
from .server.errors import AppError, ClientLeft, HTTPException
from .server.limits import Limits
from .server.request import Request
from .server.response import Response
from .server.uploads import Upload

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppError",
    "ClientLeft",
    "Event",
    "HTTPException",
    "Limits",
    "Request",
    "Response",
    "Server",
    "Upload",
    "await_",
    "run_blocking",
]
