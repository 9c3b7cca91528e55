"""What the pair of events says of each family's suspensions: in which call, on what, where in the user's code."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import queue
import re
import select
import selectors
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, testing
from coserver.hooks import offload
from coserver.hooks.shims import dns
from coserver.hooks.suspension import await_
from coserver.lifecycle import events as ev

from ..server.clients import connect, get

pytestmark = pytest.mark.usefixtures("hooked")

ADDRESS = r"127\.0\.0\.1:\d+"


class Things:
    """What the calls wait for: never there."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.one = stack.enter_context(socket.create_connection(self.listener.getsockname()))
        self.other = stack.enter_context(self.listener.accept()[0])
        self.datagrams = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.datagrams.bind(("127.0.0.1", 0))
        self.path = str(folder / "listens")
        self.unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.unix.bind(self.path)
        self.unix.listen()
        self.reads, self.writes = os.pipe()
        stack.callback(os.close, self.reads)
        stack.callback(os.close, self.writes)
        self.file = stack.enter_context((folder / "locked").open("w"))
        self.holder = stack.enter_context((folder / "locked").open("w"))
        fcntl.flock(self.holder, fcntl.LOCK_EX)
        self.stack = stack
        for sock in (self.one, self.other, self.datagrams, self.listener, self.unix):
            sock.settimeout(0.03)

    def locked(self) -> Any:
        lock = threading.Lock()
        lock.acquire()
        return lock


def _timed_out(function: Callable[[], Any]) -> None:
    with pytest.raises((TimeoutError, queue.Empty, subprocess.TimeoutExpired, concurrent.futures.TimeoutError)):
        function()


def _wrapped(things: Things) -> None:
    context = ssl.create_default_context()
    _timed_out(lambda: context.wrap_socket(things.one, server_hostname="localhost"))


def _selects(things: Things) -> None:
    with selectors.DefaultSelector() as selector:
        for one in (things.listener, things.unix, things.datagrams, things.reads):
            selector.register(one, selectors.EVENT_READ)
        assert not selector.select(0.02)


def _polls(things: Things) -> None:
    poll = select.poll()
    poll.register(things.reads, select.POLLIN)
    assert not poll.poll(20)


def _reads(things: Things) -> None:
    threading.Timer(0.02, os.write, (things.writes, b".")).start()
    assert os.read(things.reads, 1) == b"."


def _flocks(things: Things) -> None:
    threading.Timer(0.02, fcntl.flock, (things.holder, fcntl.LOCK_UN)).start()
    fcntl.flock(things.file, fcntl.LOCK_EX)


def _waits_for_child(things: Things) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        _timed_out(lambda: child.wait(0.02))
        child.kill()


def _child_by_os(things: Things) -> None:
    os.waitpid(os.posix_spawn("/bin/sleep", ["sleep", "0.02"], {}), 0)


def _joins(things: Things) -> None:
    thread = threading.Thread(target=time.sleep, args=(0.02,), name="worker of mine")
    thread.start()
    thread.join()


def _gets(waiting: Any) -> None:
    _timed_out(lambda: waiting.get(timeout=0.02))


def _results(things: Things) -> None:
    _timed_out(lambda: concurrent.futures.Future[None]().result(0.02))


def _futures(things: Things) -> None:
    concurrent.futures.wait([concurrent.futures.Future(), concurrent.futures.Future()], 0.02)


def _conditions(things: Things) -> None:
    condition = threading.Condition()
    with condition:
        condition.wait(0.02)


def _full(things: Things) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.03)
            with contextlib.suppress(TimeoutError):
                sock.connect(listener.getsockname())


def _sends(things: Things) -> None:
    _timed_out(lambda: things.one.sendall(bytes(100_000_000)))


@offload
def slowly() -> None:
    time.sleep(0.001)


#: In the order of the families: which call, on what, and what suspends there.
CASES: dict[str, tuple[str, str, Callable[[Things], Any]]] = {
    "sleep": ("sleep", r"0\.01 s", lambda things: time.sleep(0.01)),
    "recv": ("recv", ADDRESS, lambda things: _timed_out(lambda: things.one.recv(1))),
    "recvfrom": ("recvfrom", ADDRESS, lambda things: _timed_out(lambda: things.datagrams.recvfrom(1))),
    "accept": ("accept", ADDRESS, lambda things: _timed_out(things.listener.accept)),
    "accept of UNIX": ("accept", ".*/listens", lambda things: _timed_out(things.unix.accept)),
    "connect": ("connect", ADDRESS, _full),
    "sendall": ("sendall", ADDRESS, _sends),
    "tls": ("handshake", ADDRESS, _wrapped),
    "dns": ("getaddrinfo", "nowhere", lambda things: socket.getaddrinfo("nowhere", 80)),
    "select": ("select", r"descriptor \d+, pipe", lambda things: select.select([things.reads], [], [], 0.02)),
    "poll": ("poll", r"descriptor \d+, pipe", _polls),
    "selectors": ("epoll", rf"(descriptor \d+, ({ADDRESS}|.*/listens|pipe)(; |$| and 1 more)){{3}}", _selects),
    "pipes": ("read", r"descriptor \d+, pipe", _reads),
    "subprocess": ("wait", r"process \d+, \['sleep', '60'\]", _waits_for_child),
    "waitpid": ("waitpid", r"process \d+", _child_by_os),
    "system": ("system", "'sleep 0.01'", lambda things: os.system("sleep 0.01")),
    "flock": ("flock", r"descriptor \d+, .*/locked", _flocks),
    "Lock": ("acquire", "<locked _thread.lock object at .*>", lambda things: things.locked().acquire(timeout=0.02)),
    "Event": ("Event.wait", "<threading.Event at .*>", lambda things: threading.Event().wait(0.02)),
    "Condition": ("Condition.wait", "<Condition.*>", _conditions),
    "Semaphore": (
        "Semaphore.acquire", "<threading.Semaphore at .*>", lambda things: threading.Semaphore(0).acquire(timeout=0.02),
    ),
    "Queue": ("Queue.get", "<queue.Queue object at .*>", lambda things: _gets(queue.Queue())),
    "SimpleQueue": ("get", "<_queue.SimpleQueue object at .*>", lambda things: _gets(queue.SimpleQueue())),
    "Future": ("Future.result", "<Future at .* state=pending>", _results),
    "futures": ("wait", "2 futures", _futures),
    "join": ("Thread.join", r"<Thread\(worker of mine, started \d+\)>", _joins),
    "offload": ("offload", r".*test_describe\.slowly", lambda things: slowly()),
    "await_": ("await_", "<coroutine object sleep at .*>", lambda things: await_(anyio.sleep(0.01))),
}  # fmt: skip


async def test_the_pair_of_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = dns._getaddrinfo
    monkeypatch.setattr(dns, "_getaddrinfo", lambda host, *args: look_up(host, *args) if host != "nowhere" else [])
    app, seen, wrong = App(), [], {}
    with contextlib.ExitStack() as stack:
        things = Things(tmp_path, stack)

        @app.get("/{name}")
        def wait(name: str) -> None:
            CASES[name][2](things)

        app.emitter.add_observer(seen.append)
        async with testing.serving(app) as server, connect(server.port) as client:
            for name, (call, on, _) in CASES.items():
                seen.clear()
                answer = await client.ask(get(f"/{name.replace(' ', '%20')}"))
                assert answer.status == 204, (name, answer.text)
                told = [one for one in seen if isinstance(one, ev.Suspended | ev.Resumed)]
                pairs = [(one, other) for one, other in zip(told[::2], told[1::2], strict=True)]
                assert pairs, name
                for one, other in pairs:
                    assert (type(one), type(other), one.call) == (ev.Suspended, ev.Resumed, other.call), name
                    assert re.match(rf"{re.escape(__file__)}:\d+ in ", one.where), (name, one.where)
                found = [(one.call, one.on) for one, _ in pairs]
                if not any(one[0] == call and re.fullmatch(on, one[1], re.DOTALL) for one in found):
                    wrong[name] = found
    assert not wrong


class Reticent(queue.Queue[int]):
    """Its repr takes the lock that is waited for; and then it raises."""

    def __repr__(self) -> str:
        raise ValueError(self.qsize())


@pytest.mark.parametrize("what", ["future", "queue"])
async def test_a_lock_that_its_repr_takes_too(what: str) -> None:
    """Who watches asks for the repr of what a handler waits for, just when another thread has its lock."""
    future, waiting = concurrent.futures.Future[int](), Reticent()
    lock: Any = future._condition if what == "future" else waiting.mutex
    app, seen, held = App(), [], threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            time.sleep(0.05)
        future.set_result(1)
        waiting.put(1)

    @app.get("/")
    def wait() -> str:
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        found = future.result(10) if what == "future" else waiting.get(timeout=10)
        thread.join()
        return str(found)

    app.emitter.add_observer(seen.append)
    async with testing.serving(app) as server, connect(server.port) as client:
        assert (await client.ask(get("/"))).text == "1"
    told = [(one.call, one.on) for one in seen if isinstance(one, ev.Suspended)]
    shown = {"future": ("Future.result", "<Future at .* state=pending>"), "queue": ("Queue.get", "<.*Reticent .*>")}
    assert any(one[0] == shown[what][0] and re.fullmatch(shown[what][1], one[1]) for one in told), told
