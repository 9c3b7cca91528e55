"""A part of `python -m benchmarks observe`: the cost of watching 5,000 connections.

The server runs in this process, its clients in another. The dashboard runs on a pseudo-terminal of its own, as a person
starts it. A tenth of the connections are busy. "The loop" is the part of a snapshot that the server's own loop does.
"""

import fcntl
import os
import pty
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import anyio

from benchmarks import report
from benchmarks.figures import Spread
from benchmarks.process import TICKS, raise_open_files, ticks
from coserver import App, Server
from coserver.app.inspect.inspection import view_of

CONNECTIONS, BUSY = 5000, 500
LOOKS, WATCHED_SECONDS = 15, 10
#: Milliseconds, milliseconds, and per cent of a core.
SNAPSHOT_AT_MOST, LOOP_AT_MOST, DASHBOARD_AT_MOST = 20.0, 5.0, 10.0
_PLACE = struct.pack("HHHH", 40, 120, 0, 0)


def run() -> bool:
    """Print a table; true if every bar was met."""
    if raise_open_files() < 2 * CONNECTIONS + 200:
        print(f"## {CONNECTIONS} connections\n\nnot measured: too few open files are allowed\n")
        return False
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cs-"))
        server = stack.enter_context(_app().start(control=f"{folder}/control.sock"))
        stack.enter_context(_clients(server))
        rows = [
            ("a snapshot taken and written, ms of CPU", _timed(_look_at(server), time.thread_time), SNAPSHOT_AT_MOST),
            ("... in all, ms, beside the server and others", _timed(_look_at(server)), None),
            ("... the loop's part, ms", _of_the_loop(server), LOOP_AT_MOST),
            ("dashboard, % of a core", _dashboard(f"{folder}/control.sock"), DASHBOARD_AT_MOST),
        ]
        server.stop(0)
    table = [(name, one.text(".1f"), _verdict(one, most)) for name, one, most in rows]
    print(f"## {CONNECTIONS} connections, {BUSY} of them busy\n")
    print(report.table(("cost", "median (min – max)", "verdict"), table), end="\n\n", flush=True)
    return all(most is None or one.median <= most for _, one, most in rows)


def _verdict(one: Spread, most: float | None) -> str:
    return "" if most is None else f"at most {most:g}: {'pass' if one.median <= most else 'MISSED'}"


def _app() -> App:
    app = App(name="crowd")

    @app.get("/slow")
    async def slow() -> None:
        await anyio.sleep_forever()

    @app.get("/")
    async def index() -> str:
        return "ok"

    return app


@contextmanager
def _clients(server: Server) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd", str(server.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        while len(server.snapshot().exchanges) < BUSY:
            time.sleep(0.05)
        yield
        child.kill()


def _look_at(server: Server) -> Callable[[], object]:
    return lambda: server.snapshot().to_json()


def _timed(look: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Spread:
    found = []
    for _ in range(LOOKS):
        time.sleep(0.1)  # a pause, as between two snapshots of a dashboard, so that other threads run
        began = clock()
        look()
        found.append((clock() - began) * 1e3)
    spread = Spread.of(found)
    assert spread is not None
    return spread


def _of_the_loop(server: Server) -> Spread:
    """Time the part of a snapshot that runs on the server's own loop."""
    what = view_of(server)

    def on_the_loop() -> None:
        done = threading.Event()

        def copy() -> None:
            what.copy()
            done.set()

        server.post(copy)
        done.wait()

    return _timed(on_the_loop)


def _dashboard(path: str) -> Spread:
    """The share of a core that `coserver top` takes, second by second."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, _PLACE)
    command = [sys.executable, "-m", "coserver_cli", "top", path]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as top:
        threading.Thread(target=_drain, args=(master,), daemon=True).start()
        time.sleep(3)
        found, before = [], ticks(top.pid)
        for _ in range(WATCHED_SECONDS):
            began = time.monotonic()
            time.sleep(1)
            now = ticks(top.pid)
            found.append((now - before) / TICKS / (time.monotonic() - began) * 100)
            before = now
        top.terminate()
    os.close(slave)
    spread = Spread.of(found)
    assert spread is not None
    return spread


def _drain(descriptor: int) -> None:
    with suppress(OSError):
        while os.read(descriptor, 65536):
            pass


def _be_clients(port: int) -> None:
    """Open the connections, print "ready", and hold them until stdin ends. Runs in a process of its own."""
    raise_open_files()
    held = []
    for number in range(CONNECTIONS):
        one = socket.create_connection(("127.0.0.1", port))
        held.append(one)
        target = b"/slow" if number < BUSY else b"/"
        one.sendall(b"GET %b HTTP/1.1\r\nHost: bench\r\nUser-Agent: crowd\r\n\r\n" % target)
        if number >= BUSY:
            one.recv(1000)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _be_clients(int(sys.argv[1]))
