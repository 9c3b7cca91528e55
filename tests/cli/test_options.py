"""The flags: made from the table of options, grouped in the help, read as every source, completed by shells."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver.app.config.table import table
from coserver_cli.options import HEADINGS

from .conftest import Running

Coserver = Callable[..., subprocess.CompletedProcess[str]]

FACTORY = """
from coserver import App
app = App("made by nobody")
name = "shop"

def make():
    made = App(name)
    made.get("/")(lambda: "made")
    return made

def fails():
    raise OSError("no database")

def forgets():
    return 7

async def waits():
    return app
"""


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "factory.py").write_text(FACTORY)
    return folder


@pytest.mark.parametrize("colours", [True, False])
def test_the_help_groups_all_of_them(coserver: Coserver, environment: dict[str, str], colours: bool) -> None:
    if colours:
        environment["FORCE_COLOR"] = "1"
    done = coserver("serve", "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    headings = [line.rstrip(":") for line in lines if re.fullmatch(r"\w.*:", line)]
    assert headings == ["Arguments", "Options", *HEADINGS]
    own = ("--config", "--env-file", "--factory", "--app-dir", "--reload", "--reload-dir", "--forwarded-allow-ips")
    for flag in [*(row.flag for row in table().values()), *own]:
        assert re.search(rf"(^|\s){flag}\b", done.stdout), flag
    assert "[MODULE:APP]" in lines[0]
    assert "<str>" not in done.stdout
    assert re.search(r"--body-size SIZE +The largest body of a request\. \[100 MiB\]", done.stdout)
    assert re.search(r"--port NUMBER .*\n?.*\[8000\]", done.stdout)


def test_every_help_fits_a_terminal(coserver: Coserver) -> None:
    for command in [[], ["config"], ["config", "check"], ["config", "show"], ["config", "reference"]]:
        done = coserver(*command, "--help")
        assert done.returncode == 0
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert not re.search(r"\w[.,:]*\.\.\.$", done.stdout, re.MULTILINE), "cut off"


def test_limits_by_flag(serve: Callable[..., Running]) -> None:
    from .serve.test_serve import get

    running = serve("app", "--target-size", "10", "--access-log", "--log-level", "error", "--idle-timeout", "5m")
    assert get(running.port) == "ok"
    assert get(running.port, "/" + "long" * 20).startswith("414 ")


def test_a_factory(serve: Callable[..., Running]) -> None:
    from .serve.test_serve import get

    running = serve("factory:make", "--factory")
    assert get(running.port) == "made"
    assert running.lines[0].endswith(" serves shop")


FACTORIES = {
    "factory:app": ("factory:app is not a factory; its type is App", "leave out --factory"),
    "factory:name": ("factory:name is not a factory; its type is str", "leave out --factory"),
    "factory:fails": ("factory:fails() failed: OSError: no database", "fix it; the traceback shows the line"),
    "factory:forgets": (
        "factory:forgets() returned int, not an App",
        "a factory is a def that returns a coserver.App, or an ASGI or WSGI application",
    ),
    "factory:waits": ("factory:waits() returned coroutine, not an App", "write it as a def, not as an async def"),
    "factory:none": (
        "module 'factory' ({folder}/factory.py) has no 'none'", "it has app: coserver serve factory:app"
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", FACTORIES)
def test_no_factory(coserver: Coserver, folder: Path, target: str) -> None:
    done = coserver("serve", target, "--factory", "--port", "0")
    message, way_out = FACTORIES[target]
    assert done.stderr.splitlines()[-2:] == [f"error: {message.format(folder=folder)}", f"  {way_out}"]
    assert ("Traceback" in done.stderr) is (target == "factory:fails")
    assert done.returncode == 1


def test_a_factory_without_its_flag(coserver: Coserver) -> None:
    done = coserver("serve", "factory:make")
    assert done.stderr.splitlines()[-1] == (
        "  if it returns the App: coserver serve factory:make --factory; it has app: coserver serve factory:app"
    )


def test_a_folder_for_the_app(serve: Callable[..., Running], coserver: Coserver, folder: Path) -> None:
    from .serve.test_serve import get

    (folder / "src").mkdir()
    (folder / "src" / "inner.py").write_text(FACTORY + "app.get('/')(lambda: 'inner')\n")
    assert get(serve("inner", "--app-dir", "src").port) == "inner"
    done = coserver("serve", "inner", "--app-dir", "sources")
    assert done.stderr.splitlines() == [
        "error: --app-dir: 'sources' is not a folder", "  give the folder that has the module"
    ]  # fmt: skip
    assert done.returncode == 1


def test_an_environment_file(serve: Callable[..., Running], environment: dict[str, str], folder: Path) -> None:
    from .serve.test_serve import get

    (folder / "told.py").write_text(
        "import os\nfrom coserver import App\napp = App()\n"
        "app.get('/')(lambda: os.environ['SECRET'] + os.environ['TAKEN'])\n"
    )
    (folder / "staging.env").write_text(
        "\ufeff# comment\nSECRET='from the file'\nTAKEN=lost\nexport COSERVER_TARGET_SIZE=10\nCOSERVER_GRACE=1\n"
    )
    environment["TAKEN"] = ", set before"
    running = serve("told", "--env-file", "staging.env")
    assert get(running.port) == "from the file, set before"
    assert get(running.port, "/" + "long" * 20).startswith("414 ")


def test_an_environment_file_that_is_none(coserver: Coserver) -> None:
    done = coserver("serve", "app", "--env-file", "none.env")
    assert done.stderr == "error: --env-file: none.env cannot be read: No such file or directory\n"
    assert done.returncode == 1


def test_an_environment_file_with_a_line_that_is_none(coserver: Coserver, folder: Path) -> None:
    """An invalid line is an error, because it may matter; its text is not shown, because it may be a secret."""
    (folder / "bad.env").write_text("GOOD=1\n# fine\nnot an assignment\nTOO='unclosed\n")
    done = coserver("serve", "app", "--env-file", "bad.env")
    assert done.stderr == (
        "error: --env-file: bad.env:3: expected NAME=value, with closed quotes\n"
        "error: --env-file: bad.env:4: expected NAME=value, with closed quotes\n"
    )
    assert done.returncode == 1


def test_without_what_reads_environment_files(folder: Path, environment: dict[str, str]) -> None:
    import sys

    (folder / ".env").touch()
    code = "import sys\nsys.modules['dotenv'] = None\nfrom coserver_cli import main\nmain()\n"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "app", "--env-file", ".env"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines() == [
        "error: --env-file needs python-dotenv, which is not installed",
        "  pip install 'coserver[dev]'",
    ]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("coserver serve --backend ", {"asyncio", "uvloop", "trio"}),
        ("coserver serve --backend u", {"uvloop"}),
        ("coserver serve --on-half-close ", {"cancel", "answer"}),
        ("coserver serve --log-format j", {"json"}),
        ("coserver serve --head-t", {"--head-timeout"}),
        ("coserver config s", {"show"}),
    ],
)
def test_shells_complete(coserver: Coserver, environment: dict[str, str], words: str, offered: set[str]) -> None:
    environment.update(
        {"_COSERVER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    )
    assert set(coserver().stdout.split()) == offered


def test_completion_can_be_installed(coserver: Coserver) -> None:
    assert "--install-completion" in coserver("--help").stdout


def test_a_json_log_holds_nothing_else(serve: Callable[..., Running], coserver: Coserver, folder: Path) -> None:
    from .serve.test_serve import get

    running = serve("app", "--log-format", "json")
    assert get(int(running.wait_for(r"http://127\.0\.0\.1:(\d+)")[1])) == "ok"
    running.wait_for('"GET / HTTP/1.1')
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    said = [json.loads(line) for line in running.lines]
    assert [one["message"] for one in said if one["logger"] == "coserver.cli"][-1] == "stopping"
    assert any(one["logger"] == "coserver.access" for one in said)
    wrong = [json.loads(line) for line in coserver("serve", "ap", "--log-format", "json").stderr.splitlines()]
    assert [one["level"] for one in wrong] == ["ERROR"]
    assert wrong[0]["message"].startswith("there is no module 'ap': searched ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trusted-peers", "10.0.0.1,elsewhere"], "Error: Invalid value for '--trusted-peers': .*'elsewhere'"),
        (["--access-format", "%h %q %nonsense"], "Error: Invalid value for '--access-format': .*nonsense|.*%n"),
    ],
)
def test_words_that_others_read(coserver: Coserver, arguments: list[str], message: str) -> None:
    done = coserver("serve", "app", *arguments)
    assert re.search(message, done.stderr)
    assert done.returncode == 2


def test_the_access_log_is_on_until_it_is_not(serve: Callable[..., Running]) -> None:
    from .serve.test_serve import get

    first = serve("app", "--access-format", "seen %m %U %s")
    assert get(first.port) == "ok"
    first.wait_for("^seen GET / 200$")
    second = serve("app", "--no-access-log")
    assert get(second.port) == "ok"
    second.signal(signal.SIGTERM)
    assert second.ended() == 0
    assert not [line for line in second.lines if "GET" in line]


def test_help_tells_the_default_of_its_command(coserver: Coserver) -> None:
    def debug_pages(command: str) -> str:
        said = re.sub(r"\s+", " ", coserver(command, "--help").stdout)
        return said.partition("--no-debug-pages ")[2].partition("Limits:")[0]

    assert debug_pages("serve").endswith("for development only. [off] ")
    assert debug_pages("dev").endswith("for development only. [on] ")
