"""Answers 503 and the reason while broken code lets no child of a reload start.

The stand-in is a coserver on the sockets that the next child will use. TCP has no such answer: its clients wait.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Iterable

from coserver import App, Request, Response, Server
from coserver.app.sockets import BoundListener

from .child import GRACE

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: Seconds until a client may try again; the page reloads itself.
_AGAIN = 1
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{again}"><title>waiting for a change</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto; padding: 0 1rem }}
pre {{ font: 14px/1.45 ui-monospace, monospace; padding: 1rem; overflow-x: auto; border-radius: 6px;
      background: color-mix(in srgb, CanvasText 7%, Canvas); border-left: 4px solid #d33 }}
</style></head><body>
<h1>The app does not start</h1><p>coserver tries again after the next change of a file. This page reloads by itself.</p>
<pre>{why}</pre></body></html>
"""


class StandIn:
    """Serves 503 on the kept HTTP listeners, between ``start`` and ``stop``."""

    def __init__(self, *, shows_errors: bool) -> None:
        self._shows_errors = shows_errors
        self._servers: list[Server] = []

    def start(self, kept: Iterable[BoundListener], why: str) -> None:
        """Answer 503 on the kept listeners, with ``why`` if errors are shown."""
        shown = why if self._shows_errors and why else "the terminal shows why"
        for number, one in enumerate(kept):
            if one.protocol != "http":
                continue
            app = App(f"stand-in {number}")
            app.route("/{rest:path}", methods=_METHODS)(_answer(shown))
            if one.path:
                self._servers.append(app.start(uds=one.path))
            else:
                self._servers.append(app.start(host=one.host, port=one.address.port))

    def stop(self) -> None:
        """New clients wait for the next child from now on. Earlier ones are still answered, beside it."""
        for server in self._servers:
            server.begin_stop(GRACE)
        self._servers.clear()


def _answer(why: str) -> Callable[[Request, str], Awaitable[Response]]:
    page = _PAGE.format(again=_AGAIN, why=html.escape(why))
    told = "The app does not start; coserver tries again after the next change of a file."
    text = f"503 Service Unavailable\n{told}\n\n{why}\n"

    async def answer(request: Request, rest: str) -> Response:
        fields = {"retry-after": str(_AGAIN), "cache-control": "no-store"}
        if "text/html" in request.headers.get("accept", ""):
            return Response(page, 503, fields, content_type="text/html; charset=utf-8")
        return Response(text, 503, fields)

    return answer
