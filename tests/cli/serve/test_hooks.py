"""The blocking calls that the command hooks: before the app is imported, by flag, by file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from urllib.request import urlopen

import pytest

from coserver.hooks.install import SHIMS

from ..conftest import Running

Serve = Callable[..., Running]

APP = """
import threading, time
from pathlib import Path
from coserver import App, hooks

seen = hooks.installed()
app = App("shop")
lock = threading.Lock()

@app.get("/hooks")
def installed():
    return [seen, hooks.installed()]

@app.get("/free")
async def free():
    return "free"

@app.get("/wait")
def wait():
    Path("begun").touch()
    for _ in range(40):
        time.sleep(0.05)
        if Path("go on").exists():
            return "went on"
    return "nobody let it go on"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def ask(running: Running, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def without(*families: str) -> list[str]:
    return [one for one in SHIMS if one not in families]


@pytest.mark.parametrize(
    ("arguments", "table", "hooked"),
    [
        ([], "", without()),
        (["--hooks", "none"], "", []),
        (["--hooks", "locks", "--hooks", "sleep"], "", ["sleep", "locks"]),
        (["--hooks-off", "sleep", "--hooks-off", "locals"], "", without("sleep", "locals")),
        ([], 'families = ["dns", "sleep"]\noff = ["sleep"]', ["dns"]),
        (["--hooks", "select"], 'families = ["dns"]', ["select"]),
    ],
)
def test_what_is_hooked_is_so_before_the_import(
    serve: Serve, folder: Path, arguments: list[str], table: str, hooked: list[str]
) -> None:
    (folder / "coserver.toml").write_text(f"[hooks]\n{table}\n")
    seen, now = json.loads(ask(serve("app", "--config", "coserver.toml", *arguments), "/hooks"))
    assert seen == now == hooked


@pytest.mark.parametrize(("hooks", "answer"), [("hooks=True", []), ("hooks=False", []), ('hooks=["dns"]', ["dns"])])
def test_an_app_may_ask_for_more_than_the_command_hooks(
    serve: Serve, folder: Path, hooks: str, answer: list[str]
) -> None:
    (folder / "app.py").write_text(APP.replace('App("shop")', f'App("shop", {hooks})'))
    assert json.loads(ask(serve("app", "--hooks", "none"), "/hooks")) == [[], answer]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_family_that_is_hooked_suspends_its_handler_alone(serve: Serve, folder: Path, backend: str) -> None:
    running = serve("app", "--backend", backend)
    assert _while_one_waits(running, folder, "/free") == ("free", "went on")


def test_a_family_that_is_not_hooked_holds_up_all(serve: Serve, folder: Path) -> None:
    running = serve("app", "--hooks-off", "sleep")
    assert _while_one_waits(running, folder, "/free") == ("free", "nobody let it go on")


def _while_one_waits(running: Running, folder: Path, path: str) -> tuple[str, str]:
    """The response of this path while a handler waits, and then the waiting handler's response."""
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(ask, running, "/wait")
        while not (folder / "begun").exists():
            pass
        answer = ask(running, path)
        (folder / "go on").touch()
        return answer, waiting.result()


def test_debug_hooks_tells_of_each_suspension(serve: Serve, folder: Path) -> None:
    (folder / "go on").touch()
    running = serve("app", "--debug", "hooks", "--no-access-log")
    ask(running, "/free")
    assert ask(running, "/wait") == "went on"
    said = running.wait_for(r"DEBUG coserver\.hooks: .*")[0]
    line = next(number for number, text in enumerate(APP.splitlines(), 1) if "sleep(" in text)
    assert re.search(rf"sleep on 0\.05 s, .*/app\.py:{line} in wait$", said)
    assert len([one for one in running.lines if "coserver.hooks" in one]) == 1


def test_an_unknown_family_is_refused_with_those_that_there_are(
    coserver: Callable[..., CompletedProcess[str]], folder: Path
) -> None:
    (folder / "coserver.toml").write_text('[hooks]\nfamilies = ["sleeep"]\n')
    ended = coserver("serve", "--config", "coserver.toml", "app")
    assert ended.returncode == 1
    assert "got 'sleeep'" in ended.stderr
    assert "sleep, sockets" in ended.stderr
