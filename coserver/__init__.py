"""coserver: an embeddable server toolkit. TCP and HTTP on coroutines, on asyncio or trio, every connection in view.

Public are the names in ``__all__`` here and in ``coserver.hooks``, ``.upstream``, ``.observe``, ``.control`` and
``.testing``. All modules below those are internal. A name whose module most programs never need is imported when it is
first asked for (PEP 562).

| package | what it holds |
|---|---|
| app/ | ``App`` and the running ``Server`` |
| testing/ | test tools: clients without a socket, the order check, the leak check |
| notebook/ | live tables and steppers in a notebook |
| views/ | what a person sees: tables, waterfalls, the dashboard, the debug page |
| control/ | the control socket and its client |
| hosting/ | ASGI and WSGI applications |
| server/ | connections and exchanges: HTTP, TCP |
| observe/ | snapshots, traces, filters, steppers, metrics |
| upstream/ | subrequests: pools, connections to members, policies |
| hooks/ | workers, in which blocking calls suspend only their request |
| transport/ | sockets on anyio |
| lifecycle/ | phases and events |
| protocol/ | bytes to messages and back |
| keywords | keywords that a call does not have |
| field | a setting's field, with its unit and reason |
| whole_file | a file, written whole or not at all |
| deprecated | old names, for one release |
"""

import sys as _sys
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from .app.address import Address
from .app.app import App, host, serving, start
from .app.config.tls import Tls
from .app.server import Server
from .hooks.cancellation import RequestCancelled
from .hooks.suspension import await_
from .hooks.workers import run_blocking
from .protocol.errors import LocalProtocolError, RemoteProtocolError
from .protocol.fields import Headers
from .protocol.sse import ServerSentEvent
from .server.handler.errors import ClientLeft, HTTPException, SetupError
from .server.handler.params import Params
from .server.handler.request import Request, RequestStream
from .server.handler.response import Response
from .server.handler.uploads import Upload
from .server.limits import Limits
from .server.tcp import BlockingTcpConnection, TcpConnection
from .transport.tls_info import TlsInfo
from .upstream.errors import (
    SubrequestCancelled,
    TooDeep,
    UpstreamBusy,
    UpstreamConnectError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from .upstream.gather import gather
from .upstream.limits import UpstreamLimits
from .upstream.member import UpstreamMember
from .upstream.response import StreamedUpstreamResponse, UpstreamResponse
from .upstream.subrequest import Subrequest
from .upstream.tls import UpstreamTls
from .upstream.upstream import Upstream

if _TYPE_CHECKING:
    from .app.inspect.failures import Failure, Failures
    from .app.inspect.traces import Traces
    from .app.process.isolation import IsolatedServer
    from .app.standstill import Standstill
    from .notebook.live import LiveTable
    from .server.handler.forms import Form

__version__ = "0.1.0"

#: Each in a module that is loaded when the name is first asked for.
_LATE = {
    "Failure": ".app.inspect.failures",
    "Failures": ".app.inspect.failures",
    "Form": ".server.handler.forms",
    "IsolatedServer": ".app.process.isolation",
    "LiveTable": ".notebook.live",
    "Standstill": ".app.standstill",
    "Traces": ".app.inspect.traces",
}

__all__ = [
    "Address",
    "App",
    "BlockingTcpConnection",
    "ClientLeft",
    "Failure",
    "Failures",
    "Form",
    "HTTPException",
    "Headers",
    "IsolatedServer",
    "Limits",
    "LiveTable",
    "LocalProtocolError",
    "Params",
    "RemoteProtocolError",
    "Request",
    "RequestCancelled",
    "RequestStream",
    "Response",
    "Server",
    "ServerSentEvent",
    "SetupError",
    "Standstill",
    "StreamedUpstreamResponse",
    "Subrequest",
    "SubrequestCancelled",
    "TcpConnection",
    "Tls",
    "TlsInfo",
    "TooDeep",
    "Traces",
    "Upload",
    "Upstream",
    "UpstreamBusy",
    "UpstreamConnectError",
    "UpstreamError",
    "UpstreamLimits",
    "UpstreamMember",
    "UpstreamProtocolError",
    "UpstreamResponse",
    "UpstreamTimeout",
    "UpstreamTls",
    "await_",
    "gather",
    "host",
    "run_blocking",
    "serving",
    "start",
]


if not _TYPE_CHECKING:  # a checker shall find a misspelt name

    def __getattr__(name: str) -> _Any:
        if name not in _LATE:
            from .deprecated import old_name

            if name[:1] != "_":
                from .server.handler.other_frameworks import missing_name

                if (error := missing_name(name, _sys._getframe(1))) is not None:
                    raise error

            return old_name(__name__, name)
        value = globals()[name] = getattr(_import_module(_LATE[name], __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _OldModules:
    """Finds a module by the name that it had before. Python asks it last, so that other imports cost no more."""

    @staticmethod
    def find_spec(name: str, path: _Any = None, target: _Any = None) -> _Any:
        if not name.startswith("coserver."):
            return None
        from .deprecated import old_module

        return old_module(name)


_sys.meta_path.append(_OldModules)


def load_ipython_extension(shell: _Any) -> None:
    """``%load_ext coserver``: the magics ``%%serve``, ``%coserver`` and ``%request``."""
    from .app.registry import all_running
    from .notebook.magics import Magics

    Magics(shell, App, all_running).register()
