"""One live server for each backend and codec, with something for every client to ask; no event may be out of order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from importlib.util import find_spec
from typing import Any

import pytest

from coserver import App, HTTPException, Request, Response, Server
from coserver.protocol.codecs import CODECS
from coserver.testing import leak_check, order_check

from .asking import BIG

KINDS = [f"{backend}-{codec}" for backend in ("asyncio", "trio") for codec in sorted(CODECS) if find_spec(backend)]


@pytest.fixture(params=KINDS, scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    backend, codec = request.param.split("-")
    app = make()
    with leak_check(), order_check(app), app.start(backend=backend, codec=codec) as server:
        yield server


def make() -> App:
    app = App()

    @app.get("/")
    async def index() -> str:
        return "hello"

    @app.get("/plain/{number}")
    def plain(number: int) -> dict[str, int]:
        return {"number": number}

    @app.get("/big")
    async def big() -> bytes:
        return BIG

    @app.get("/stream")
    async def stream() -> AsyncIterator[str]:
        for number in range(100):
            yield f"line {number}\n"

    @app.get("/sized")
    async def sized() -> Response:
        return Response(iter([b"12345"] * 10), headers={"content-length": "50"})

    @app.get("/refused")
    async def refused() -> None:
        raise HTTPException(418, "no coffee here", {"x-pot": "tea"})

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(request.body, headers={"content-type": request.headers.get("content-type", "")})

    @app.post("/digest")
    def digest(request: Request) -> dict[str, Any]:
        return {"size": len(request.body), "sha256": sha256(request.body).hexdigest()}

    @app.route("/digest-stream", methods=["POST", "PUT"], stream=True)
    async def digest_stream(request: Request) -> dict[str, Any]:
        size, digest = 0, sha256()
        async for piece in request.stream():
            size += len(piece)
            digest.update(piece)
        return {"size": size, "sha256": digest.hexdigest()}

    @app.delete("/thing")
    async def delete() -> None:
        return None

    @app.get("/peer")
    async def peer(request: Request) -> str:
        return request.peer

    return app
