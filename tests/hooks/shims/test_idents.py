"""threading.get_ident and current_thread in workers: what excludes others by them, and what needs the real thread."""

from __future__ import annotations

import _thread
import asyncio
import gc
import logging
import os
import reprlib
import signal
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from coserver import App, Request, await_, hooks, run_blocking, testing
from coserver.hooks.shims import idents as family

from ..side_by_side import both

hooks.uninstall()  # what an app of another test has installed: the originals are bound here
pytestmark = pytest.mark.usefixtures("hooked")
bound_before = threading.get_ident


def in_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def by_currentthread() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return threading.currentThread()


#: Looked up when it is called: the hooks may not be installed yet.
ASK: dict[str, Callable[[], Any]] = {
    "threading.get_ident": lambda: (threading.get_ident(),),
    "_thread.get_ident": lambda: (_thread.get_ident(),),
    "bound before": lambda: (bound_before(),),
    "current_thread": lambda: (threading.current_thread(),),
    "currentThread": by_currentthread,
    "ident": lambda: threading.current_thread().ident,
    "name": lambda: threading.current_thread().name,
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
async def test_each_call_has_its_own_and_keeps_it(ask: Callable[[], Any]) -> None:
    def handler() -> Any:
        first = ask()
        time.sleep(0.005)
        here = ask()
        os.read(reads, 1)
        return first, here, ask()

    reads, writes = os.pipe()
    try:
        os.write(writes, b"ab")
        found = await both(handler, handler)
        os.write(writes, b"c")
        found.append(await run_blocking(handler))  # in one of the same workers
    finally:
        os.close(reads)
        os.close(writes)
    assert all(one == two == three for one, two, three in found)
    seen = {one for one, _, _ in found}
    assert len(seen) == 3
    assert ask() not in seen
    assert in_thread(ask) not in seen


async def test_number_and_object_belong_together() -> None:
    def handler() -> None:
        thread: Any = threading.current_thread()
        assert thread is threading.current_thread()
        assert thread is not threading.main_thread()
        assert thread.ident == threading.get_ident() == _thread.get_ident() > 0
        assert thread.native_id == threading.get_native_id()
        assert thread.is_alive()
        assert thread.daemon is threading.main_thread().daemon
        assert repr(thread).startswith("<WorkerThread(worker-")
        with pytest.raises(RuntimeError, match="cannot join current thread"):
            thread.join()
        with pytest.raises(RuntimeError):
            thread.start()
        kept.append(thread)

    kept: list[Any] = []
    await run_blocking(handler)
    assert not kept[0].is_alive()
    with pytest.raises(RuntimeError, match="not a thread"):
        kept[0].join()


@pytest.mark.parametrize("function", [threading.get_ident, threading.current_thread])
async def test_the_function_itself_as_the_handler(function: Callable[[], Any]) -> None:
    # the parameters were made before the install: the originals; what the module holds now is asked
    function = getattr(threading, function.__name__)
    assert await run_blocking(function) != function()


async def test_no_number_is_that_of_a_thread_and_none_is_used_twice() -> None:
    seen = {await run_blocking(threading.get_ident) for _ in range(100)}
    assert len(seen) == 100
    # a thread's number is the address of its structure, or a handle of Windows: even
    assert all(one % 2 and one < 1 << 53 for one in seen)


async def test_nothing_is_left_of_a_call() -> None:
    def ask() -> None:
        threading.current_thread().name = "mine"  # type: ignore[attr-defined]
        threading.get_ident()

    await run_blocking(ask)
    gc.collect()
    before, threads = len(threading._active), threading.active_count()  # type: ignore[attr-defined]
    dangling = len(threading._dangling)  # type: ignore[attr-defined]
    for _ in range(2000):
        await run_blocking(ask)
    assert len(threading._active) == before  # type: ignore[attr-defined]
    assert threading.active_count() == threads
    assert len(threading._dangling) == dangling  # type: ignore[attr-defined]
    assert not family.living
    assert not [one for one in gc.get_objects() if issubclass(type(one), family.WorkerThread)]


async def test_nobody_asks_and_nothing_is_made() -> None:
    before = next(family._numbers)
    await both(*[lambda: time.sleep(0.001)] * 3)
    assert next(family._numbers) == before + 2


async def test_a_destructor_at_the_end_of_the_call_sees_the_same_number() -> None:
    local, seen = threading.local(), []

    class Last:
        def __del__(self) -> None:
            seen.append(threading.get_ident())

    def handler() -> None:
        seen.append(threading.get_ident())
        local.last = Last()

    await run_blocking(handler)
    assert len(seen) == 2
    assert len(set(seen)) == 1


# Code that excludes by the number.


async def test_recursive_repr() -> None:
    class Slow:
        @reprlib.recursive_repr()
        def __repr__(self) -> str:
            time.sleep(0.01)
            return f"<{self.me!r}>"

    slow: Any = Slow()
    slow.me = slow
    assert await both(lambda: repr(slow), lambda: repr(slow)) == ["<...>", "<...>"]


class Reentrant:
    """A lock of a library: it belongs to a number, and lets its owner in again. As diskcache's ``transact``."""

    def __init__(self, me: Callable[[], Any] = threading.get_ident) -> None:
        self.me, self.owner, self.depth = me, None, 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        me = self.me()
        while self.owner not in (None, me):
            time.sleep(0.001)
        self.owner = me
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if not self.depth:
                self.owner = None


@pytest.mark.parametrize("by", ["get_ident", "current_thread"])
async def test_a_lock_by_number_excludes(by: str) -> None:
    lock, count = Reentrant(getattr(threading, by)), 0

    def add() -> None:
        nonlocal count
        with lock.taken(), lock.taken():
            read = count
            time.sleep(0.001)
            count = read + 1

    await both(*[add] * 25)
    assert count == 25


async def test_locks_of_the_standard_library() -> None:
    for lock in (threading.RLock(), threading._PyRLock(), threading.Condition()):  # type: ignore[attr-defined]
        count = 0

        def add(lock: Any = lock) -> None:
            nonlocal count
            with lock, lock:
                read = count
                time.sleep(0.001)
                count = read + 1

        await both(*[add] * 5)
        assert count == 5


async def test_a_condition_and_a_join() -> None:
    condition, ready = threading.Condition(), []

    def wait() -> bool:
        with condition:
            return condition.wait_for(lambda: ready, 5)  # type: ignore[return-value]

    def notify() -> None:
        with condition:
            ready.append(True)
            condition.notify_all()

    assert (await both(wait, notify))[0]

    def join() -> None:
        thread = threading.Thread(target=time.sleep, args=(0.01,))
        assert not thread.daemon  # as its loop's thread
        thread.start()
        thread.join()
        assert not thread.is_alive()

    await run_blocking(join)
    here = threading.current_thread()

    def join_the_loop() -> None:
        with pytest.raises(RuntimeError, match="cannot join"):
            here.join()

    await run_blocking(join_the_loop)


async def test_a_log_record(caplog: pytest.LogCaptureFixture) -> None:
    def handler() -> tuple[int, str]:
        logging.getLogger("shop").warning("sold")
        return threading.get_ident(), threading.current_thread().name

    ident, name = await run_blocking(handler)
    [record] = [one for one in caplog.records if one.name == "shop"]
    assert (record.thread, record.threadName) == (ident, name)


async def test_a_local_in_python() -> None:
    import _threading_local

    local: Any = _threading_local.local()  # keeps its values in current_thread().__dict__
    local.name = "loop"

    def handler(name: str) -> tuple[bool, str]:
        fresh = not hasattr(local, "name")
        local.name = name
        time.sleep(0.005)
        return fresh, local.name

    assert await both(lambda: handler("a"), lambda: handler("b")) == [(True, "a"), (True, "b")]
    assert local.name == "loop"


# Code that needs the real thread.


async def test_c_keeps_the_real_number() -> None:
    real = threading.get_ident()
    connection = sqlite3.connect(":memory:")

    def handler() -> None:
        ident = threading.get_ident()
        assert real in sys._current_frames()
        assert ident not in sys._current_frames()
        assert connection.execute("select 1").fetchone() == (1,)  # C checks the thread
        signal.pthread_kill(ident, 0)  # in C a wrong number is a crash
        if hasattr(time, "pthread_getcpuclockid"):
            assert time.clock_gettime(time.pthread_getcpuclockid(ident)) >= 0

    await run_blocking(handler)
    connection.close()
    ident = await run_blocking(threading.get_ident)
    with pytest.raises(ProcessLookupError):
        signal.pthread_kill(ident, 0)
    signal.pthread_kill(real, 0)
    with pytest.raises(TypeError):
        signal.pthread_kill("one", 0)  # type: ignore[arg-type]


async def test_a_signal_to_the_thread_of_a_call(anyio_backend_name: str) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: got.append(number))
    try:
        await run_blocking(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR2))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert got == [signal.SIGUSR2]


@pytest.mark.parametrize("package", ["asyncio", "anyio", "trio", "importlib", "coserver", "threading"])
async def test_packages_that_ask_for_the_thread(package: str) -> None:
    module = ModuleType(f"{package}.made_up")
    text = "import threading, _thread\ndef ask(): return _thread.get_ident(), threading.current_thread()"
    exec(text, vars(module))
    real = threading.get_ident(), threading.current_thread()

    def handler() -> None:
        assert module.ask() == real
        time.sleep(0)
        assert module.ask() == real

    await run_blocking(handler)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_check_of_the_thread() -> None:
    loop, called = asyncio.get_running_loop(), threading.Event()
    loop.set_debug(True)
    try:

        def handler() -> bool:
            loop.call_soon(called.set)  # in debug it looks whether this is the loop's thread
            return called.wait(5)

        assert await run_blocking(handler)
    finally:
        loop.set_debug(False)


async def test_an_import_in_two_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_module_of_idents.py").write_text("import time\ntime.sleep(0.02)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def handler() -> bool:
        threading.get_ident()
        from slow_module_of_idents import whole  # type: ignore[import-not-found]

        return bool(whole)

    assert await both(handler, handler) == [True, True]


async def test_a_fork() -> None:
    def handler() -> None:
        ident, reads_writes = threading.get_ident(), os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                main = threading.main_thread()
                assert threading.current_thread() is main
                assert threading.get_ident() == main.ident != ident
                assert threading.enumerate() == [main]
                thread = threading.Thread(target=lambda: None)
                thread.start()
                thread.join()
                code = 0
            finally:
                os._exit(code)
        for fd in reads_writes:
            os.close(fd)
        assert os.waitpid(pid, 0) == (pid, 0)
        assert threading.get_ident() == ident

    await run_blocking(handler)


# In an app.


def test_calls_of_an_app() -> None:
    app = App("idents")
    seen: dict[str, list[int]] = {}

    def note(name: str) -> None:
        seen.setdefault(name, []).append(threading.get_ident())

    @app.get("/plain")
    def plain() -> str:
        note("plain")
        await_(asyncio_or_not())
        note("plain")
        return "ok"

    async def asyncio_or_not() -> None:
        note("loop")

    @app.get("/stream")
    def stream() -> Iterator[bytes]:
        note("stream")
        yield b"a"
        time.sleep(0.005)
        note("stream")
        yield b"b"

    @app.get("/after")
    def after(request: Request) -> str:
        note("before")
        request.after(note, "after")
        return "ok"

    @app.get("/async")
    async def loop_code() -> str:
        note("loop")
        await run_blocking(note, "blocking")
        return "ok"

    with testing.sync_client(app) as client:
        for path in ("/plain", "/stream", "/after", "/async"):
            assert client.get(path).status == 200
            time.sleep(0.01)
    assert len(set(seen.pop("loop"))) == 1
    assert all(len(set(each)) == 1 for each in seen.values()), seen
    assert len({each[0] for each in seen.values()}) == len(seen)
    assert all(one >= family.FIRST for each in seen.values() for one in each)


def test_the_family_can_be_left_out() -> None:
    everything = hooks.installed()
    assert "idents" in everything
    hooks.uninstall()
    try:
        hooks.install([one for one in everything if one != "idents"])
        assert threading.get_ident is bound_before is _thread.get_ident
    finally:
        hooks.install()
    hooks.uninstall()
    assert "coserver" not in threading.current_thread.__code__.co_filename
    assert reprlib.get_ident is threading.get_ident is _thread.get_ident  # type: ignore[attr-defined]
    assert not hasattr(threading.get_ident, "__code__")
    hooks.install()


def test_pthread_kill_belongs_to_its_module() -> None:
    assert signal.pthread_kill.__module__ == "signal"
    assert signal.pthread_kill.__name__ == "pthread_kill"
