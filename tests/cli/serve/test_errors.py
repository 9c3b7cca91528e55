"""Errors before the server starts: message, way out, exit code."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from coserver import __version__

from ..conftest import Running

Coserver = Callable[..., subprocess.CompletedProcess[str]]

MODULES = {
    "needs.py": "def load():\n    import not_installed_at_all\nload()\n",
    "wrong.py": "x = 1\nx.append(2)\n",
    "syntax.py": "x = (\n",
    "leaves.py": "import sys\nsys.exit('not today')\n",
    "empty.py": "",
    "unknown.py": "from coserver import App\napp = App()\napp.get('/{a}')(lambda b: '')\n",
}


@pytest.fixture
def folder(folder: Path) -> Path:
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    return folder


LOOKED = "  searched {folder} and the installed packages"
HOLDS = "  it has app and other: coserver serve app:app"
TARGETS = {
    "ap": ("error: there is no module 'ap'", LOOKED + "; did you mean 'app'?"),
    "shop.web:app": ("error: there is no module 'shop.web'", LOOKED),
    "app:shop": ("error: module 'app' ({folder}/app.py) has no 'shop'", HOLDS),
    "app:number": ("error: 'number' of module 'app' ({folder}/app.py) is not an App; its type is int", HOLDS),
    "empty": (
        "error: module 'empty' ({folder}/empty.py) has no 'app'",
        "  it has no App; add one: app = coserver.App()",
    ),
    "shop.toml": (
        "error: 'shop.toml' is a configuration file, not a module",
        "  pass it with --config: coserver serve --config shop.toml",
    ),
    "app.py": ("error: 'app.py' is a file, not a module", "  name the module: coserver serve app:app"),
    "./web/app.py:site": (
        "error: './web/app.py' is a file, not a module",
        "  name the module: coserver serve web.app:site",
    ),
    ":app": ("error: ':app' names no module", "  give module and app: coserver serve module:app"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_none(coserver: Coserver, folder: Path, target: str) -> None:
    done = coserver("serve", target)
    assert done.stderr.splitlines() == [line.format(folder=folder) for line in TARGETS[target]]
    assert (done.stdout, done.returncode) == ("", 1)


FAILING = {
    "needs": (
        "ModuleNotFoundError: No module named 'not_installed_at_all'",
        "install not_installed_at_all, or correct the import",
    ),
    "wrong": ("AttributeError: 'int' object has no attribute 'append'", "fix it; the traceback shows the line"),
    "leaves": ("SystemExit: not today", "fix it; the traceback shows the line"),
}


@pytest.mark.parametrize("module", FAILING)
def test_a_module_that_fails_shows_its_own_traceback(coserver: Coserver, folder: Path, module: str) -> None:
    done = coserver("serve", module)
    lines = done.stderr.splitlines()
    what, way_out = FAILING[module]
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{folder}/{module}.py"'), "frames of nobody's interest come first"
    assert lines[-2:] == [f"error: module {module!r} failed on import: {what}", f"  {way_out}"]
    assert done.returncode == 1


def test_a_syntax_error(coserver: Coserver, folder: Path) -> None:
    done = coserver("serve", "syntax")
    assert done.stderr.startswith(f'  File "{folder}/syntax.py", line 1\n')
    assert "error: module 'syntax' failed on import: SyntaxError: '(' was never closed" in done.stderr
    assert done.returncode == 1


def test_a_handler_that_asks_for_too_much(coserver: Coserver) -> None:
    done = coserver("serve", "unknown", "--port", "0")
    said = r"error: <lambda> asks for 'b', which nothing provides; .*\n  unknown.py:3: /{a}\n"
    assert re.fullmatch(said, done.stderr)
    assert done.returncode == 1


def test_a_busy_port(coserver: Coserver) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = coserver("serve", "app", "--port", str(port))
    first, second = done.stderr.splitlines()
    assert first == (
        f"error: 127.0.0.1:{port} is taken by another process: end it, or take another port (0 takes a free one)"
    )
    assert second.startswith(f"  it is used by process {os.getpid()} of {psutil.Process().username()}: ")
    assert done.returncode == 1


def test_a_busy_unix_socket(coserver: Coserver, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process bound a path relative to its own folder."""
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind("shop.sock")
        taken.listen()
        done = coserver("serve", "app", "--uds", "./shop.sock")
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ./shop.sock is taken by another process: end it")
    assert second.startswith(f"  it is used by process {os.getpid()} of ")
    assert done.returncode == 1


def test_a_busy_port_whose_holder_cannot_be_asked_for(folder: Path, environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code = "import sys\nsys.modules['psutil'] = None\nfrom coserver_cli import main\nmain()\n"
        done = subprocess.run(
            [sys.executable, "-c", code, "serve", "app", "--port", str(taken.getsockname()[1])],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert len(done.stderr.splitlines()) == 1
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (["--host", "192.0.2.1"], "192.0.2.1:8000 for 'http': .*; take an address of this machine, or 0.0.0.0 for all"),
        (["--host", "shop.invalid"], "shop.invalid:8000 for 'http': .*; take an address of this machine, .*"),
        (["--uds", "none/shop.sock"], "none/shop.sock for 'http': No such file or directory; make the folder first"),
        (["--uds", "s" * 200], "s{200} for 'http': .*path too long; take a shorter path.*"),
    ],
)
def test_a_place_that_cannot_be_had(coserver: Coserver, place: list[str], message: str) -> None:
    done = coserver("serve", "app", *place)
    assert re.fullmatch(f"error: cannot listen on {message}\n", done.stderr)
    assert done.returncode == 1


BROKEN_LIFESPANS = {
    "    raise ValueError('no database')\n    yield": ("start", "ValueError: no database"),
    # A refused connection is no listener's trouble, though both are an OSError.
    "    raise ConnectionRefusedError('no database')\n    yield": ("start", "ConnectionRefusedError: no database"),
    "    yield\n    raise ValueError('no database')": ("end", "ValueError: no database"),
}


@pytest.mark.parametrize("body", BROKEN_LIFESPANS)
def test_a_lifespan_that_fails_shows_its_own_traceback(
    serve: Callable[..., Running], folder: Path, backend: str, body: str
) -> None:
    """Without frames of the command, the library and the loop."""
    begin = "from coserver import App\napp = App()\n@app.lifespan\nasync def life():\n"
    (folder / "broken.py").write_text(f"{begin}{body}\n")
    running = serve("broken", "--backend", backend)
    when, what = BROKEN_LIFESPANS[body]
    if when == "end":
        running.wait_for("Press Ctrl")
        running.signal(signal.SIGTERM)
    assert running.ended() == 1
    at = running.lines.index("Traceback (most recent call last):")
    assert running.lines[at + 1].startswith(f'  File "{folder}/broken.py"')
    said = [what, f"error: the app failed at its {when}: {what}", "  fix it; the traceback shows the line"]
    assert running.lines[-3:] == said


def test_ctrl_c_while_the_command_is_being_loaded(folder: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from coserver_cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 130)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["app", "--backend", "gevent"], "'--backend': backend may be asyncio, uvloop, trio; got 'gevent'"),
        (["app", "--codec", "pico"], "'--codec': codec may be auto, h11, httptools; got 'pico'"),
        (["app", "--port", "70000"], "--port"),
        (["app", "--port", "http"], "--port"),
        (["app", "--uds", "x", "--port", "1"], "a server listens at one place: give --uds alone, or --host and --port"),
        ([], "MODULE:APP"),
        (["app", "--reload-dir", "none"], "--reload-dir"),
        (["app", "--grace", "soon"], "'--grace': grace must be a number of seconds, or a text like '30s'"),
        (["app", "--head-size", "0"], "'--head-size': head_size must be at least 1; got 0"),
        (["app", "--debug", "tcp"], "'--debug': debug may hold http, hooks; got 'tcp'"),
        (["app", "--host", ""], "'--host': host must be an address or a name, or several with commas"),
        (["app", "--access-format", "combnied"], "'combnied' holds no word like %h; did you mean combined?"),
    ],
)
def test_wrong_usage(coserver: Coserver, arguments: list[str], message: str) -> None:
    done = coserver("serve", *arguments)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(("arguments", "extra"), [(["--backend", "trio"], "trio"), (["--backend", "uvloop"], "fast"),
                                                  (["--codec", "httptools"], "fast")])  # fmt: skip
def test_a_missing_extra(folder: Path, environment: dict[str, str], arguments: list[str], extra: str) -> None:
    """Packages are hidden as if they were not installed."""
    code = (
        "import importlib.machinery as m, sys\n"
        "find = m.PathFinder.find_spec\n"
        "hidden = {'trio', 'uvloop', 'httptools'}\n"
        "m.PathFinder.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)\n"
        "sys.argv[0] = 'coserver'\n"
        "from coserver_cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "app", "--port", "0", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert re.fullmatch(rf"error: .* is not installed; pip install 'coserver\[{extra}\]', or take '\w+'\n", done.stderr)
    assert done.returncode == 1


def test_version(coserver: Coserver) -> None:
    done = coserver("--version")
    assert (done.stdout, done.stderr, done.returncode) == (f"coserver {__version__}\n", "", 0)


def test_help_can_be_read(coserver: Coserver) -> None:
    done = coserver("serve", "--help")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("--host", "--port", "--uds", "--backend", "--codec", "Example:", "asyncio, uvloop or trio"):
        assert word in done.stdout
    assert "serve" in coserver("--help").stdout
    for command in ("routes", "demo"):
        assert not re.search(r"<\w+>|<=x<=", coserver(command, "--help").stdout), "typer's own notation"
    assert "Usage:" in (done := coserver()).stdout + done.stderr


def test_a_module_that_runs_its_app(coserver: Coserver, folder: Path) -> None:
    """``app.run()`` at a module's top level does not serve a second time while the command imports the module."""
    (folder / "runs.py").write_text("import coserver\napp = coserver.App('runs')\napp.get('/')(lambda: '')\napp.run()")
    done = coserver("routes", "runs:app")
    assert done.returncode == 0
    assert "warning: app.run() of 'runs' is ignored: this command runs the app" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr
    assert "GET" in done.stdout


def test_python_m_coserver(folder: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "coserver", "--version"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"coserver {__version__}\n"


SETUP = """from coserver import App
app = App("shop")


{line}
def index({parameter}):
    return "ok"
"""


@pytest.mark.parametrize(
    ("line", "parameter", "message", "shown"),
    [
        ('@app.get("a")', "", "a route is a text that must start with '/'; got 'a'", '@app.get("a")'),
        ('@app.get("/{a}/{a}")', "a", "two parameters are named 'a'", '@app.get("/{a}/{a}")'),
        ('@app.get("/<a>")', "a", "write {a}", '@app.get("/<a>")'),
        ('@app.get("/", limits={"nix": 3})', "", "'nix' is no limit", "@app.get("),
        ('@app.tcp(framing="nix")', "c", "unknown framing 'nix'", "@app.tcp("),
        ('app.mount("x", App())', "", "a prefix starts with '/'", 'app.mount("x", App())'),
        ('@app.get("/a/{id}")', "idd", "index asks for 'idd', which nothing provides", "/a/{id}"),
    ],
)
def test_a_mistake_in_a_route(
    coserver: Coserver, folder: Path, line: str, parameter: str, message: str, shown: str
) -> None:
    """One manner for all: the error, and the line of the app that it comes from. No traceback of the library."""
    (folder / "wrong.py").write_text(SETUP.format(line=line, parameter=parameter))
    done = coserver("serve", "wrong", "--port", "0")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert second.startswith(f"  wrong.py:5: {shown}")


def test_a_mistake_in_a_factory(coserver: Coserver, folder: Path) -> None:
    (folder / "wrong.py").write_text("from coserver import App\n\ndef make():\n    App().get('a')\n")
    done = coserver("routes", "wrong:make", "--factory")
    assert done.stderr.splitlines()[1:] == ["  wrong.py:4: App().get('a')"]
