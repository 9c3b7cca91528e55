"""diskcache and fasteners, which know their callers by the thread: handlers of one loop exclude each other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from coserver.hooks import offloaded

from ..hooks.side_by_side import both

MANY = 12

pytestmark = pytest.mark.usefixtures("hooked")


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    diskcache = pytest.importorskip("diskcache")
    offloaded("sqlite3")  # SQLite waits in C for another handler's transaction
    cache = diskcache.Cache(str(tmp_path), timeout=5)
    cache["count"] = 0
    return cache


async def test_diskcaches_transact(cache: Any) -> None:
    def add() -> None:
        with cache.transact(), cache.transact():
            read = cache["count"]
            time.sleep(0.002)
            cache["count"] = read + 1
        cache.close()

    await both(*[add] * MANY)
    assert cache["count"] == MANY
    cache.close()


async def test_diskcaches_rlock(cache: Any) -> None:
    import diskcache

    def add() -> None:
        lock = diskcache.RLock(cache, "lock")
        with lock, lock:
            read = cache["count"]
            time.sleep(0.002)
            cache["count"] = read + 1
        cache.incr("sum", 2)
        cache.close()

    await both(*[add] * MANY)
    assert (cache["count"], cache["sum"]) == (MANY, 2 * MANY)
    cache.close()


async def test_fasteners_readers_and_writers() -> None:
    fasteners = pytest.importorskip("fasteners")
    lock = fasteners.ReaderWriterLock()
    inside: list[str] = []
    met: list[list[str]] = []

    def write() -> None:
        with lock.write_lock():
            inside.append("write")
            time.sleep(0.002)
            met.append(list(inside))
            inside.remove("write")
            with lock.write_lock():
                assert lock.is_writer()

    def read() -> None:
        with lock.read_lock(), lock.read_lock():
            inside.append("read")
            time.sleep(0.002)
            met.append(list(inside))
            inside.remove("read")

    await both(*[write, read] * 5)
    assert len(met) == 10
    assert all(one == ["write"] or "write" not in one for one in met)
