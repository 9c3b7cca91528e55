"""``coserver routes``: complete in a pipe, folded on a terminal, and as JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver import App
from coserver_cli.routes import read
from coserver_cli.tables import show

Coserver = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import functools
from coserver import App

app = App("shop")
api = App("api")

@app.get("/")
async def index():
    return "ok"

@app.route("/both", methods=["GET", "PUT"])
def both():
    return "ok"

@app.get("/ticks")
async def ticks():
    yield "x"

@app.post("/up/{name:path}", stream=True)
async def up(request, name):
    return "ok"

class Greeter:
    def __call__(self):
        return "hello"

app.get("/hello")(Greeter())
app.get("/partial")(functools.partial(both))

@api.get("/v1/LONG/{id}")
def long_one(id: int):
    yield "x"

app.mount("/api", api)

@app.tcp(port=9000, framing="lines")
async def echo(connection):
    pass

app.listen(protocol="tcp", handler=echo, framing="length", uds="/tmp/x.sock")
admin = App("admin")
admin.get("/admin")(both)
app.listen(port=0, app=admin)
""".replace("LONG", "long-" * 20)


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "app.py").write_text(APP)
    return folder


def test_in_a_pipe_nothing_is_cut(coserver: Coserver) -> None:
    done = coserver("routes", "app")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("  ") for line in done.stdout.splitlines()]
    table = [[cell.strip() for cell in row if cell] for row in rows]
    long = "long-" * 20
    assert table == [
        ["methods", "path", "handler", "kind", "where"],
        ["GET", "/", "index", "async def", "app.py:8"],
        ["GET PUT", "/both", "both", "def", "app.py:12"],
        ["GET", "/ticks", "ticks", "async generator", "app.py:16"],
        ["POST", "/up/{name:path}", "up", "async def, stream", "app.py:20"],
        ["GET", "/hello", "Greeter", "def", "app.py:25"],
        ["GET", "/partial", "both", "def", "app.py:12"],
        ["GET", f"/api/v1/{long}/{{id}}", "long_one", "generator", "app.py:31"],
        ["tcp", "port 9000", "echo", "async def, lines", "app.py:37"],
        ["tcp", "/tmp/x.sock", "echo", "async def, length", "app.py:37"],
        ["GET", "/admin", "both", "def", "app.py:12"],
    ]
    assert "\x1b" not in done.stdout


def test_as_json(coserver: Coserver) -> None:
    done = coserver("routes", "app", "--json")
    told = json.loads(done.stdout)
    assert told["app"] == "shop"
    assert told["routes"][1] == {
        "methods": ["GET", "PUT"], "path": "/both", "handler": "both", "kind": "def", "where": "app.py:12"
    }  # fmt: skip


def test_on_a_terminal_it_is_folded(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    show(("a", "b"), [("one", "word " * 40), ("two", "x" * 100)], fold=("b",))
    out = capsys.readouterr().out
    assert "\x1b[1m" in out
    from rich.text import Text

    lines = Text.from_ansi(out).plain.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("x") for line in lines) == 100


def test_without_a_name_it_finds_the_app(coserver: Coserver, folder: Path) -> None:
    done = coserver("routes")
    assert done.stderr == "found app:app; other apps here: app:api, app:admin\n"
    assert "/both" in done.stdout


def test_what_cannot_be_had(coserver: Coserver) -> None:
    for arguments, said in ((["nothing"], "there is no module"), (["app:shop"], "has no 'shop'")):
        done = coserver("routes", *arguments)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_an_empty_app(coserver: Coserver, folder: Path) -> None:
    (folder / "app.py").write_text("from coserver import App\napp = App('bare')\n")
    done = coserver("routes", "app")
    assert (done.returncode, done.stdout) == (0, "bare has no routes: add one with @app.get('/')\n")
    assert json.loads(coserver("routes", "app", "--json").stdout) == {"app": "bare", "routes": []}


def test_a_handler_without_source() -> None:
    app = App()
    app.get("/")(dict)
    assert [row.where for row in read(app)] == [""]
