"""``app.start()``: a thread of its own, wherever it is called from."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from coserver import App, Limits, Server, SetupError
from coserver.testing import leak_check, order_check

from .get import get, get_from, refused, run_script, say


def test_it_listens_when_it_returns(app: App, backend: str, codec: str) -> None:
    server = app.start(backend=backend, codec=codec)
    try:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.port > 0
        assert get(server) == (200, "ok")
        assert get(server, "/plain") == (200, "plain")
        assert server.settings.backend == backend
        assert server.settings.codec == codec
    finally:
        server.stop()
    assert not server.running
    assert refused(server.port)


def test_a_with_block_stops_it(app: App, backend: str) -> None:
    with app.start(backend=backend) as server:
        assert server.running
    assert not server.running
    assert refused(server.port)


def test_an_error_in_the_with_block_stops_it_too(app: App) -> None:
    with pytest.raises(ZeroDivisionError), app.start() as server:
        raise ZeroDivisionError
    assert not server.running


async def test_in_a_thread_that_runs_a_loop(app: App, backend: str) -> None:
    """As in a notebook's cell: the caller's loop is another than the server's, and goes on."""
    with app.start(backend=backend) as server:
        assert await anyio.to_thread.run_sync(get, server) == (200, "ok")
        async with await anyio.connect_tcp("127.0.0.1", server.port) as client:
            await client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in await client.receive()


def test_in_a_foreign_thread(app: App) -> None:
    started: list[Server] = []
    thread = threading.Thread(target=lambda: started.append(app.start()))
    thread.start()
    thread.join()
    with started[0] as server:
        assert get(server) == (200, "ok")


class TestAsAFixture:
    @pytest.fixture
    def server(self) -> Iterator[Server]:
        app = App()
        app.get("/")(lambda: "from a fixture")
        with order_check(app), app.start() as server:
            yield server

    def test_one(self, server: Server) -> None:
        assert get(server) == (200, "from a fixture")

    def test_and_another(self, server: Server) -> None:
        assert get(server) == (200, "from a fixture")


def test_many_apps_side_by_side(backend: str) -> None:
    apps = [App() for _ in range(5)]
    servers = []
    for number, app in enumerate(apps):
        app.get("/")(lambda number=number: f"app {number}")
        servers.append(app.start(backend=backend))
    try:
        assert len({server.port for server in servers}) == 5
        assert [get(server)[1] for server in servers] == [f"app {number}" for number in range(5)]
        servers[2].stop()
        assert [get(server)[1] for server in servers if server.running] == ["app 0", "app 1", "app 3", "app 4"]
    finally:
        for server in servers:
            server.stop()


def test_one_app_runs_anew_after_a_stop(app: App, backend: str) -> None:
    for _ in range(3):
        with app.start(backend=backend) as server:
            assert get(server) == (200, "ok")


def test_the_limits_are_passed_on(app: App) -> None:
    app.limits = Limits(target_size=100)
    with app.start() as server:
        assert get(server, "/" + "x" * 200)[0] == 414
    with app.start(limits=Limits(target_size=1000)) as server:
        assert get(server, "/" + "x" * 200)[0] == 404
        assert server.settings.limits.target_size == 1000


class TestWhatFailsLeavesNothing:
    @pytest.fixture
    def taken(self) -> Iterator[int]:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            yield sock.getsockname()[1]

    def test_a_busy_port(self, app: App, backend: str, taken: int) -> None:
        with leak_check(), pytest.raises(OSError, match=f"127.0.0.1:{taken} is taken by another process"):
            app.start(port=taken, backend=backend)
        with app.start(backend=backend) as server:
            assert get(server) == (200, "ok")

    def test_the_second_listener_busy(self, app: App, taken: int) -> None:
        @app.tcp(port=taken)
        async def chat(connection: object) -> None: ...

        with leak_check(), pytest.raises(OSError, match="is taken"):
            app.start()

    def test_a_port_of_a_neighbour(self, app: App) -> None:
        with app.start() as server:
            assert get(server) == (200, "ok")  # its loop has opened all it needs
            with leak_check(), pytest.raises(OSError, match=f"server '{app.name}' of this process"):
                App("neighbour").start(port=server.port)

    def test_an_unknown_parameter(self, app: App) -> None:
        app.get("/orders/{number}")(lambda nummer: "")
        with leak_check(), pytest.raises(SetupError, match=r"asks for 'nummer'|has 'number'"):
            app.start()

    def test_an_unknown_parameter_of_a_tcp_handler(self, app: App) -> None:
        @app.tcp()
        async def chat(verbindung: object) -> None: ...

        with leak_check(), pytest.raises(SetupError, match="verbindung"):
            app.start()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"backend": "gevent"}, "backend must be 'asyncio', 'uvloop' or 'trio'; got 'gevent'"),
            ({"codec": "picoparser"}, "codec must be"),
            ({"port": 70_000}, "port must be from 0"),
            ({"port": "80"}, "port must be from 0"),
            ({"port": True}, "port must be from 0"),
            ({"limits": {"body_size": 1}}, "limits must be a Limits"),
        ],
    )
    def test_a_bad_setting(self, app: App, options: dict[str, object], message: str) -> None:
        with leak_check(), pytest.raises(SetupError, match=message):
            app.start(**options)  # type: ignore[arg-type]

    def test_an_address_of_another_machine(self, app: App) -> None:
        with leak_check(), pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0"):
            app.start(host="192.0.2.1")

    @pytest.mark.parametrize("extra", ["uvloop", "trio"])
    def test_an_extra_that_is_not_installed(self, app: App, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("coserver.app.config.validate.find_spec", lambda name: None)
        with pytest.raises(SetupError, match=r"pip install 'coserver\[(fast|trio)\]', or take 'asyncio'"):
            app.start(backend=extra)


SCRIPT = """
import sys, urllib.request
from coserver import App

app = App()

@app.get("/")
async def index():
    return "from a script"

server = app.start(backend=sys.argv[1])
print(urllib.request.urlopen(server.url).read().decode())
"""


def test_in_a_plain_script_that_stops_it(tmp_path: Path, backend: str) -> None:
    done = run_script(SCRIPT + "server.stop()\nprint('stopped')", tmp_path, backend)
    assert (done.stdout, done.stderr, done.returncode) == ("from a script\nstopped\n", "", 0)


def test_a_script_that_never_stops_it_ends_promptly(tmp_path: Path, backend: str) -> None:
    before = time.monotonic()
    done = run_script(SCRIPT, tmp_path, backend)
    assert (done.stdout, done.stderr, done.returncode) == ("from a script\n", "", 0)
    assert time.monotonic() - before < 5


def test_a_script_that_ends_amid_a_request_still_runs_its_finally(tmp_path: Path, backend: str) -> None:
    code = """
import sys, socket, threading, anyio
from coserver import App

app = App()
begun = threading.Event()

@app.get("/")
async def index():
    try:
        begun.set()
        await anyio.sleep(100)
    finally:
        print("cleaned up", flush=True)

server = app.start(backend=sys.argv[1])
client = socket.create_connection(("127.0.0.1", server.port))
client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
begun.wait()
"""
    done = run_script(
        code.replace("import sys", "import sys, warnings; warnings.simplefilter('ignore')\nimport sys"),
        tmp_path,
        backend,
    )
    assert done.stdout == "cleaned up\n"
    assert done.returncode == 0


def test_tcp_only(backend: str) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def echo(connection):  # type: ignore[no-untyped-def]
        async for line in connection:
            await connection.send(line)

    @app.tcp(framing="lines")
    def shout(connection):  # type: ignore[no-untyped-def]
        for line in connection:
            connection.send(line.upper())

    with order_check(app), app.start(backend=backend) as server:
        assert [address.name for address in server.addresses] == [
            "echo",
            "shout",
        ]
        assert server.url.startswith("tcp://127.0.0.1:")
        assert say(server.addresses[0].port, b"hello") == b"hello"
        assert say(server.port_of("shout"), b"hello") == b"HELLO"
        with pytest.raises(KeyError, match="no listener is named 'http'"):
            server.port_of("http")


def test_an_app_without_anything_answers_404() -> None:
    with App().start() as server:
        assert get_from(server.port)[0] == 404


def test_without_http_the_port_is_the_first_handlers(backend: str) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def echo(connection):  # type: ignore[no-untyped-def]
        async for line in connection:
            await connection.send(line)

    with app.start(backend=backend) as server:
        port = server.port
    with app.start(port=port, backend=backend) as server:
        assert server.port == port
        assert say(port, b"hello") == b"hello"
