"""Modules whose import suspends: whoever imports one meanwhile waits until it is whole."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import hooks, run_blocking

from ...server.clients import until
from ..side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")

SLOW = "import time\ntime.sleep({})\nvalue = 1\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Modules by name; they can be imported during the test."""
    written: list[str] = []

    def write(**sources: str) -> None:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
            written.append(name)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in written:
        sys.modules.pop(name, None)


def value(module: str) -> Callable[[], Any]:
    return lambda: importlib.import_module(module).value


async def test_the_second_waits(write: Callable[..., None]) -> None:
    write(slow_one=SLOW.format(0.05))

    def statement() -> Any:
        import slow_one  # type: ignore[import-not-found]

        return slow_one.value

    def from_it() -> Any:
        from slow_one import value as found

        return found

    assert await both(value("slow_one"), value("slow_one"), statement, from_it) == [1] * 4


async def test_import_lock_in_a_circle(write: Callable[..., None]) -> None:
    """As between threads: nobody waits for ever, one of them sees the other's module half made."""
    write(
        one_end="import time\nvalue = 1\ntime.sleep(0.02)\nimport other_end\n",
        other_end="import time\nvalue = 2\ntime.sleep(0.02)\nimport one_end\n",
    )
    assert await both(value("one_end"), value("other_end")) == [1, 2]


async def test_a_failing_import(write: Callable[..., None]) -> None:
    write(failing="import time\ntime.sleep(0.02)\n1 / 0\n")
    tries = []

    def fails() -> None:
        tries.append(1)
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("failing")

    await both(fails, fails)
    assert len(tries) == 2


async def test_with_a_thread(write: Callable[..., None]) -> None:
    write(slow_two=SLOW.format(0.05), slow_three=SLOW.format(0.05))
    found: list[Any] = []

    def in_thread(module: str) -> None:
        thread = threading.Thread(target=lambda: found.append(value(module)()))
        thread.start()
        thread.join()

    await both(value("slow_two"), lambda: in_thread("slow_two"))
    assert found == [1]
    assert await both(lambda: in_thread("slow_three"), value("slow_three")) == [None, 1]
    assert found == [1, 1]


async def test_loop_code_gets_an_error(write: Callable[..., None]) -> None:
    write(slow_four=SLOW.format(0.2), around="import slow_four\nvalue = 1\n")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, value("slow_four"))
        await until(lambda: "slow_four" in sys.modules)
        where = r"slow_four.*suspended \(.*slow_four.py:2 in <module>\).*test_import_lock"
        with pytest.raises(RuntimeError, match=where):
            value("slow_four")()
        with pytest.raises(RuntimeError, match="slow_four"):
            value("around")()
    assert value("slow_four")() == value("around")() == 1


async def test_loop_code_behind_a_thread(write: Callable[..., None]) -> None:
    write(slow_five=SLOW.format(0.3), behind="import slow_five\nvalue = 1\n")
    blocking_on = importlib._bootstrap._blocking_on  # type: ignore[attr-defined]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_blocking, value("slow_five"))
        await until(lambda: "slow_five" in sys.modules)
        thread = threading.Thread(target=value("behind"))
        thread.start()
        await until(lambda: blocking_on.get(thread.ident))
        with pytest.raises(RuntimeError, match="slow_five"):
            value("behind")()
    thread.join()
    assert value("behind")() == 1


async def test_hooks_that_come_and_go_during_an_import(write: Callable[..., None]) -> None:
    write(
        comes="from coserver import hooks\nhooks.install()\nimport time, comes\ntime.sleep(0.01)\nvalue = 1\n",
        goes="from coserver import hooks\nimport time\ntime.sleep(0.01)\nhooks.uninstall()\nimport goes\nvalue = 1\n",
    )
    hooks.uninstall()
    assert await both(value("comes"), lambda: None) == [1, None]
    assert await both(value("goes"), lambda: None) == [1, None]
    hooks.install()


async def test_a_package_and_its_part(write: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/__init__.py").write_text(
        "import time\ntime.sleep(0.02)\nfrom . import inner\nvalue = inner.value\n"
    )
    (tmp_path / "parts/inner.py").write_text("import time\ntime.sleep(0.02)\nvalue = 3\n")
    write()
    try:
        assert await both(value("parts"), value("parts"), value("parts")) == [3] * 3
    finally:
        sys.modules.pop("parts", None)
        sys.modules.pop("parts.inner", None)
