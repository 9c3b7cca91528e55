"""A drain closes last the listeners that running handlers of the same server may still ask."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest

from coserver import App, Request, Server, Upstream, await_

from .get import TIMEOUT, get_from, refused


class Shop:
    """A server with a second and a third listener, and a handler that waits until it is let go, and then asks them."""

    def __init__(self, tmp_path: Path) -> None:
        self.app, admin = App("drained"), App("admin")
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.asks: Callable[[], Any] = lambda: None
        self.after: list[Any] = []
        self.server: Server
        self.path = str(tmp_path / "s")

        async def wait(request: Request) -> str:
            self.begun.set()
            await anyio.to_thread.run_sync(self.go_on.wait, TIMEOUT)
            if request.query.get("after"):
                request.after(lambda: self.after.append(self.asks()))
                return "later"
            found = await anyio.to_thread.run_sync(self.asks)
            return str(found)

        def wait_def() -> str:
            self.begun.set()
            self.go_on.wait(TIMEOUT)
            return str(self.asks())

        for app in (self.app, admin):
            app.get("/wait")(wait)
            app.get("/def")(wait_def)
            app.get("/")(lambda: "ok")
        self.app.listen(name="admin", port=0, app=admin)
        self.app.listen(name="unix", uds=self.path, app=admin)

        @self.app.tcp(framing="lines")
        async def echo(connection: Any) -> None:
            async for line in connection:
                await connection.send(line)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.port_of(name)}/"

    def drained(self, name: str = "http", path: str = "/wait") -> str:
        """Ask the listener, begin the drain, let the handler go on; the answer."""
        answers: list[tuple[int, str]] = []
        port = self.server.port_of(name)
        client = threading.Thread(target=lambda: answers.append(get_from(port, path)))
        client.start()
        assert self.begun.wait(TIMEOUT)
        self.server.begin_stop()
        until = time.monotonic() + TIMEOUT
        while self.server.accepting:
            assert time.monotonic() < until
        self.go_on.set()
        client.join(TIMEOUT)
        assert answers[0][0] == 200
        return answers[0][1]


@pytest.fixture
def shop(tmp_path: Path, backend: str) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    with shop.app.start(backend=backend) as shop.server:
        yield shop
    assert all(refused(one.port) for one in shop.server.addresses if one.port)
    assert not Path(shop.path).exists()


def say_to(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(b"hello\n")
        return sock.recv(100).decode()


def ask_unix(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := sock.recv(1000):
            answer += piece
    return answer.rpartition(b"\n")[2].decode()


@pytest.mark.parametrize("path", ["/wait", "/def"])
def test_a_handler_asks_the_second_listener(shop: Shop, path: str) -> None:
    shop.asks = lambda: urlopen(shop.url("admin"), timeout=TIMEOUT).read().decode()
    assert shop.drained(path=path) == "ok"


def test_a_handler_of_the_second_asks_the_first(shop: Shop) -> None:
    shop.asks = lambda: urlopen(shop.url("http"), timeout=TIMEOUT).read().decode()
    assert shop.drained("admin") == "ok"


def test_it_asks_tcp_and_unix(shop: Shop) -> None:
    shop.asks = lambda: (say_to(shop.server.port_of("echo")), ask_unix(shop.path))
    assert shop.drained() == "('hello\\n', 'ok')"


def test_work_after_the_response_asks(shop: Shop) -> None:
    shop.asks = lambda: urlopen(shop.url("admin"), timeout=TIMEOUT).read().decode()
    assert shop.drained(path="/wait?after=1") == "later"
    shop.server.wait_for_end()
    assert shop.after == ["ok"]


def test_a_subrequest(tmp_path: Path, backend: str) -> None:
    shop = Shop(tmp_path)

    @shop.app.get("/ask")
    async def ask() -> str:
        shop.begun.set()
        await anyio.to_thread.run_sync(shop.go_on.wait, TIMEOUT)
        async with Upstream(shop.url("admin")) as admin:
            return (await admin.get("/")).text()

    @shop.app.get("/ask-def")
    def ask_def() -> str:
        return str(await_(ask()))

    for path in ("/ask", "/ask-def"):
        shop.begun.clear()
        shop.go_on.clear()
        with shop.app.start(backend=backend) as shop.server:
            assert shop.drained(path=path) == "ok"


def test_none_is_open_longer_than_it_may_be_asked(shop: Shop) -> None:
    assert shop.drained() == "None"
    until = time.monotonic() + TIMEOUT
    while not all(refused(one.port) for one in shop.server.addresses if one.port):
        assert time.monotonic() < until


def test_a_new_request_does_not_keep_the_others_open(tmp_path: Path) -> None:
    """Two listeners under load: each drains, though clients come to the other one all the time."""
    shop = Shop(tmp_path)
    over = threading.Event()

    def load(name: str) -> None:
        while not over.is_set():
            try:
                get_from(shop.server.port_of(name))
            except OSError:
                over.wait(0.005)

    with shop.app.start() as shop.server:
        clients = [threading.Thread(target=load, args=(name,)) for name in ("http", "admin") for _ in range(2)]
        for client in clients:
            client.start()
        assert shop.drained() == "None"
        began = time.monotonic()
        shop.server.stop()
        assert time.monotonic() - began < 10
        over.set()
        for client in clients:
            client.join()


def ask_in_vain(port: int) -> None:
    with suppress(OSError, http.client.HTTPException):
        get_from(port, "/wait")


def test_the_end_of_the_grace_closes_them(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    with shop.app.start() as shop.server:
        client = threading.Thread(target=ask_in_vain, args=(shop.server.port,))
        client.start()
        assert shop.begun.wait(TIMEOUT)
        shop.server.begin_stop()
        shop.server.begin_stop(0)
        until = time.monotonic() + TIMEOUT
        while not refused(shop.server.port_of("admin")):
            assert time.monotonic() < until
        shop.go_on.set()
        client.join()


def test_a_successor_takes_all_over_at_once(tmp_path: Path) -> None:
    shop, new = Shop(tmp_path), Shop(tmp_path)
    new.app.get("/")(lambda: "new")
    with shop.app.start() as shop.server:
        client = threading.Thread(target=get_from, args=(shop.server.port, "/wait"))
        client.start()
        assert shop.begun.wait(TIMEOUT)
        with new.app.start() as new.server:
            assert [one.port for one in new.server.addresses] == [one.port for one in shop.server.addresses]
            shop.go_on.set()
            client.join()
            assert ask_unix(shop.path) == "ok"
            assert say_to(new.server.port_of("echo")) == "hello\n"


def test_a_server_that_starts_in_the_drain_takes_the_open_ones_over(tmp_path: Path) -> None:
    shop, new = Shop(tmp_path), Shop(tmp_path)
    with shop.app.start() as shop.server:
        client = threading.Thread(target=get_from, args=(shop.server.port, "/wait"))
        client.start()
        assert shop.begun.wait(TIMEOUT)
        shop.server.begin_stop()
        with new.app.start() as new.server:
            assert get_from(new.server.port_of("admin")) == (200, "ok")
            assert ask_unix(shop.path) == "ok"
            shop.go_on.set()
            client.join()
            shop.server.wait_for_end()
            assert ask_unix(shop.path) == "ok"
