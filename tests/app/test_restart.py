"""Starting an app of the same name again: the new server takes the old one's place, and no client notices."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from coserver import App, Server, SetupError

from .get import get, get_from, say

RESTARTS = 20


def make(name: str, answer: str) -> App:
    app = App(name)
    app.get("/")(lambda: answer)
    return app


class Hammer:
    """Asks again and again, each time on a new connection, and keeps what it got."""

    def __init__(self, port: int, clients: int = 3) -> None:
        self.answers: list[str] = []
        self.errors: list[BaseException] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Hammer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, answer: str) -> None:
        until = time.monotonic() + 5
        while answer not in self.answers and not self.errors and time.monotonic() < until:
            time.sleep(0.001)

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                status, answer = get_from(self._port)
                assert status == 200
                self.answers.append(answer)
            except BaseException as error:
                self.errors.append(error)
                return


def test_the_port_is_taken_over(backend: str) -> None:
    first = make("cell", "first").start(backend=backend)
    with make("cell", "second").start(backend=backend) as second:
        assert second.port == first.port
        assert get(second) == (200, "second")
    assert not first.running


def test_no_client_notices_twenty_restarts(backend: str) -> None:
    server = make("cell", "0").start(backend=backend)
    with Hammer(server.port) as hammer:
        hammer.wait_for("0")
        for number in range(1, RESTARTS + 1):
            server = make("cell", str(number)).start(backend=backend)
            hammer.wait_for(str(number))
    server.stop()
    assert hammer.errors == []
    assert set(map(str, range(RESTARTS + 1))) <= set(hammer.answers)


@pytest.mark.parametrize(("before", "after"), [("asyncio", "trio"), ("trio", "uvloop"), ("uvloop", "asyncio")])
def test_on_another_backend(before: str, after: str) -> None:
    pytest.importorskip("uvloop")
    pytest.importorskip("trio")
    first = make("cell", before).start(backend=before)
    assert get(first) == (200, before)
    with make("cell", after).start(backend=after) as second:
        assert second.port == first.port
        assert get(second) == (200, after)


def test_a_request_that_runs_is_finished_by_the_old_server() -> None:
    old = App("cell")
    begun, go_on = threading.Event(), threading.Event()

    @old.get("/")
    async def slow() -> str:
        import anyio.to_thread

        begun.set()
        await anyio.to_thread.run_sync(go_on.wait)
        return "old"

    first = old.start()
    answers: list[tuple[int, str]] = []
    client = threading.Thread(target=lambda: answers.append(get(first)))
    client.start()
    begun.wait()
    with make("cell", "new").start() as second:
        assert get(second) == (200, "new")
        assert first.running
        go_on.set()
        client.join()
    assert answers == [(200, "old")]
    assert not first.running


def test_stop_waits_for_the_predecessor_too() -> None:
    first = make("cell", "first").start()
    second = make("cell", "second").start()
    second.stop()
    assert not first.running


def test_a_chain_of_restarts_in_one_go() -> None:
    servers = [make("cell", str(number)).start() for number in range(10)]
    assert get(servers[-1]) == (200, "9")
    servers[-1].stop()
    assert not any(server.running for server in servers)


def test_concurrent_starts_of_one_name(backend: str) -> None:
    servers: list[Server] = []
    threads = [
        threading.Thread(target=lambda n=number: servers.append(make("cell", str(n)).start(backend=backend)))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.port for server in servers}) == 1
    assert get(servers[0])[0] == 200
    for server in servers:
        server.stop()


def test_a_start_that_fails_leaves_the_old_one_running() -> None:
    with make("cell", "old").start() as server:
        broken = make("cell", "new")
        broken.get("/{number}")(lambda nummer: "")
        with pytest.raises(SetupError):
            broken.start()
        assert get(server) == (200, "old")


def test_another_port_is_another_place() -> None:
    first = make("cell", "first").start()
    with make("free", "").start() as free:
        port = free.port
    with make("cell", "second").start(port=port) as second:
        assert second.port == port
        assert get(second) == (200, "second")
    assert not first.running


def test_apps_without_a_name_never_replace_each_other() -> None:
    one, two = App(), App()
    with one.start() as first, two.start() as second:
        assert first.name != second.name
        assert first.port != second.port


def test_after_a_stop_the_port_is_free_for_anybody() -> None:
    with make("cell", "").start() as server:
        port = server.port
    with make("other", "other").start(port=port) as server:
        assert get(server) == (200, "other")


def test_tcp_listeners_are_taken_over_by_their_names() -> None:
    def chatty(answer: bytes) -> App:
        app = App("chat")

        async def chat(connection):  # type: ignore[no-untyped-def]
            async for _ in connection:
                await connection.send(answer)

        app.tcp(framing="lines", name="chat")(chat)
        return app

    first = chatty(b"first").start()
    with chatty(b"second").start() as second:
        assert second.port_of("chat") == first.port_of("chat")
        assert say(second.port_of("chat"), b"?") == b"second"


def test_a_unix_socket_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "cell.sock")
    make("cell", "first").start(uds=path)
    with make("cell", "second").start(uds=path):
        assert Path(path).exists()
    assert not Path(path).exists()
