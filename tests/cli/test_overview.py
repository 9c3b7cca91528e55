"""``coserver --version`` and ``--help``: what they print, and that they load little; commands that are elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coserver import __version__
from coserver_cli.commands import cli
from coserver_cli.overview import ABOUT, INSTEAD

from .conftest import COMMAND

Coserver = Callable[..., subprocess.CompletedProcess[str]]

LOADED = """
import json, sys
before = set(sys.modules)
from coserver_cli import main
sys.argv = ["coserver", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print()
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded(argument: str) -> tuple[str, list[str]]:
    """What the command prints, and the modules that it imports."""
    command = [sys.executable, "-c", LOADED, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, _, modules = done.stdout.rstrip().rpartition("\n")
    return said.strip(), json.loads(modules)


def test_the_version_loads_nothing_but_itself() -> None:
    said, modules = loaded("--version")
    assert said == f"coserver {__version__}"
    heavy = {one.partition(".")[0] for one in modules} & {
        "coserver",
        "typer",
        "click",
        "rich",
        "anyio",
        "importlib_metadata",
    }
    assert not heavy
    assert [one for one in modules if one.startswith("coserver_cli.")] == [
        "coserver_cli.overview",
        "coserver_cli.streams",
    ]
    assert len(modules) < 30


def test_the_help_loads_no_library() -> None:
    said, modules = loaded("--help")
    assert said.startswith("Usage: coserver")
    roots = {one.partition(".")[0] for one in modules}
    assert "typer" in roots
    assert not roots & {"coserver", "rich", "anyio", "pydantic", "h11", "greenlet", "ssl", "asyncio"}


def test_no_command_loads_pydantic() -> None:
    """typer requires it and does not use it: an install has it, a process does not."""
    code = "import sys, coserver, coserver_cli.commands\nassert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_help_is_that_of_the_commands(coserver: Coserver, environment: dict[str, str]) -> None:
    environment["COLUMNS"] = "80"
    code = "from coserver_cli.commands import cli; cli(['--help'], prog_name='coserver')"
    full = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    for arguments in (["--help"], ["-h"], []):
        done = coserver(*arguments)
        assert (done.stdout or done.stderr) == (full.stdout or full.stderr)
    groups = [one.name for one in cli.registered_groups]
    names = [one.name or one.callback.__name__ for one in cli.registered_commands if one.callback] + groups
    assert names == list(ABOUT)


def test_the_version_among_other_words(coserver: Coserver) -> None:
    for arguments in (["--version"], ["--version", "serve"]):
        assert coserver(*arguments).stdout == f"coserver {__version__}\n"


@pytest.mark.parametrize("name", INSTEAD)
def test_a_command_of_other_programs(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "shop:app"], prog_name="coserver")
    assert done.exit_code == 2
    assert f"No such command '{name}': {INSTEAD[name]}." in done.output
    assert name not in ABOUT


def test_a_misspelt_command(coserver: Coserver) -> None:
    done = coserver("serv", "shop:app")
    assert done.returncode == 2
    assert "Did you mean 'serve'" in done.stderr


def test_the_help_without_docstrings(folder: Path, environment: dict[str, str]) -> None:
    """``python -OO`` leaves docstrings out, but for a source that is there."""
    for name in ("trace", "open"):
        command = [COMMAND[0], "-OO", *COMMAND[1:], name, "--help"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        usual = subprocess.run(
            [*COMMAND, name, "--help"], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert "Example: coserver" in done.stdout
        assert done.stdout == usual.stdout


def test_completion_is_not_cut_short(environment: dict[str, str]) -> None:
    env = {**environment, "_COSERVER_COMPLETE": "complete_bash", "COMP_WORDS": "coserver ser", "COMP_CWORD": "1"}
    done = subprocess.run(COMMAND, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert "serve" in done.stdout
