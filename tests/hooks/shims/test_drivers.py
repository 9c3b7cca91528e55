"""psycopg and Django are told what they need to know, whenever they are imported; and forget it."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from coserver import hooks, run_blocking

from ...conftest import BACKENDS

LATE = """
import sys
from coserver import hooks
hooks.install()
assert "psycopg" not in sys.modules
import psycopg.waiting as waiting
assert waiting.wait is not waiting.wait_c, "not shown"
hooks.uninstall()
assert waiting.wait is waiting.wait_c, "not taken back"
assert not any("coserver" in type(one).__module__ for one in sys.meta_path)
hooks.install(["sleep"])
assert waiting.wait is waiting.wait_c, "shown, though not asked for"
"""

needs_binary = pytest.mark.skipif(psycopg.pq.__impl__ != "binary", reason="psycopg's binary build is not installed")


@needs_binary
def test_imported_later() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True, timeout=60)


@needs_binary
@pytest.mark.parametrize("anyio_backend", BACKENDS[:1])
async def test_imported_before(anyio_backend: object) -> None:
    """In a worker it waits in Python, elsewhere as before; one of its users' own choice is kept."""
    waiting = psycopg.waiting
    original = waiting.wait
    used = []

    def recorded(gen: object, fileno: int, interval: float = 0.0) -> str:
        used.append((gen, fileno, interval))
        return "in Python"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "wait_poll", recorded)
        hooks.install()
        try:
            assert await run_blocking(lambda: waiting.wait("gen", 3, interval=0.5)) == "in Python"  # type: ignore[arg-type]
            with pytest.raises((AttributeError, TypeError)):  # C says that it is no generator
                waiting.wait("gen", 3, 0.5)  # type: ignore[arg-type]
        finally:
            hooks.uninstall()
    assert used == [("gen", 3, 0.5)]
    assert waiting.wait is original


def test_another_way_to_wait_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.waiting, "wait", psycopg.waiting.wait_select)
    hooks.install()
    try:
        assert psycopg.waiting.wait is psycopg.waiting.wait_select
    finally:
        hooks.uninstall()
    assert psycopg.waiting.wait is psycopg.waiting.wait_select


@pytest.mark.parametrize("anyio_backend", BACKENDS[:1])
async def test_djangos_orm_works_in_workers_alone(anyio_backend: object) -> None:
    """It refuses to work where an event loop runs. In async code it goes on to do so."""
    from django.core.exceptions import SynchronousOnlyOperation
    from django.utils.asyncio import async_unsafe

    @async_unsafe("not in async code")
    def touch() -> str:
        return "done"

    hooks.install()
    try:
        assert await run_blocking(touch) == "done"
        with pytest.raises(SynchronousOnlyOperation, match="not in async code"):
            touch()
    finally:
        hooks.uninstall()
    with pytest.raises(SynchronousOnlyOperation):
        await run_blocking(touch)
