"""Client, server and scheme, as hosted applications are told of them: by TCP, by a UNIX socket, behind a proxy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest

import coserver
from coserver import testing

from ..server.clients import Client, get, talking

seen: list[Any] = []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    seen.append((scope["client"], scope["server"], scope["scheme"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytearray(b"ok")})


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    seen.append((environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"], environ["wsgi.url_scheme"]))
    start_response("200 OK", [])
    return [bytearray(b"ok")]  # type: ignore[list-item]


@pytest.mark.parametrize("app", [asgi, wsgi])
async def test_behind_a_proxy(app: Any) -> None:
    seen.clear()
    fields = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
    async with talking(coserver.host(app, lifespan="off"), trusted_peers=["127.0.0.1"]) as (server, client):
        assert (await client.ask(get("/", *fields))).text == "ok"
    async with talking(coserver.host(app, lifespan="off"), trusted_peers=["192.0.2.1"]) as (_, client):
        assert (await client.ask(get("/", *fields))).text == "ok"
    if app is asgi:
        assert seen[0] == (("192.0.2.7", 0), ("127.0.0.1", server.port), "https")
        assert (seen[1][0][0], seen[1][2]) == ("127.0.0.1", "http")
    else:
        assert seen[0] == ("192.0.2.7", "127.0.0.1", str(server.port), "https")
        assert (seen[1][0], seen[1][3]) == ("127.0.0.1", "http")


@pytest.mark.parametrize("app", [asgi, wsgi])
async def test_on_a_unix_socket(app: Any, tmp_path: Path) -> None:
    seen.clear()
    path = str(tmp_path / "app.sock")
    async with (
        testing.serving(coserver.host(app, lifespan="off"), uds=path),
        await anyio.connect_unix(path) as stream,
    ):
        assert (await Client(stream).ask(get("/"))).text == "ok"  # type: ignore[arg-type]
    assert seen == [(None, (path, None), "http") if app is asgi else ("", "localhost", "80", "http")]
