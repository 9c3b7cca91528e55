"""``app.run()``: in the foreground, ended by a signal or by ``stop``; and what ``import coserver`` loads."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator

import anyio
import pytest

from coserver import App, Request, Server
from coserver.app import registry

from .get import get

LOADED = """
import sys
import coserver
print([name for name in ("rich", "typer", "IPython", "trio", "uvloop", "asyncio") if name in sys.modules])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains(app: App, backend: str, number: signal.Signals) -> None:
    answers: list[tuple[int, str]] = []
    clients: list[threading.Thread] = []

    @app.get("/while")
    async def for_a_while() -> str:
        os.kill(os.getpid(), number)
        await anyio.sleep(0.1)
        return "finished"

    def on_start(server: Server) -> None:
        clients.append(threading.Thread(target=lambda: answers.append(get(server, "/while"))))
        clients[0].start()

    seen: list[tuple[int, int]] = []
    ended_by = app.run(
        port=0,
        backend=backend,
        on_start=on_start,
        on_signal=lambda server, count: seen.append((server.exchanges, count)),
    )
    clients[0].join()
    assert ended_by == number
    assert answers == [(200, "finished")]
    assert seen == [(1, 1)]


def test_a_second_signal_ends_at_once(app: App, backend: str) -> None:
    cancelled = threading.Event()
    clients: list[threading.Thread] = []

    @app.get("/slow")
    async def slow() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(30)
        finally:
            cancelled.set()

    def ask(server: Server) -> None:
        try:
            get(server, "/slow")
        except (OSError, http.client.HTTPException):
            pass  # cut off

    def on_start(server: Server) -> None:
        clients.append(threading.Thread(target=ask, args=(server,)))
        clients[0].start()

    counts: list[int] = []
    ended_by = app.run(port=0, backend=backend, on_start=on_start, on_signal=lambda _, count: counts.append(count))
    clients[0].join()
    assert ended_by == signal.SIGTERM
    assert counts == [1, 2]
    assert cancelled.is_set()


@pytest.mark.parametrize("kind", ["async def", "def", "stream", "after"])
def test_a_handler_that_raises_keyboard_interrupt_ends_it_in_one_line(
    app: App, backend: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It stops the server as Ctrl+C does: one line tells which handler it was, and where."""
    clients: list[threading.Thread] = []

    @app.get("/async def")
    async def on_the_loop() -> None:
        raise KeyboardInterrupt

    @app.get("/def")
    def in_a_worker() -> None:
        raise KeyboardInterrupt

    @app.get("/stream")
    async def stream() -> AsyncIterator[str]:
        yield "begun"
        raise KeyboardInterrupt

    @app.get("/after")
    def after(request: Request) -> str:
        request.after(in_a_worker)
        return "answered"

    def ask(server: Server) -> None:
        try:
            get(server, "/" + kind.replace(" ", "%20"))
        except (OSError, http.client.HTTPException):
            pass  # cut off

    def on_start(server: Server) -> None:
        clients.append(threading.Thread(target=ask, args=(server,)))
        clients[0].start()

    assert app.run(port=0, backend=backend, on_start=on_start) == signal.SIGINT
    clients[0].join()
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "raised KeyboardInterrupt at line" in record.getMessage()
    assert "test_run.py" in record.getMessage()
    assert not record.exc_info


def test_a_keyboard_interrupt_of_a_handlers_own_task_is_told_too(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """In a group, as a task group raises it. (asyncio leaves its loop at once, and reports tasks of its own.)"""

    async def child() -> None:
        raise KeyboardInterrupt

    @app.get("/")
    async def parent() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            await anyio.sleep(10)

    def ask(server: Server) -> None:
        try:
            get(server, "/")
        except (OSError, http.client.HTTPException):
            pass  # cut off

    def on_start(server: Server) -> None:
        threading.Thread(target=ask, args=(server,)).start()

    assert app.run(port=0, backend="trio", on_start=on_start) == signal.SIGINT
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "KeyboardInterrupt was raised at line" in record.getMessage()


STUCK = """
import anyio
from coserver import App, Limits
app = App(limits=Limits(grace=0, cleanup_timeout=60))
@app.get("/")
async def stuck():
    print("begun", flush=True)
    with anyio.CancelScope(shield=True):
        await anyio.sleep(60)
app.run(port=0, backend=%r, on_start=lambda server: print(server.port, flush=True),
        on_signal=lambda server, count: print("signal", count, flush=True))
"""


def test_a_third_signal_kills_what_nothing_can_end(backend: str) -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK % backend], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert process.stdout.readline() == "begun\n"
                for count in (1, 2):
                    process.send_signal(signal.SIGTERM)
                    assert process.stdout.readline() == f"signal {count}\n"
                process.send_signal(signal.SIGTERM)
                assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()


def test_stop_ends_it_without_a_signal(app: App, backend: str) -> None:
    assert app.run(port=0, backend=backend, on_start=lambda server: server.stop()) is None


def test_off_the_main_thread_no_signals_are_heeded(app: App) -> None:
    started: list[Server] = []
    thread = threading.Thread(target=app.run, kwargs={"port": 0, "on_start": lambda server: server.stop()})
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert started == []


def test_an_error_in_on_start_ends_it(app: App) -> None:
    def on_start(server: Server) -> None:
        raise ZeroDivisionError

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - in groups, whose depth is nobody's business
        app.run(port=0, on_start=on_start)
    assert caught.group_contains(ZeroDivisionError)


def test_importing_loads_no_screen_and_no_backend() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_says_where_it_listens(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    """A script that ends with ``app.run()`` shows a person where to look, and ``coserver top`` finds it."""
    seen: list[tuple[str, bool]] = []

    @app.get("/stop")
    async def stop() -> str:
        (server,) = registry.all_running()
        seen.append((server.url, server.control is not None))
        server.stop()
        return "stopped"

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def ask() -> None:
        for _ in range(500):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/stop", timeout=10).close()
            except OSError:
                threading.Event().wait(0.01)
            else:
                return

    client = threading.Thread(target=ask)
    client.start()
    app.run(port=port)
    client.join()
    assert seen == [(f"http://127.0.0.1:{port}", True)]
    assert f"{app.name} listens on http://127.0.0.1:{port} (Ctrl+C stops it)" in capfd.readouterr().err


def test_on_start_speaks_in_its_place(app: App, capfd: pytest.CaptureFixture[str]) -> None:
    app.run(port=0, control="off", on_start=lambda server: server.stop())
    assert capfd.readouterr().err == ""
