"""coserver: an embeddable server toolkit. TCP and HTTP on coroutines, on asyncio or trio, every connection in view."""

from typing import Any as _Any

from .app.app import App
from .app.config.tls import Tls
from .app.server import Server
from .hooks.cancellation import RequestCancelled
from .hooks.suspension import await_
from .hooks.workers import run_blocking
from .protocol.sse import ServerSentEvent
from .server.handler.errors import ClientLeft, HTTPException, SetupError
from .server.handler.request import Request
from .server.handler.response import Response
from .server.handler.uploads import Upload
from .server.limits import Limits
from .upstream.errors import (
    SubrequestCancelled,
    UpstreamBusy,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from .upstream.gather import gather
from .upstream.limits import UpstreamLimits
from .upstream.member import UpstreamMember
from .upstream.subrequest import Subrequest
from .upstream.tls import UpstreamTls
from .upstream.upstream import Upstream

__version__ = "0.1.0"

__all__ = [
    "App",
    "ClientLeft",
    "HTTPException",
    "Limits",
    "Request",
    "RequestCancelled",
    "Response",
    "Server",
    "ServerSentEvent",
    "SetupError",
    "Subrequest",
    "SubrequestCancelled",
    "Tls",
    "Upload",
    "Upstream",
    "UpstreamBusy",
    "UpstreamConnectError",
    "UpstreamError",
    "UpstreamLimits",
    "UpstreamMember",
    "UpstreamProtocolError",
    "UpstreamTimeout",
    "UpstreamTls",
    "await_",
    "gather",
    "run_blocking",
]


def load_ipython_extension(shell: _Any) -> None:
    """``%load_ext coserver``: the magics ``%%serve``, ``%coserver`` and ``%request``."""
    from .app.registry import all_running
    from .notebook.magics import Magics

    Magics(shell, App, all_running).register()
