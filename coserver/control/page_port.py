"""A port by which a notebook's page asks its widgets while the kernel is busy with a cell: one route, ``POST /ask``.

It is a port of 127.0.0.1 with a thread of its own, open as long as a widget is shown. Every request needs the token.
The kernel gives it to its own page alone, and no browser sends it by itself, as it would a cookie. The page's origin
must be an address or localhost, or one that the kernel was told of, or the host of the request (through a proxy). A
page of another origin gets no CORS fields, so it cannot read an answer; its preflight is refused, so it cannot ask.
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
from .host import ServerThread

Answer = Callable[[dict[str, Any]], dict[str, Any]]
#: The field with the token. Not Authorization: a proxy may use that for the notebook server's own token.
TOKEN = "x-coserver-token"
#: Seconds for which a browser keeps the answer to a preflight.
_PREFLIGHT_AGE = 600


class PagePort:
    """A page port. ``answer`` is called with each question, in a thread. ``origins`` are further ones that may ask."""

    def __init__(self, answer: Answer) -> None:
        """Binds the port and starts to answer. Raises OSError."""
        self.token = secrets.token_urlsafe(32)
        self.origins: set[str] = set()
        self._answer = answer
        router = Router()
        router.add("/ask", ["POST"], Endpoint(self._ask, "request", ()), {})
        router.add("/ask", ["OPTIONS"], Endpoint(self._preflight, "request", ()), {})
        self._thread = ServerThread("page port", bind_tcp("127.0.0.1", 0), router, lambda: None)
        self._thread.start()
        self.port = self._thread.port

    def __repr__(self) -> str:
        return f"<PagePort at {self.port}>"

    def close(self) -> None:
        self._thread.stop()

    async def _preflight(self, request: Request) -> Response:
        """Answer the preflight of a page of another origin."""
        fields = self._check_origin(request)
        fields |= {
            "access-control-allow-methods": "POST",
            "access-control-allow-headers": f"{TOKEN}, content-type",
            "access-control-max-age": str(_PREFLIGHT_AGE),
        }
        if request.headers.get("access-control-request-private-network"):
            fields["access-control-allow-private-network"] = "true"
        return Response(b"", 204, fields, content_type="")

    async def _ask(self, request: Request) -> Response:
        fields = self._check_origin(request)
        if not hmac.compare_digest(request.headers.get(TOKEN, "").encode(), self.token.encode()):
            raise HTTPException(403, f"send the token: '{TOKEN}: …'")
        given = request.json()
        if not isinstance(given, dict):
            raise HTTPException(400, f"a question is a JSON object; got {type(given).__name__}")
        found = await anyio.to_thread.run_sync(self._answer, given)
        return Response.json(found, headers=fields)

    def _check_origin(self, request: Request) -> dict[str, str]:
        """Check the Origin; return the fields by which its page may read the answer. Raises HTTPException (403)."""
        origin = request.headers.get("origin")
        fields = {"cache-control": "no-store", "vary": "origin"}
        if origin is None:
            return fields
        if is_local(host_of(origin)) or origin in self.origins:
            return {**fields, "access-control-allow-origin": origin}
        hosts = {request.headers.get("host", ""), request.headers.get("x-forwarded-host", "")}
        if (place := origin.partition("://")[2]) and place in hosts:
            return fields  # the same origin, through a proxy: it needs no CORS fields
        raise HTTPException(403, "pages of other origins have no access")
