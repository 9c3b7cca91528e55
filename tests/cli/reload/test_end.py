"""The end of ``--reload``: signals, a killed parent, no leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..conftest import COMMAND, TIMEOUT, Running
from .commands import Serve, ask, gone, under_way
from .commands import folder as folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_drains_the_child(serve: Serve, folder: Path, number: signal.Signals, code: int) -> None:
    running = serve("app", "--reload")
    port = running.port
    child = int(ask(port, "/pid")[1])
    with under_way(port, folder, "/slow") as answers:
        running.signal(number)
        running.wait_for("stopping: finishing 1 request")
        (folder / "go on").touch()
    assert answers == ["finished"]
    assert running.ended() == code
    assert gone(child)


def test_ctrl_c_reaches_both_and_is_said_once(folder: Path, environment: dict[str, str]) -> None:
    """A terminal's Ctrl+C goes to the whole process group."""
    command = [*COMMAND, "serve", "app", "--reload", "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    running = Running(process)
    port = running.port
    with under_way(port, folder, "/slow") as answers:
        os.killpg(process.pid, signal.SIGINT)
        running.wait_for("stopping: finishing 1 request, Ctrl\\+C again to stop at once")
        os.killpg(process.pid, signal.SIGINT)
    assert running.ended() == 130
    assert answers == ["cut off"]
    assert [line for line in running.lines if "stopping" in line] == [
        "stopping: finishing 1 request, Ctrl+C again to stop at once",
        "stopping at once",
    ]
    assert process.stderr is not None
    process.stderr.close()


def test_ctrl_c_twice_ends_a_child_that_is_stuck(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    child = int(ask(port, "/pid")[1])
    with under_way(port, folder, "/stuck") as answers:
        running.signal(signal.SIGINT)
        running.wait_for("stopping: finishing 1 request")
        running.signal(signal.SIGINT)
        assert running.ended() == 130
    assert answers == ["cut off"]
    assert gone(child)


def test_ctrl_c_while_nothing_is_served(serve: Serve, folder: Path) -> None:
    (folder / "app.py").write_text("x = (\n")
    running = serve("app", "--reload")
    running.wait_for("waiting for a change")
    running.signal(signal.SIGINT)
    assert running.ended() == 130


def test_ctrl_c_while_the_app_is_imported(serve: Serve, folder: Path) -> None:
    (folder / "app.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(1000)\n")
    running = serve("app", "--reload")
    deadline = time.monotonic() + TIMEOUT
    while not (folder / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.signal(signal.SIGINT)
    assert running.ended() == 130


@pytest.mark.parametrize("path", ["/", "/stuck"])
def test_no_orphan_when_the_parent_is_killed(serve: Serve, folder: Path, path: str) -> None:
    running = serve("app", "--reload")
    port = running.port
    child = int(ask(port, "/pid")[1])
    if path == "/stuck":
        with under_way(port, folder, path) as answers:
            running.signal(signal.SIGKILL)
        assert answers == ["cut off"]
    else:
        running.signal(signal.SIGKILL)
    assert running.ended() == -signal.SIGKILL
    assert gone(child)
    with pytest.raises(ConnectionRefusedError):
        ask(port)


def test_no_orphan_when_the_parent_is_killed_at_once(serve: Serve, folder: Path) -> None:
    """The parent has not read the child's message yet: the child sees a reset instead of an end of file."""
    with (folder / "app.py").open("a") as file:
        file.write("\nos.kill(os.getppid(), 19)  # SIGSTOP\nPath('child').write_text(str(os.getpid()))\n")
    running = serve("app", "--reload")
    running.wait_for("Press Ctrl")
    running.signal(signal.SIGKILL)
    assert running.ended() == -signal.SIGKILL
    assert gone(int((folder / "child").read_text()))


def test_the_apps_own_processes_inherit_nothing(serve: Serve, folder: Path) -> None:
    with (folder / "app.py").open("a") as file:
        file.write(
            "\nimport subprocess, sys\n"
            "code = \"import os; print(sorted(os.listdir('/proc/self/fd')), 'COSERVER_INHERIT' in os.environ)\"\n"
            "seen = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, close_fds=False)\n"
            "app.get('/seen')(lambda: seen.stdout)\n"
        )
    running = serve("app", "--reload")
    port = running.port
    before = ask(port, "/seen")[1]
    assert "False" in before
    with (folder / "app.py").open("a") as file:
        file.write("# changed\n")
    running.wait_for("^serving shop again$")
    assert ask(port, "/seen")[1] == before


def test_a_variable_left_over_from_somewhere_is_no_parent(
    serve: Serve, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for left in ('{"channel": 0, "listeners": []}', "no json", "[]", '{"channel": 999, "listeners": []}'):
        environment["COSERVER_INHERIT"] = left
        running = serve("app")
        assert ask(running.port) == (200, "one")
        running.signal(signal.SIGTERM)
        assert running.ended() == 0


def test_without_watchfiles(folder: Path, environment: dict[str, str]) -> None:
    code = (
        "import importlib.machinery as m, sys\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *rest: None if name == 'watchfiles' else find(name, *rest)\n"
        "sys.argv[0] = 'coserver'\n"
        "from coserver_cli import main\nmain()\n"
    )
    for arguments in (["serve", "app", "--reload"], ["dev"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.splitlines()[-2:] == [
            "error: a reload needs watchfiles, which is not installed",
            "  pip install 'coserver[dev]', or run coserver serve without --reload",
        ]
