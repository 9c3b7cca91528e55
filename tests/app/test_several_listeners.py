"""Several listeners of one server, each with its own address, app, protocol and limits."""

from __future__ import annotations

import http.client
import socket
import threading
from pathlib import Path

import pytest

from coserver import App, Limits, SetupError
from coserver.app.config.settings import ListenerSettings

from .get import TIMEOUT, get, get_from, refused, say


class Unix(http.client.HTTPConnection):
    """The standard library's client over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def get_unix(path: str) -> tuple[int, str]:
    connection = Unix(path)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.fixture
def admin() -> App:
    admin = App("admin")
    admin.get("/")(lambda: "admin")
    admin.post("/")(lambda request: f"{len(request.body)} bytes")
    return admin


async def echo(connection) -> None:  # type: ignore[no-untyped-def]
    async for line in connection:
        await connection.send(line)


def test_http_unix_and_tcp_at_once(app: App, admin: App, backend: str, tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    app.listen(name="admin", uds=path, app=admin)
    app.listen(name="echo", protocol="tcp", handler=echo, framing="lines")
    with app.start(backend=backend) as server:
        assert [(one.name, one.protocol, one.serves) for one in server.addresses] == [
            ("http", "http", "HTTP, 2 routes"),
            ("admin", "http", "HTTP, 2 routes of admin"),
            ("echo", "tcp", "echo, framing lines"),
        ]
        assert get(server) == (200, "ok")
        assert get_unix(path) == (200, "admin")
        assert say(server.port_of("echo"), b"hello") == b"hello"
        ports = [server.port, server.port_of("echo")]
    assert all(refused(port) for port in ports)
    assert not Path(path).exists()


def test_settings_name_all_of_them(app: App, admin: App) -> None:
    """Listeners of the settings take the place of the one that ``host`` and ``port`` would make."""
    listeners = [ListenerSettings(port=0), ListenerSettings(port=0, app=admin)]
    with app.start(listeners=listeners) as server:
        assert [one.name for one in server.addresses] == ["http", "http-2"]
        assert get_from(server.port_of("http")) == (200, "ok")
        assert get_from(server.port_of("http-2")) == (200, "admin")


def test_own_limits(app: App, admin: App) -> None:
    app.listen(name="small", port=0, app=admin, limits=Limits(body_size=5, max_connections=1))
    app.listen(name="large", port=0, app=admin)
    with app.start(limits=Limits(head_size=600)) as server:
        assert get_from(server.port_of("small"), method="POST", body=b"x" * 6)[0] == 413
        assert get_from(server.port_of("small"), method="POST", body=b"x" * 5)[0] == 200
        assert get_from(server.port_of("large"), method="POST", body=b"x" * 6)[0] == 200
        assert get_from(server.port_of("large"), "/" + "x" * 700)[0] == 431
        assert get_from(server.port_of("small"), "/" + "x" * 700)[0] == 404
        # The one is full; the others are not.
        with socket.create_connection(("127.0.0.1", server.port_of("small"))):
            assert get(server) == (200, "ok")
            assert server.connections >= 1


def test_a_port_that_is_taken_frees_the_others(app: App, admin: App, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    app.listen(name="unix", uds=str(path), app=admin)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app.listen(name="admin", port=taken.getsockname()[1], app=admin)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pytest.raises(OSError, match="taken by another process"):
            app.start(port=port)
        assert refused(port)
        assert not path.exists()


def test_started_again_takes_over_all(app: App, admin: App) -> None:
    app.listen(name="admin", port=0, app=admin)
    app.listen(name="echo", protocol="tcp", handler=echo, framing="lines", port=0)
    with app.start() as first, app.start() as second:
        first._ended.wait(TIMEOUT)
        assert [one.port for one in second.addresses] == [one.port for one in first.addresses]
        assert get_from(second.port_of("admin")) == (200, "admin")


def test_listen_again_under_the_same_name(app: App, admin: App) -> None:
    app.listen(name="admin", port=0)
    app.listen(name="admin", port=0, app=admin)
    with app.start() as server:
        assert [one.name for one in server.addresses] == ["http", "admin"]
        assert get_from(server.port_of("admin")) == (200, "admin")


def test_a_drain_counts_all(app: App, admin: App) -> None:
    begun, may_end = threading.Event(), threading.Event()

    @admin.get("/slow")
    async def slow() -> str:
        import anyio

        begun.set()
        await anyio.to_thread.run_sync(may_end.wait, TIMEOUT)
        return "slow"

    app.listen(name="admin", port=0, app=admin)
    answers: list[tuple[int, str]] = []
    with app.start() as server:
        client = threading.Thread(target=lambda: answers.append(get_from(server.port_of("admin"), "/slow")))
        client.start()
        assert begun.wait(TIMEOUT)
        assert server.exchanges == 1
        server.begin_stop()
        may_end.set()
        client.join(TIMEOUT)
    assert answers == [(200, "slow")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "udp"}, "'http' or 'tcp'"),
        ({"port": 70000}, "65535"),
        ({"protocol": "tcp"}, "needs a handler"),
        ({"limits": 3}, "Limits"),
    ],
)
def test_what_cannot_listen(options: dict[str, object], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        App().listen(**options)
    with pytest.raises(TypeError, match="prot"):
        App().listen(prot="http")
