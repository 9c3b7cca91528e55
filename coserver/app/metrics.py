"""The handler of ``App.metrics``. It serves the metrics of the server that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ..observe.metrics import CONTENT_TYPE
from ..server.handler.errors import HTTPException
from ..server.handler.request import Request
from ..server.handler.response import Response
from . import registry

if TYPE_CHECKING:
    from ..server.service import Service
    from .server import Server


def find_server(service: Service) -> Server | None:
    """The server that has this service."""
    return next((server for server in registry.all_running() if service in server._services), None)


async def answer_metrics(request: Request) -> Response:
    """The handler. It renders the text in a thread, since that takes milliseconds."""
    server = find_server(request.service)
    if server is None:
        raise HTTPException(503, "The server is ending")
    return Response(await anyio.to_thread.run_sync(server.metrics), content_type=CONTENT_TYPE)
