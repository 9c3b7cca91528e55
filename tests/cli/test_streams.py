"""Streams, folders and interpreters as they may be: one line of error, never a traceback, nothing half written."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import COMMAND, TIMEOUT, Running

COMMANDS = ["routes app", "config reference", "doctor", "--help"]
APP = """
from coserver import App
app = App("shop")
app.get("/na\\u00efve-\\u2603-\\U0001f600")(lambda: "ok")
"""


def run(folder: Path, environment: dict[str, str], line: str, **options: object) -> subprocess.CompletedProcess[str]:
    arguments = {"stdout": subprocess.PIPE, **options}
    return subprocess.run(
        [*COMMAND, *line.split()], cwd=folder, env=environment, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False,
        encoding="utf-8", errors="replace", **arguments,  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("line", COMMANDS)
def test_a_full_disk(folder: Path, environment: dict[str, str], line: str) -> None:
    with open("/dev/full", "w") as full:
        done = run(folder, environment, line, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device; it is not complete\n"


@pytest.mark.parametrize("line", COMMANDS)
def test_a_reader_that_is_gone(folder: Path, environment: dict[str, str], line: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        done = run(folder, environment, line, stdout=out)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("line", ["routes app", "doctor"])
def test_a_closed_stdout(folder: Path, environment: dict[str, str], line: str) -> None:
    done = run(folder, environment, line, preexec_fn=lambda: os.close(1))
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_characters(folder: Path, environment: dict[str, str], encoding: str) -> None:
    (folder / "app.py").write_text(APP)
    environment = {**environment, "PYTHONIOENCODING": encoding}
    done = run(folder, environment, "routes app")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/na" in done.stdout
    done = run(folder, environment, "routes app --json")
    assert [one["path"] for one in json.loads(done.stdout)["routes"]] == [
        "/na\u00efve-\u2603-\U0001f600" if encoding != "latin-1" else "/na\ufffdve-\u2603-\U0001f600"
    ]


@pytest.mark.parametrize("line", ["routes app", "config show app", "serve app --port 0", "dev app"])
def test_a_folder_that_was_removed(folder: Path, environment: dict[str, str], line: str) -> None:
    gone = folder / "gone"
    gone.mkdir()
    code = f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); os.execv(sys.executable, sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *COMMAND, *line.split()],
        env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.stderr == "error: the current folder is gone\n  change into a folder that exists\n"
    assert done.returncode == 1


def test_without_docstrings_and_asserts(folder: Path, environment: dict[str, str]) -> None:
    """``python -OO``: everything is imported, and the command serves."""
    code = (
        "import importlib, pkgutil, coserver, coserver_cli\n"
        "for package in (coserver, coserver_cli):\n"
        "    for one in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not one.name.endswith('__main__'):\n"
        "            importlib.import_module(one.name)\n"
        "from coserver import App\n"
        "from urllib.request import urlopen\n"
        "app = App()\n"
        "app.get('/')(lambda: 'ok')\n"
        "with app.start(record=True) as server:\n"
        "    assert False\n"
        "    print(urlopen(server.url).read().decode(), len(server.traces) or 'none yet', bool(server.snapshot()))\n"
    )
    command = [sys.executable, "-OO", "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok ")
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "coserver_cli", "routes", "app"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("methods")


@pytest.fixture
def recorded(serve: Callable[..., Running], environment: dict[str, str]) -> Running:
    running = serve("app", "--record")
    subprocess.run(["curl", "-s", f"http://127.0.0.1:{running.port}/"], capture_output=True, check=True)
    return running


def test_a_har_file_is_whole_or_not_there(recorded: Running, folder: Path, environment: dict[str, str]) -> None:
    place = f"--server {recorded.process.pid}"
    (folder / "old.har").write_text("before")
    for name in ("new.har", "old.har"):
        line = f"trace --once --har {name} {place}"
        done = run(folder, environment, line, preexec_fn=_no_space)
        assert done.returncode == 1
        assert done.stderr == f"error: {name} cannot be written: File too large\n"
    assert not (folder / "new.har").exists()
    assert (folder / "old.har").read_text() == "before"
    assert not list(folder.glob(".*.part"))
    done = run(folder, environment, f"trace --once --har old.har {place}")
    assert json.loads((folder / "old.har").read_text())["log"]["entries"]
    assert done.stderr == "1 exchange written to old.har\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("line", ["top --once", "top --json", "trace --once", "trace --once --json"])
def test_attached_commands(recorded: Running, folder: Path, environment: dict[str, str], line: str) -> None:
    line += f" {recorded.process.pid}" if line.startswith("top") else f" --server {recorded.process.pid}"
    with open("/dev/full", "w") as full:
        done = run(folder, environment, line, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device; it is not complete\n"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        done = run(folder, environment, line, stdout=out)
    assert (done.returncode, done.stderr) == (1, "")


def _no_space() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
