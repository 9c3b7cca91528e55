"""``coserver doctor``: missing packages, and which of them are problems."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver import __version__
from coserver_cli.doctor import doctor
from coserver_cli.doctor.doctor import FINE, NOTE, PROBLEM

Coserver = Callable[..., subprocess.CompletedProcess[str]]


def found(what: str) -> doctor.Finding:
    return next(one for one in doctor.examine() if one.what == what)


def test_it_can_be_read(coserver: Coserver) -> None:
    done = coserver("doctor")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0].split() == ["what", "state", "found"]
    for name in ("Python", "coserver", "anyio", "h11", "greenlet", "codecs", "backends", "open files", "sendfile"):
        assert f"\n{name} " in done.stdout
    assert done.stdout.endswith("\nno problems\n")


def test_as_json(coserver: Coserver) -> None:
    told = json.loads(coserver("doctor", "--json").stdout)
    assert told["problems"] == 0
    by_name = {one["what"]: one for one in told["findings"]}
    assert by_name["coserver"]["found"].startswith(__version__)
    assert by_name["h11"]["state"] == FINE


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    real = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in hidden else real(name))


def test_an_extra_that_is_missing_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "trio", "watchfiles")
    assert found("trio") == doctor.Finding(
        "trio", NOTE, "not installed (the backend trio)", "pip install 'coserver[trio]'"
    )
    assert found("watchfiles").way_out == "pip install 'coserver[dev]'"
    assert doctor.run() == 0


def test_the_extra_of_all_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """``all`` is for the hurried; a package that is missing is told with the extra of its purpose."""
    hide(monkeypatch, "uvloop", "anywidget")
    whats = [one.what for one in doctor.examine()]
    assert "coserver[all]" not in str(doctor.examine())
    assert (whats.count("uvloop"), whats.count("coserver"), found("anywidget").way_out) == (
        1, 1, "pip install 'coserver[notebook]'",
    )  # fmt: skip


def test_a_free_threaded_build_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "free threading" not in [one.what for one in doctor.examine()]
    monkeypatch.setattr(doctor.sysconfig, "get_config_var", lambda name: int(name == "Py_GIL_DISABLED"))
    assert found("free threading").state == NOTE


def test_what_is_needed_is_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hide(monkeypatch, "h11")
    one = found("h11")
    assert (one.state, one.found) == (PROBLEM, "not installed")
    assert one.way_out.startswith("pip install 'h11>=")
    assert doctor.run() == 1
    assert capsys.readouterr().out.endswith("\n1 problem\n")


def test_an_old_version_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.metadata.version
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "0.9.0" if name == "anyio" else real(name))
    one = found("anyio")
    assert one.state == PROBLEM
    assert one.found.startswith("0.9.0, older than 4.")


@pytest.mark.parametrize(("limit", "state"), [(100, PROBLEM), (1024, NOTE), (100_000, FINE)])
def test_open_files(monkeypatch: pytest.MonkeyPatch, limit: int, state: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, 4096))
    one = found("open files")
    assert one.state == state
    if state != FINE:
        assert "ulimit -n 10064" in one.way_out
        assert "the system allows 4096" in one.way_out


def test_an_examination_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> object:
        raise OSError("no metadata here")

    monkeypatch.setattr(doctor.metadata, "requires", broken)
    assert found("packages").state == NOTE
    assert doctor.run() == 0


def test_in_a_real_process_that_lacks_packages(folder: Path, environment: dict[str, str]) -> None:
    """Packages are hidden as if they were not installed. The doctor itself must not need them."""
    code = (
        "import importlib.machinery as m, sys\n"
        "find = m.PathFinder.find_spec\n"
        "hidden = {'trio', 'uvloop', 'httptools', 'orjson', 'watchfiles', 'psutil', 'dotenv'}\n"
        "m.PathFinder.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)\n"
        "from coserver_cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    for extra in ("fast", "trio", "dev"):
        assert f"pip install 'coserver[{extra}]'" in done.stdout
    assert "backends" in done.stdout


ESCAPING = """
import sqlite3, _thread, threading
from coserver import App
from coserver.hooks.shims.locals import original

older = original()
newer = threading.local()
app = App("shop")
"""
#: Made before coserver's command installs anything: by what Python runs at its start.
EARLY = """
import socket, ssl, time, types, sys
early = sys.modules["early"] = types.ModuleType("early")
early.naps = (time.sleep, 1)
early.link = ssl.create_default_context().wrap_socket(
    socket.socket(), do_handshake_on_connect=False, server_hostname="shop"
)
"""


def test_what_an_app_has_out_of_the_hooks_reach(coserver: Coserver, folder: Path) -> None:
    (folder / "escaping.py").write_text(ESCAPING)
    told = json.loads(coserver("doctor", "escaping:app", "--json").stdout)
    by_name = {one["what"]: one for one in told["findings"] if one["state"] == NOTE}
    assert by_name["sqlite3"]["way_out"] == 'App(offloaded=["sqlite3"])'
    locals_found = [one["found"] for one in told["findings"] if one["what"] == "threading.local"]
    assert any(one.startswith("escaping.older was created before") for one in locals_found)
    assert not any("newer" in one for one in locals_found)
    assert len(locals_found) == 1  # those of typer and anyio, which the command loads, are nobody's to change


def test_what_is_older_than_the_hooks_is_named(coserver: Coserver, folder: Path, environment: dict[str, str]) -> None:
    (folder / "sitecustomize.py").write_text(EARLY)
    environment["PYTHONPATH"] = str(folder)
    (folder / "escaping.py").write_text(
        "import sqlite3\n" + ESCAPING.replace("App(", "App(offloaded=['sqlite3'], name=")
    )
    told = json.loads(coserver("doctor", "escaping:app", "--json").stdout)
    found = {one["what"]: one["found"] for one in told["findings"]}
    assert found["time.sleep"].startswith("early.naps has the original time.sleep, from before")
    assert found["TLS socket"].startswith("early.link was wrapped before the app was imported")
    assert "sqlite3" not in found  # offloaded


def test_an_app_that_is_not_there_is_a_problem(coserver: Coserver) -> None:
    done = coserver("doctor", "nowhere:app")
    assert done.returncode == 1
    assert "nowhere" in done.stdout
