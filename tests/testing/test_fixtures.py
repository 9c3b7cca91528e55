"""The fixtures, in the test files of users: pytest runs as a process of its own, and says what it says to them."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

CONFTEST = 'pytest_plugins = ["coserver.testing.fixtures"]\n'
APP = """
import threading
import pytest
from coserver import App
from coserver.lifecycle import events as ev

@pytest.fixture
def app():
    app = App()
    app.get("/")(lambda: "ok")
    return app
"""
BACKENDS = 1 + bool(find_spec("trio"))


def run(folder: Path, tests: str, *arguments: str) -> str:
    """What pytest says about a user's test file; warnings are errors, as careful users have it."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_mine.py").write_text(APP + tests)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


def test_async_tests(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
@pytest.mark.anyio
async def test_factory(coserver_client, app):
    c = await coserver_client(app, timeout=5)
    assert (await c.get("/")).text == "ok"
    other = await coserver_client(app)
    assert (await other.get("/")).text == "ok"

@pytest.fixture
async def c(coserver_client, app):
    return await coserver_client(app)

@pytest.mark.anyio
async def test_fixture_of_a_users_own(c):
    assert (await c.get("/")).text == "ok"
""",
    )
    assert f"{2 * BACKENDS} passed" in said, said
    assert " error" not in said.splitlines()[-1], said


@pytest.mark.skipif(not find_spec("uvloop"), reason="uvloop is not installed: pip install 'coserver[fast]'")
def test_uvloop_makes_its_signal_pipe_anew_with_each_fixture(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import socket

kept = []

@pytest.fixture
def anyio_backend():
    return "asyncio", {"use_uvloop": True}

@pytest.mark.anyio
@pytest.mark.parametrize("leak", ["nothing", "socketpair"])
async def test_factory(coserver_client, app, leak):
    app.get("/socketpair")(lambda: str(kept.extend(socket.socketpair())))
    app.get("/nothing")(lambda: "ok")
    c = await coserver_client(app)
    assert (await c.get("/" + leak)).ok
""",
    )
    assert "2 passed, 1 error" in said, said
    assert "ERROR at teardown of test_factory[socketpair]" in said, said
    assert "LeakError: left behind: descriptor" in said, said


def test_sync_tests(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
pytestmark = pytest.mark.usefixtures("coserver_leak_check")

@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_factory(coserver_sync_client, app, backend):
    pytest.importorskip(backend)
    c = coserver_sync_client(app, backend=backend)
    assert c.get("/").text == "ok"

def test_started(app, coserver_order_check):
    with app.start():
        pass
""",
    )
    assert "4 passed" in said or "skipped" in said, said
    assert " error" not in said.splitlines()[-1], said


def test_a_leak_is_told(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
go = threading.Event()

@pytest.fixture(autouse=True)
def _check(coserver_leak_check):
    pass

def test_leak():
    threading.Thread(target=go.wait, name="left over", daemon=True).start()
""",
    )
    assert "ERROR at teardown of test_leak" in said, said
    assert "LeakError: left behind: thread left over" in said, said
    assert "1 error" in said, said


def test_a_file_left_open_is_told_and_loops_are_not(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
kept = []

@pytest.mark.anyio
@pytest.mark.usefixtures("coserver_leak_check")
@pytest.mark.parametrize("leak", [False, True])
async def test_leak(app, coserver_client, leak):
    app.get("/leak")(lambda: kept.append(open(__file__)))
    c = await coserver_client(app, checks=False)
    await c.get("/leak" if leak else "/")
""",
    )
    assert f"{2 * BACKENDS} passed, {BACKENDS} errors" in said, said
    assert "test_mine.py" in said.partition("LeakError: left behind: descriptor")[2].splitlines()[0], said


def test_events_out_of_order_are_told(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
@pytest.mark.usefixtures("coserver_order_check")
def test_order(app):
    app.emitter.tell(ev.HandlerFinished(at=0.0, connection=7, exchange=8))
""",
    )
    assert "1 error" in said, said
    assert "OutOfOrder" in said, said
    assert "connection 7, exchange 8: HandlerFinished after nothing" in said, said


def test_a_handlers_failure_fails_the_test(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
@pytest.mark.anyio
async def test_boom(app, coserver_client):
    @app.get("/boom")
    def boom():
        return {}["no such key"]
    c = await coserver_client(app)
    await c.get("/boom")
""",
    )
    assert f"{BACKENDS} failed" in said, said
    assert "KeyError: 'no such key'" in said, said
    assert 'return {}["no such key"]' in said, said


@pytest.mark.parametrize("name", ["coserver_client", "coserver_sync_client", "coserver_order_check"])
def test_each_is_told_by_pytest(tmp_path: Path, name: str) -> None:
    assert name in run(tmp_path, "", "--fixtures")
