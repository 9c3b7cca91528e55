"""``coserver dev``: the app that it finds without a name, and its errors if there is none, or several."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coserver_cli.serve.discover import choose, look
from coserver_cli.serve.target import TargetError

from ..conftest import Running
from ..reload.commands import ask, until

Coserver = Callable[..., subprocess.CompletedProcess[str]]
ONE = "from coserver import App\n{0} = App()\n{0}.get('/')(lambda: '{0}')\n"
SPELLINGS = {
    "import coserver\napp = coserver.App('x')\n": ["app"],
    "import coserver as c\napp = c.App()\n": ["app"],
    "from coserver import App as Application\nx = y = Application()\n": ["x", "y"],
    "from coserver.app.app import App\napp: App = App()\n": ["app"],
    "from coserver import App\napp: 'App' = make()\n": ["app"],
    "from coserver import *\napp = App()\n": ["app"],
    "from coserver import App\nclass Shop(App): pass\nshop = Shop()\n": ["shop"],
    "from coserver import App\nif True:\n    app = App()\nelse:\n    app = App('b')\n": ["app"],
    "from coserver import App\ntry:\n    app = App()\nexcept Exception:\n    pass\n": ["app"],
    "from coserver import App\ndef f():\n    app = App()\n": [],
    "from flask import App\napp = App()\n": [],
    "App = 1\napp = App\n": [],
    "from coserver import App\napp: App\n": [],
    "import coserver\nx = coserver.Limits()\n": [],
    "x = '\\d'\n": [],
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_how_an_app_is_spelled(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.py").write_text(text)
    assert [one.target for one in look(tmp_path).found] == [f"app:{name}" for name in SPELLINGS[text]]


CHOICES: dict[str, tuple[dict[str, str], tuple[str, list[str]]]] = {
    "the only one": ({"shop.py": "site"}, ("shop:site", [])),
    "in a usual file": ({"main.py": "app", "old.py": "app"}, ("main:app", ["old:app"])),
    "named app": ({"app.py": "admin app", "old.py": "x"}, ("app:app", ["app:admin", "old:x"])),
    "in a package": ({"shop/__init__.py": "", "shop/app.py": "app"}, ("shop.app:app", [])),
    "a package's own": ({"shop/__init__.py": "app"}, ("shop:app", [])),
    "beside tests": ({"web.py": "app", "test_web.py": "app", "conftest.py": "app"}, ("web:app", [])),
}


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, apps in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(ONE.format(app) for app in apps.split()))


@pytest.mark.parametrize("case", CHOICES)
def test_which_app_is_meant(tmp_path: Path, case: str) -> None:
    files, wanted = CHOICES[case]
    fill(tmp_path, files)
    assert choose(tmp_path, "coserver dev") == wanted


def test_several(coserver: Coserver, folder: Path) -> None:
    (folder / "app.py").unlink()
    fill(folder, {"main.py": "app", "server.py": "app", "x.py": "app"})
    done = coserver("dev")
    assert done.stderr.splitlines() == [
        f"error: there are 3 apps in {folder}; name one of them",
        "  coserver dev main:app",
        "  coserver dev server:app",
        "  coserver dev x:app",
    ]
    assert done.returncode == 1


def test_none(coserver: Coserver, folder: Path) -> None:
    (folder / "app.py").unlink()
    done = coserver("dev")
    assert done.stderr.splitlines()[0] == f"error: no App was found in {folder}"
    assert "the folder has no modules" in done.stderr
    assert "from coserver import App" in done.stderr
    (folder / "lib.py").write_text("from coserver import App\ndef make() -> App:\n    return App()\n")
    (folder / "odd.py").write_text("x = (\n")
    done = coserver("dev")
    assert "  a function returns an App: coserver dev lib:make --factory" in done.stderr
    assert "  odd.py has an error: '(' was never closed" in done.stderr
    assert "  looked at lib.py, odd.py" in done.stderr
    assert done.returncode == 1


def test_nothing_is_imported_to_find_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("from coserver import App\nraise SystemExit('imported')\napp = App()\n")
    assert choose(tmp_path, "coserver dev") == ("app:app", [])


def test_a_usual_file_that_is_broken_is_waited_for(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "app.py").write_text("x = (\n")
    running = serve(command="dev")
    running.wait_for("^found app:app$")
    running.wait_for("waiting for a change")
    fill(folder, {"app.py": "app"})
    assert ask(running.port) == (200, "app")


def test_another_app_that_appears_is_not_taken(serve: Callable[..., Running], folder: Path) -> None:
    fill(folder, {"app.py": "app"})
    running = serve(command="dev")
    port = running.port
    assert ask(port) == (200, "app")
    (folder / "app.py").write_text("x = (\n")
    (folder / "other.py").write_text(ONE.format("other"))
    running.wait_for("waiting for a change")
    assert ask(port)[0] == 503
    fill(folder, {"app.py": "app"})
    until(port, 200, "app")
    running.signal(signal.SIGINT)
    assert running.ended() == 130


def test_what_the_configuration_names(serve: Callable[..., Running], folder: Path) -> None:
    fill(folder, {"app.py": "app", "main.py": "app", "x.py": "mine"})
    (folder / "coserver.toml").write_text('app = "x:mine"\n')
    assert ask(serve(command="dev").port) == (200, "mine")


def test_a_configuration_without_an_app_counts_too(serve: Callable[..., Running], folder: Path) -> None:
    fill(folder, {"app.py": "app"})
    (folder / "coserver.toml").write_text("backend = 'trio'\n")
    running = serve(command="dev")
    assert ask(running.port) == (200, "app")
    running.wait_for("backend trio")


def test_in_another_folder(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "app.py").unlink()
    fill(folder, {"src/web.py": "app"})
    running = serve("--app-dir", "src", command="dev")
    port = running.port
    running.wait_for("^found web:app$")
    assert ask(port) == (200, "app")


def test_a_handlers_error_is_shown_to_who_asked(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "app.py").write_text("from coserver import App\napp = App()\napp.get('/')(lambda: 1 / 0)\n")
    running = serve(command="dev")
    port = running.port
    status, text = ask(port)
    assert status == 500
    assert re.search(r'^> File ".*/app.py", line 3, in <lambda>$', text, re.MULTILINE)
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert ask(port, accept="text/html")[1].startswith("<!doctype html>")
    running = serve("--no-debug-pages", command="dev")
    assert "ZeroDivisionError" not in ask(running.port)[1]


@given(text=st.text(max_size=200) | st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_brings_the_search_down(tmp_path: Path, text: str | bytes) -> None:
    encoded = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    (tmp_path / "app.py").write_bytes(encoded)
    try:
        choose(tmp_path, "coserver dev")
    except TargetError:
        pass
