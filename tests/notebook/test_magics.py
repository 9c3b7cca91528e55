"""The magics, in an InteractiveShell of this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("IPython", reason="IPython is not installed")
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from coserver import App
from coserver.app.registry import all_running


@pytest.fixture(scope="module")
def shell() -> Iterator[Any]:
    config = Config({"HistoryManager": {"enabled": False}})
    one = InteractiveShell(config=config)  # not the instance: this process is no notebook
    one.run_line_magic("load_ext", "coserver")
    yield one
    for server in all_running():
        server.stop()


def ask(path: str, server: str = "notebook", body: bytes | None = None) -> str:
    (found,) = [one for one in all_running() if one.name == server]
    with urlopen(found.url + path, body, timeout=30) as response:
        return str(response.read().decode())


def test_a_cell_becomes_a_handler(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.user_ns["stock"] = {7: "lamp"}
    shell.run_cell_magic("serve", "/items/{id:int}", "name = stock[id]\n{'id': id, 'name': name}\n")
    assert "GET /items/{id:int} is served at http://127.0.0.1:" in capsys.readouterr().out
    assert ask("/items/7") == '{"id":7,"name":"lamp"}'
    assert "name" not in shell.user_ns
    shell.user_ns["stock"][8] = "kettle"
    assert "kettle" in ask("/items/8")


def test_a_cell_may_return_await_and_read_the_request(shell: Any) -> None:
    shell.run_cell_magic("serve", "POST /up", "import anyio\nawait anyio.sleep(0)\nreturn request.body.upper()")
    assert ask("/up", body=b"abc") == "ABC"
    shell.run_cell_magic("serve", "/inner", "async def f(): await f()\n'plain'")
    assert ask("/inner") == "plain"


def test_a_cell_run_again_replaces_its_handler(shell: Any) -> None:
    for word in ("one", "two"):
        shell.run_cell_magic("serve", "/again", repr(word))
        assert ask("/again") == word


def test_a_cell_may_serve_a_named_app(shell: Any) -> None:
    shell.user_ns["mine"] = App("its own")
    shell.run_cell_magic("serve", "/x -a mine", "'by its variable'")
    assert ask("/x", "its own") == "by its variable"
    shell.run_cell_magic("serve", "/y --app 'its own'", "'by its name'")
    assert ask("/y", "its own") == "by its name"
    shell.run_line_magic("coserver", "stop 'its own'")
    assert [one.name for one in all_running()] == ["notebook"]


def test_a_request_is_answered_and_its_trace_returned(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell_magic("serve", "PUT /echo", "request.headers['x-word'] + request.body.decode()")
    trace = shell.run_line_magic("request", "PUT /echo -d 'a body' -H 'X-Word: hello'")
    assert "200 OK\nhelloa body" in capsys.readouterr().out
    assert (trace.method, trace.target, trace.status) == ("PUT", "/echo", 200)
    assert trace._repr_mimebundle_()["image/svg+xml"].startswith("<svg")
    assert shell.run_line_magic("request", "/nothing").status == 404


def test_servers_are_listed_and_stopped(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell_magic("serve", "/", "'ok'")
    capsys.readouterr()
    shell.run_line_magic("coserver", "")
    assert "stop it: %coserver stop notebook" in capsys.readouterr().out
    with App("second").start():
        with pytest.raises(UsageError, match=r"several servers run, choose one with -s: .*second"):
            shell.run_line_magic("request", "/")
        assert shell.run_line_magic("request", "/ -s second").status == 404
    shell.run_line_magic("coserver", "stop all")
    assert all_running() == []
    capsys.readouterr()
    shell.run_line_magic("coserver", "")
    assert "no server of this kernel is running" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no server of this kernel is running"):
        shell.run_line_magic("request", "/")
    shell.run_cell_magic("serve", "/", "'up again'")
    assert ask("/") == "up again"


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        ("", "1", "give a path: %%serve /hello"),
        ("items", "1", r"%%serve \[METHOD\] /path"),
        ("FETCH /x", "1", "METHOD being one of"),
        ("/x y z", "1", "METHOD"),
        ("/{id", "1", "%%serve GET /{id"),
        ("/x", "# nothing", "the cell is empty"),
        ("/x", "1 +", "invalid syntax"),
        ("/x -a nobody", "1", "no server of this kernel is named 'nobody'"),
        ("'/x", "1", "cannot be read"),
    ],
)
def test_bad_cells_are_told_what_is_wrong(shell: Any, line: str, cell: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shell.run_cell_magic("serve", line, cell)


@pytest.mark.parametrize(
    ("magic", "line", "said"),
    [
        ("request", "x", r"%request \[METHOD\] /path"),
        ("request", "/a -s nobody", "named 'nobody'"),
        ("request", "/a -H nothing", "a field is 'Name: value'"),
        ("request", "/ä", "printable ASCII"),
        ("coserver", "start", "%coserver stop NAME"),
        ("coserver", "stop nobody", "named 'nobody'"),
    ],
)
def test_bad_lines_are_told_what_is_wrong(shell: Any, magic: str, line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        shell.run_line_magic(magic, line)
