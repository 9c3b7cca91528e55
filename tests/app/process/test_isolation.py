"""A server in a process of its own: the same object in hand, and a process that never outlives this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anyio
import pytest

pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
from coserver import App, Limits
from coserver.app.process.isolation import IsolatedServer
from coserver.observe.step.held import NotHeld
from coserver.server.handler.errors import SetupError

PATIENCE = 60


def make_app(name: str) -> App:
    """Its handlers are closures: they go by value."""
    app, word = App(name), "first"
    app.state.stock = {7: "lamp"}

    @app.get("/items/{id}")
    def item(id: int) -> dict[str, Any]:
        return {"id": id, "name": app.state.stock.get(id), "word": word, "pid": os.getpid()}

    @app.get("/bad")
    def bad() -> None:
        raise KeyError("missing")

    @app.error(KeyError)
    def mended(error: Exception) -> str:
        return f"mended {error}"

    @app.get("/busy")
    def busy() -> str:
        while True:
            pass

    return app


def get(server: Any, path: str) -> tuple[int, str]:
    try:
        with urlopen(server.url + path, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except OSError as error:
        return getattr(error, "code", 0), getattr(error, "read", bytes)().decode()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def wait_until(done: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def server() -> Iterator[IsolatedServer]:
    with make_app("apart").start(isolated=True, record=True) as one:
        yield one
    assert gone(one.pid)
    assert not listens(one.port)
    assert not one.running


def test_it_serves_in_another_process(server: IsolatedServer) -> None:
    status, said = get(server, "/items/7")
    assert status == 200
    assert '"name":"lamp","word":"first"' in said
    assert f'"pid":{server.pid}' in said
    assert server.pid != os.getpid()
    assert get(server, "/bad") == (500, "mended 'missing'")
    assert f"process {server.pid}" in repr(server)


def test_it_is_looked_at_as_one_of_this_process(server: IsolatedServer) -> None:
    get(server, "/items/8")
    assert server.snapshot().server == "apart"
    assert server.snapshot().pid == server.pid
    wait_until(lambda: [one.target for one in server.traces("~u /items/8")] == ["/items/8"])
    assert server.traces.recording
    assert "json" in server.traces[-1].response.get("content-type")
    assert server.traces.har("~u items")["log"]["entries"]
    number = server.traces[-1].id
    assert server.traces.find(number).id == number
    with pytest.raises(KeyError):
        server.traces.find(999_999)
    total, last = server.traces.latest(0, 1)
    assert total >= len(last) == 1
    assert server.traces.latest(total, 10) == (total, [])
    picture = server.live().draw().since(None)
    assert picture is not None
    assert any(row[2] == ["/items/8"] for row in picture["tables"]["requests"].values())


def test_it_is_stepped_as_one_of_this_process(server: IsolatedServer) -> None:
    answers: list[Any] = []
    with server.step("~u /items/9") as step:
        client = threading.Thread(target=lambda: answers.append(get(server, "/items/9")))
        client.start()
        held = step.wait(PATIENCE)
        assert (held.phase, held.title) == ("handler", "GET /items/9")
        assert held.exchange.handler.endswith("item")
        held.edit(target="/items/7")
        with pytest.raises(ValueError, match="nothing can be held at 'nowhere'"):
            step.until("nowhere")
        step.until("response")
        assert step.wait(PATIENCE).phase == "response"
        step.resume()
        client.join()
        assert "lamp" in answers[0][1]
        with pytest.raises(NotHeld):
            held.next()
        with pytest.raises(TimeoutError):
            step.wait(0.01)
        with pytest.raises(TimeoutError):
            anyio.run(step.wait_async, 0.01)
    assert step.closed
    with pytest.raises(ValueError, match="nothing can be held"):
        server.step(at="suspend")


def test_started_again_it_takes_the_place_and_the_port() -> None:
    first = make_app("again").start(isolated=True)
    second = make_app("again").start(isolated=True)
    try:
        assert second.port == first.port
        assert second.pid != first.pid
        assert f'"pid":{second.pid}' in get(second, "/items/7")[1]
        wait_until(lambda: gone(first.pid))
        assert get(second, "/items/7")[0] == 200
        with make_app("again").start() as here:  # in this process now: the other one ends
            assert here.port == first.port
            assert f'"pid":{os.getpid()}' in get(here, "/items/7")[1]
            wait_until(lambda: not second.running)
            third = make_app("again").start(isolated=True)  # and back
            with third:
                assert third.port == first.port
                assert f'"pid":{third.pid}' in get(third, "/items/7")[1]
            assert not here.running
    finally:
        second.stop()


def test_a_handler_that_computes_for_ever_ends_with_it() -> None:
    server = make_app("computes").start(isolated=True, limits=Limits(cleanup_timeout=0.1))
    threading.Thread(target=get, args=(server, "/busy"), daemon=True).start()
    wait_until(lambda: any(one.target == "/busy" for one in server.snapshot().exchanges))
    server.stop(0)
    assert gone(server.pid)


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    script = (
        "from coserver import App\nimport time\napp = App('killed')\n@app.get('/')\ndef index(): return 'x'\n"
        "server = app.start(isolated=True)\nprint(server.pid, server.port, flush=True)\ntime.sleep(600)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    with parent.stdout:
        pid, port = map(int, parent.stdout.readline().split())
    assert listens(port)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: gone(pid) and not listens(port))
    assert not list(tmp_path.iterdir())  # nor is its folder left behind


def test_one_that_dies_is_said_and_leaves_no_port(capfd: pytest.CaptureFixture[str]) -> None:
    server = make_app("dies").start(isolated=True)
    table = server.live()
    assert "dies: running" in table.frozen()["text/html"]
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.running and not listens(server.port))
    wait_until(lambda: "dies" in capfd.readouterr().err)
    assert table.over()
    assert "dies has ended" in table.frozen()["text/html"]
    server.stop()


def test_what_cannot_go_is_named() -> None:
    app, lock = App("locked"), threading.Lock()

    @app.get("/")
    def index() -> str:
        with lock:
            return "x"

    with pytest.raises(SetupError, match=r"index of GET / uses 'lock', <unlocked _thread.lock.*lifespan"):
        app.start(isolated=True)
    other = make_app("state")
    other.state.lock = lock
    with pytest.raises(SetupError, match=r"app.state uses 'lock'"):
        other.start(isolated=True)


def test_what_keeps_it_from_starting_is_told_here() -> None:
    app = make_app("fails")

    @app.lifespan
    def life() -> Iterator[None]:
        raise RuntimeError("no database")
        yield

    with pytest.raises(SetupError, match="RuntimeError: no database"):
        app.start(isolated=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="is taken by another process"):
            make_app("taken").start(isolated=True, port=taken.getsockname()[1])


def _unpicklable(app: App) -> None:
    lock = threading.Lock()
    app.get("/locked")(lambda: str(lock))


def _bad_lifespan(app: App) -> None:
    @app.lifespan
    def life() -> Iterator[None]:
        raise RuntimeError("no database")
        yield


def _bad_route(app: App) -> None:
    app.get("/x/{a}")(lambda b: b)


def _bad_place(app: App) -> None:
    app.listen(name="more", uds="/nowhere/at/all/s")


@pytest.mark.parametrize("isolated", [True, False], ids=["apart", "here"])
@pytest.mark.parametrize("spoil", [_unpicklable, _bad_lifespan, _bad_route, _bad_place])
def test_a_start_that_fails_leaves_the_running_server(spoil: Any, isolated: bool) -> None:
    with make_app("stays").start(isolated=isolated) as server:
        changed = make_app("stays")
        spoil(changed)
        for again in (True, False):
            if spoil is _unpicklable and not again:
                continue
            with pytest.raises((SetupError, OSError, RuntimeError)):
                changed.start(isolated=again)
            assert server.running
            assert get(server, "/items/7")[0] == 200
    assert not listens(server.port)


def test_every_kind_of_listener_goes_over(tmp_path: Path) -> None:
    """A host of several addresses, a TCP handler and a UNIX socket: from here to a process, to another, and back."""
    path = os.path.relpath(tmp_path / "s")

    def make() -> App:
        app = make_app("kinds")

        @app.tcp(framing="lines")
        async def echo(connection: Any) -> None:
            async for line in connection:
                await connection.send(line)

        app.listen(name="unix", uds=path)
        return app

    places: list[list[tuple[int, str]]] = []
    for isolated in (False, True, True, False):
        server = make().start(isolated=isolated, host="localhost")
        places.append([(one.port, one.path) for one in server.addresses])
        assert get(server, "/items/7")[0] == 200
        with socket.create_connection(("localhost", server.port_of("echo"))) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
    assert len(places[0]) == 3
    assert all(one == places[0] for one in places)
    server.stop()
    assert not os.path.exists(path)
    assert not listens(server.port)


def test_no_client_notices_the_change() -> None:
    server: Any = make_app("changes").start()
    port, failures, over = server.port, [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            if (status := get(server, "/items/7")[0]) != 200:
                failures.append(status)

    client = threading.Thread(target=ask)
    client.start()
    for isolated in (True, False, True):
        server = make_app("changes").start(isolated=isolated)
        assert server.port == port
    over.set()
    client.join()
    server.stop()
    assert failures == []


def test_a_request_under_way_ends_on_the_old_server() -> None:
    app, go_on, begun = make_app("under way"), threading.Event(), threading.Event()

    @app.get("/slow")
    def slow() -> str:
        begun.set()
        go_on.wait(PATIENCE)
        return "old"

    old, answers = app.start(), []
    client = threading.Thread(target=lambda: answers.append(get(old, "/slow")))
    client.start()
    begun.wait(PATIENCE)
    new = make_app("under way").start(isolated=True)
    assert get(new, "/items/7")[0] == 200
    go_on.set()
    client.join()
    assert answers == [(200, "old")]
    new.stop()
    assert not old.running
