"""``coserver new``: a folder whose app serves, and whose test passes; what it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Coserver = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(("name", "module"), [("notes", "notes"), ("My-Shop", "my_shop"), ("deep/down", "down")])
def test_a_folder(coserver: Coserver, folder: Path, name: str, module: str, environment: dict[str, str]) -> None:
    done = coserver("new", name)
    assert done.returncode == 0, done.stderr
    assert f"cd {name} && coserver dev" in done.stderr
    made = folder / name
    assert sorted(one.name for one in made.iterdir()) == ["coserver.toml", f"{module}.py", f"test_{module}.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", f"test_{module}.py"]
    tested = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in tested.stdout, tested.stdout
    checked = subprocess.run(
        [sys.executable, "-m", "coserver_cli", "routes"], cwd=made, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "/notes/{id}" in checked.stdout


def test_the_current_folder(coserver: Coserver, folder: Path) -> None:
    done = coserver("new", ".")
    assert done.returncode == 0, done.stderr
    assert "\n  serve it   coserver dev\n" in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("json", 2, "try: coserver new my_json"),
        ("coserver", 2, "uses already"),
        ("class", 2, "uses already"),
        ("1st", 2, "named after the folder"),
        ("...", 2, "named after the folder"),
        ("/proc/notes", 1, "cannot be written"),
    ],
)
def test_what_is_refused(coserver: Coserver, folder: Path, name: str, code: int, message: str) -> None:
    done = coserver("new", name)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_overwritten(coserver: Coserver, folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes/test_notes.py").write_text("mine")
    done = coserver("new", "notes")
    assert (done.returncode, (folder / "notes/test_notes.py").read_text()) == (1, "mine")
    assert "exists already" in done.stderr
    assert len(list((folder / "notes").iterdir())) == 1
