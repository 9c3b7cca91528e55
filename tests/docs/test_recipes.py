"""CONTRIBUTING's recipes, followed to the letter in a copy of the repository.

A ``diff`` block changes the file that its first line names: what it keeps and takes away must stand there, once.
A ``python`` block is the file that its first line names. A ``console`` block's commands are run, and must succeed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("coserver", "cli", "tests", "docs", "pyproject.toml", "README.md")
TEXT = (ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes\n")[2].partition("\n## ")[0]
RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: so they must go together."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "vectors"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def change(folder: Path, diff: str) -> None:
    """Apply one block: what has a blank or a minus is looked for, what has a blank or a plus takes its place."""
    name, *lines = diff.splitlines()
    path = folder / name.removeprefix("--- ")
    old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has no longer, or more than once:\n{old}"
    path.write_text(text.replace(old, new))


def run(folder: Path, command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'cli'}", "COLUMNS": "160"}
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=folder, env=environment, text=True,
                          capture_output=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe(recipe: str, copy: Path) -> None:
    for kind, content in BLOCK.findall(RECIPES[recipe]):
        if kind == "diff":
            change(copy, content)
        elif kind == "python":
            (copy / content.splitlines()[0].removeprefix("# ")).write_text(content.partition("\n")[2])
        else:
            for line in content.splitlines():
                run(copy, line.removeprefix("$ "))
    run(copy, "ruff check -q coserver")


def test_all_are_there() -> None:
    assert list(RECIPES) == ["A balancing policy", "A framing", "A view", "A family of hooks"]


def test_the_copy_is_what_runs(copy: Path) -> None:
    run(copy, f"python -c 'import coserver; assert coserver.__file__.startswith(\"{copy}\")'")


def test_what_is_gone_is_told(copy: Path) -> None:
    with pytest.raises(AssertionError, match="has no longer"):
        change(copy, "--- README.md\n-This was never written.\n+Nor this.\n")
