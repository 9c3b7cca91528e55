"""Forks in a worker, the end of a process while workers wait, and signals."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from coserver import run_blocking
from coserver.hooks.workers import in_worker

from .side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


async def test_a_forked_child_is_no_worker() -> None:
    def fork() -> None:
        reads, writes = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                time.sleep(0.01)  # suspended, it would go on in a copy of the parent's loop
                os.write(writes, b"in a worker" if in_worker() else b"alone")
                code = 0
            finally:
                os._exit(code)
        os.close(writes)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert os.read(reads, 100) == b"alone"
        os.close(reads)
        assert in_worker()

    await both(fork, lambda: time.sleep(0.05))


def _child(pipe: object) -> None:
    time.sleep(0.01)
    pipe.send("hello")  # type: ignore[attr-defined]


async def test_multiprocessing() -> None:
    def run() -> object:
        near, far = multiprocessing.Pipe()
        child = multiprocessing.get_context("fork").Process(target=_child, args=(far,))
        child.start()
        try:
            return near.recv()
        finally:
            child.join()
            near.close()
            far.close()

    assert await run_blocking(run) == "hello"


SCRIPT = """
import http.client, socket, threading, time, urllib.request
from coserver import App
app = App()
one, other = socket.socketpair()
started = []

@app.get("/sleep")
def sleep():
    started.append(1)
    time.sleep(60)

@app.get("/recv")
def recv():
    started.append(1)
    one.recv(1)

def ask(path):
    try:
        urllib.request.urlopen(server.url + path)
    except (OSError, http.client.HTTPException):
        pass  # the server is gone

server = app.start(backend={backend!r})
for path in ("/sleep", "/recv"):
    threading.Thread(target=ask, args=(path,), daemon=True).start()
while len(started) < 2:
    time.sleep(0.01)
{last}
"""


@pytest.mark.parametrize("last", ["", "import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_the_process_ends_while_workers_wait(backend: str, last: str) -> None:
    script = SCRIPT.format(backend=backend, last=last)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


LATE = """
import atexit, os, threading, time, queue
locks = threading.Lock(), threading.RLock(), threading._PyRLock(), queue.Queue(), threading.Event()

def late(which, locks=locks, os=os, threading=threading, time=time):
    for lock in locks[:3]:
        with lock:
            pass
    locks[3].put(1)
    locks[3].get(timeout=1)
    locks[4].set()
    time.sleep(0)
    threading.local().number = 1
    os.write(1, which + b"\\n")

class Late:
    def __del__(self, late=late):
        late(b"destructor")

atexit.register(late, b"first registered")
from coserver import hooks
hooks.install()
atexit.register(late, b"last registered")
one = Late()
"""


def test_what_runs_after_greenlets_have_ended() -> None:
    """What exits last, logging say, still finds locks that work."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert not done.stderr
    assert done.stdout.splitlines() == ["last registered", "first registered", "destructor"]


CLEARED = """
import logging, sys, threading, types
early = types.ModuleType("early")
sys.modules["early"] = early
early.handler = logging.Handler()
early.lock = threading.RLock()
from coserver import hooks
hooks.install()

class Late:
    def __del__(self, lock=early.lock, stdout=sys.stdout):
        with lock:
            print("destructor", file=stdout)

early.late = Late()
# Modules that something still refers to are cleared, the last imported ones first: each name in them becomes None.
sys.kept = [early, *(one for name, one in sys.modules.items() if name.startswith("coserver."))]
"""


def test_what_ends_after_the_modules_of_the_shims_were_cleared() -> None:
    """A handler of logging that lives so long takes a lock when it goes (``_removeHandlerRef``)."""
    done = subprocess.run([sys.executable, "-c", CLEARED], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "destructor\n", "")
