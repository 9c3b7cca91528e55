"""The plain ASGI application for uvicorn, hypercorn and granian, without a framework."""

from collections.abc import Awaitable, Callable
from typing import Any

HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"2")]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        # Servers take this for "no lifespan" and go on.
        raise RuntimeError(f"only http, not {scope['type']}")
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"ok"})
