"""What a page in the browser asks a notebook's widgets while the kernel is busy with a cell: one route, ``POST /ask``.

A port of 127.0.0.1 in a thread of its own, there as long as a widget is shown. Every request needs the token, which the
kernel hands to its own page alone and which no browser sends by itself: there is no cookie. Beyond that the page must
be of an address or localhost, of an origin that the kernel was told of, or of the very host that was asked, through a
proxy; no other may read an answer (no CORS fields), or so much as ask (no answer to its preflight).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Any

import anyio

from ..server.handler.endpoint import Endpoint
from ..server.handler.errors import HTTPException
from ..server.handler.request import Request
from ..server.handler.response import Response
from ..server.router import Router
from ..transport.listener import bind_tcp
from .auth import host_of, is_local
from .host import Answering

Answer = Callable[[dict[str, Any]], dict[str, Any]]
#: The field with the token. Not Authorization: that is the notebook server's own, where a proxy passes it on.
TOKEN = "x-coserver-token"
#: Seconds for which a browser need not ask again whether it may.
_MAY = 600


class PagePort:
    """``answer`` is called with each question, in a thread. ``origins`` are pages of elsewhere that may ask."""

    def __init__(self, answer: Answer) -> None:
        """Listens. Raises OSError."""
        self.token = secrets.token_urlsafe(32)
        self.origins: set[str] = set()
        self._answer = answer
        router = Router()
        router.add("/ask", ["POST"], Endpoint(self._asked, "request", ()), {})
        router.add("/ask", ["OPTIONS"], Endpoint(self._may, "request", ()), {})
        self._answering = Answering("page port", bind_tcp("127.0.0.1", 0), router, lambda: None)
        self._answering.start()
        self.port = self._answering.port

    def __repr__(self) -> str:
        return f"<PagePort at {self.port}>"

    def close(self) -> None:
        self._answering.stop()

    async def _may(self, request: Request) -> Response:
        """The preflight of a page of another origin."""
        fields = self._check_origin(request)
        fields |= {
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": f"{TOKEN}, content-type",
            "access-control-max-age": str(_MAY),
        }
        if request.headers.get("access-control-request-private-network"):
            fields["access-control-allow-private-network"] = "true"
        return Response(b"", 204, fields, content_type="")

    async def _asked(self, request: Request) -> Response:
        fields = self._check_origin(request)
        if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(), self.token.encode()):
            raise HTTPException(403, f"Give the token: '{TOKEN}: …'")
        given = request.json()
        if not isinstance(given, dict):
            raise HTTPException(400, f"a question is a JSON object; got {type(given).__name__}")
        found = await anyio.to_thread.run_sync(self._answer, given)
        return Response.json(found, headers=fields)

    def _check_origin(self, request: Request) -> dict[str, str]:
        """The fields by which that origin may read the answer. Raises HTTPException (403)."""
        origin = request.headers.get("origin")
        fields = {"cache-control": "no-store", "vary": "origin"}
        if origin is None:
            return fields
        if is_local(host_of(origin)) or origin in self.origins:
            return {**fields, "access-control-allow-origin": origin}
        hosts = {request.headers.get("host", ""), request.headers.get("x-forwarded-host", "")}
        if (place := origin.partition("://")[2]) and place in hosts:
            return fields  # the same origin, through a proxy: its pages need no leave to read
        raise HTTPException(403, "Pages of other origins may not ask")
