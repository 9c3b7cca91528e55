"""Which loop runs here? In a worker the answer is that of a thread other than the main one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
import sniffio
import trio
from greenlet import greenlet

from coserver import App, Request, await_, hooks, run_blocking, testing
from coserver.hooks.install import SHIMS

from ...conftest import BACKENDS
from ..side_by_side import both, ticking

pytestmark = pytest.mark.usefixtures("hooked")
bound_before = sniffio.current_async_library

#: Looked up when they are asked: the hooks may not be installed yet.
ASK = (
    "asyncio.get_running_loop()", "asyncio._get_running_loop()", "asyncio.get_event_loop()",
    "asyncio.get_event_loop_policy().get_event_loop()", "asyncio.current_task()", "asyncio.all_tasks()",
    "asyncio.Future()", "trio.lowlevel.current_task()",
    "trio.lowlevel.current_root_task()", "trio.lowlevel.current_trio_token()", "trio.lowlevel.current_clock()",
    "trio.lowlevel.in_trio_run()", "trio.lowlevel.in_trio_task()",
    "trio.current_effective_deadline()", "sniffio.current_async_library()", "bound_before()",
    "anyio.get_current_task()", "anyio.lowlevel.current_token()", "anyio.current_time()", "anyio.CancelScope()",
    "anyio.from_thread.check_cancelled()",
)  # fmt: skip


def answers() -> dict[str, str]:
    """What each says: its value, or its exception without the thread's name."""
    found = {}
    for name in ASK:
        try:
            found[name] = repr(eval(name))
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error).partition(' in thread ')[0]}"
    return found


def in_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


async def test_as_in_a_thread() -> None:
    there = in_thread(answers)
    assert there["asyncio.get_event_loop()"] == "RuntimeError: There is no current event loop"
    on_the_loop = answers()
    assert on_the_loop != there

    def handler() -> list[dict[str, str]]:
        before = answers()
        time.sleep(0.001)
        after = answers()
        os.listdir()
        threading.Event().wait(0.001)
        return [before, after, answers()]

    for found in await run_blocking(handler):
        assert found == there
    assert answers().keys() == on_the_loop.keys()
    assert {name for name in ASK if answers()[name] == there[name]} == {
        name for name in ASK if on_the_loop[name] == there[name]
    }


async def test_get_event_loop_names_the_call() -> None:
    def handler() -> str:
        with pytest.raises(RuntimeError, match="There is no current event loop in thread") as raised:
            asyncio.get_event_loop()
        assert repr(threading.current_thread().name) in str(raised.value)
        return str(raised.value)

    assert await run_blocking(handler) != await run_blocking(handler)


async def test_in_all_parts_of_an_exchange(anyio_backend: Any) -> None:
    app = App("detection")
    there = in_thread(answers)
    found: dict[str, dict[str, str]] = {}
    library: list[str] = []

    def note(name: str) -> None:
        found[f"{name} before"] = answers()
        time.sleep(0.001)
        found[name] = answers()

    @app.get("/plain")
    def plain(request: Request) -> str:
        note("handler")
        request.after(note, "after")
        request.after(on_the_loop)
        return "plain"

    async def on_the_loop() -> None:
        library.append(sniffio.current_async_library())

    @app.get("/pieces")
    def pieces() -> Iterator[str]:
        try:
            note("first piece")
            yield "a"
            note("second piece")
            yield "b"
        finally:
            note("finally")

    @app.get("/list")
    def iterator() -> Iterator[str]:
        def later() -> Iterator[str]:
            note("iterator")
            yield "c"

        return later()

    @app.get("/fails")
    def fails() -> str:
        raise LookupError

    @app.error(LookupError)
    def on_lookup_error(request: Request, error: LookupError) -> str:
        note("error handler")
        return "not found"

    @app.get("/async")
    async def coroutine() -> str:
        await on_the_loop()
        await anyio.lowlevel.checkpoint()
        return "async"

    @app.get("/awaits")
    def awaits() -> str:
        await_(on_the_loop())
        anyio.from_thread.run(on_the_loop)
        anyio.from_thread.run_sync(lambda: library.append(sniffio.current_async_library()))
        note("after await_")
        return "awaits"

    async with testing.client(app) as client:
        for path in ("/plain", "/pieces", "/list", "/fails", "/async", "/awaits"):
            assert (await client.get(path)).text in {"plain", "ab", "c", "not found", "async", "awaits"}
    name = anyio_backend[0]
    assert library == [name] * 5
    assert len(found) == 16
    assert {name for name, said in found.items() if said != there} == set()


async def test_set_event_loop_is_the_calls() -> None:
    def one() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        for _ in range(3):
            assert asyncio.get_event_loop() is loop
            assert loop.run_until_complete(asyncio.sleep(0.001, 3)) == 3
            assert asyncio.Future().get_loop() is loop
            time.sleep(0.001)
        with pytest.raises(TypeError, match="instance of AbstractEventLoop"):
            asyncio.set_event_loop("none")  # type: ignore[arg-type]
        loop.close()

    def other() -> None:
        for _ in range(5):
            with pytest.raises(RuntimeError, match="no current event loop"):
                asyncio.get_event_loop()
            time.sleep(0.001)

    before = asyncio.get_event_loop_policy()._local._loop  # type: ignore[attr-defined]
    await both(one, other, one)
    await both(other)  # in the same worker
    assert asyncio.get_event_loop_policy()._local._loop is before  # type: ignore[attr-defined]


async def answer() -> str:
    await anyio.sleep(0.001)
    return sniffio.current_async_library()


def by_get_event_loop() -> str:
    loop = asyncio.get_event_loop_policy().new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return asyncio.get_event_loop().run_until_complete(answer())
    finally:
        loop.close()


@pytest.mark.parametrize("inside", [False, True], ids=["in a thread", "in the worker"])
async def test_loops_of_a_handler(inside: bool) -> None:
    ways: list[tuple[Callable[[], str], str]] = [
        (by_get_event_loop, "asyncio"),
        (lambda: asyncio.run(answer()), "asyncio"),
        (lambda: anyio.run(answer), "asyncio"),
    ]
    if not inside:
        ways += [(lambda: trio.run(answer), "trio"), (lambda: anyio.run(answer, backend="trio"), "trio")]

    def each() -> None:
        for way, library in ways:
            assert way() == library
            with pytest.raises(sniffio.AsyncLibraryNotFoundError):
                sniffio.current_async_library()

    if inside:
        hooks.uninstall()
        hooks.install([family for family in SHIMS if family != "loops"])
    try:
        async with ticking() as turns:
            await both(each, each, each)
        assert len(turns) > 1
        assert sniffio.current_async_library()
    finally:
        if inside:
            hooks.install()


async def generator() -> AsyncIterator[int]:
    yield 1


async def test_a_running_loop_of_its_own_outlives_suspensions() -> None:
    here = asyncio._get_running_loop()
    generators = sys.get_asyncgen_hooks()
    own = asyncio.new_event_loop()
    asked: list[Any] = []

    def one() -> None:
        firstiter = lambda each: None  # noqa: E731
        before = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(own)
        sys.set_asyncgen_hooks(firstiter=firstiter)
        for _ in range(5):
            time.sleep(0.001)
            assert asyncio.get_running_loop() is own
            assert asyncio.get_event_loop() is own
            assert sniffio.current_async_library() == "asyncio"
            assert sys.get_asyncgen_hooks().firstiter is firstiter
            lock = threading.Lock()
            with lock:
                assert anyio.from_thread.run_sync(asyncio._get_running_loop) is here
        asyncio._set_running_loop(None)
        sys.set_asyncgen_hooks(*before)
        assert not asyncio._get_running_loop()

    def other() -> None:
        for _ in range(5):
            asked.append(asyncio._get_running_loop())
            time.sleep(0.001)

    async def look() -> None:
        for _ in range(5):
            assert asyncio._get_running_loop() is here
            assert sys.get_asyncgen_hooks() == generators
            assert [each async for each in generator()] == [1]
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look)
        await both(one, other, one)
    assert asked == [None] * 5
    own.close()


async def test_a_running_loop_that_is_left_behind_ends_with_the_call() -> None:
    here = asyncio._get_running_loop()
    own = asyncio.new_event_loop()
    await run_blocking(asyncio._set_running_loop, own)
    assert asyncio._get_running_loop() is here
    assert await run_blocking(asyncio._get_running_loop) is None
    own.close()


async def test_a_greenlet_that_runs_a_loop_beside_the_handler() -> None:
    """As the plain interface of Playwright does it."""

    def handler() -> list[int]:
        asyncio_loop = asyncio.new_event_loop()
        found: list[int] = []
        waiting: list[asyncio.Future[int]] = []
        me: Any = None

        async def dispatch() -> None:
            for number in range(3):
                await asyncio.sleep(0)
                waiting.append(asyncio.get_running_loop().create_future())
                waiting[-1].set_result(number)
                me.switch()

        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        fiber = greenlet(lambda: asyncio_loop.run_until_complete(dispatch()))
        from greenlet import getcurrent

        me = getcurrent()
        while not fiber.dead:
            fiber.switch()
            time.sleep(0.001)
            if waiting:
                found.append(waiting.pop().result())
        asyncio_loop.close()
        return found

    here = asyncio._get_running_loop()
    assert await both(handler, handler) == [[0, 1, 2]] * 2
    assert asyncio._get_running_loop() is here


async def test_a_cancelled_call_sees_none_either() -> None:
    seen: list[Any] = []
    here = asyncio._get_running_loop()

    def handler() -> None:
        reads, writes = os.pipe()
        try:
            os.read(reads, 1)
        finally:
            seen.append(asyncio._get_running_loop())
            time.sleep(0.001)
            seen.append(asyncio._get_running_loop())
            os.close(reads)
            os.close(writes)

    with anyio.move_on_after(0.05):
        await run_blocking(handler)
    assert seen == [None, None]
    assert asyncio._get_running_loop() is here


@pytest.mark.parametrize("anyio_backend", BACKENDS[:2])
async def test_uninstalled_and_installed_meanwhile(anyio_backend: object) -> None:
    here = asyncio.get_running_loop()
    seen: list[Any] = []

    def uninstalls() -> None:
        hooks.uninstall()
        await_(anyio.sleep(0.001))
        seen.append(asyncio._get_running_loop())

    def installs() -> None:
        hooks.install()
        time.sleep(0.001)
        seen.append(asyncio._get_running_loop())

    for change in (uninstalls, installs):
        await run_blocking(change)
        assert asyncio.get_running_loop() is here
    assert seen == [here, None]


ALONE = """
import sys
from coserver import hooks, run_blocking
hooks.install([{families}])
import trio, sniffio
async def main():
    def handler():
        assert "asyncio" not in sys.modules
        import asyncio
        assert asyncio._get_running_loop() is None
        try:
            sniffio.current_async_library()
        except sniffio.AsyncLibraryNotFoundError:
            return "none"
    assert await run_blocking(handler) == {said}
    import asyncio
    async def more():
        return await run_blocking(asyncio._get_running_loop) is None
    assert await trio.to_thread.run_sync(lambda: asyncio.run(more())) is {hidden}
trio.run(main)
hooks.uninstall()
"""


@pytest.mark.parametrize(("families", "said", "hidden"), [("'detection'", "'none'", "True"), ("", "None", "False")])
def test_imported_later_or_off(families: str, said: str, hidden: str) -> None:
    script = ALONE.format(families=families, said=said, hidden=hidden)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
