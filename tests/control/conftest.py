"""A folder for the sockets, and a server with a control, under the leak check."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, Server
from coserver.control.client import Client
from coserver.testing import leak_check, order_check


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path: a socket's has 103 bytes at most, and pytest's folders need half of them."""
    folder = tempfile.mkdtemp(prefix="cs-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    yield Path(folder) / "coserver"
    shutil.rmtree(folder)


@pytest.fixture
def app() -> App:
    app = App(name="shop")

    @app.get("/items/{id}")
    def item(id: int) -> Any:
        return {"id": id}

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.get("/slow")
    async def slow() -> str:
        await anyio.sleep(60)
        return "late"

    return app


Controlled = Callable[..., tuple[Server, Client]]


@pytest.fixture
def controlled(app: App, runtime: Path) -> Iterator[Controlled]:
    """Start the app with a control; its Server and a Client."""
    with leak_check(), order_check(app):
        servers: list[Server] = []

        def start(**options: Any) -> tuple[Server, Client]:
            server = app.start(**{"control": "auto", **options})
            servers.append(server)
            assert server.control is not None
            return server, Client(server.control.path)

        yield start
        for server in servers:
            server.stop(0)
