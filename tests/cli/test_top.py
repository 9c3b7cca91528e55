"""``coserver top`` and ``serve --live`` on a real terminal: the screen, the keys, the restored terminal."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import COMMAND, TIMEOUT, Running
from .screens import Screen

APP = """
import time
import anyio
from coserver import App, Request

app = App("shop")

@app.get("/page/{name}")
async def page(name: str):
    return f"page {name}"

@app.get("/slow")
async def slow():
    await anyio.sleep(60)

@app.get("/waits")
def waits():
    time.sleep(60)

@app.post("/echo")
def echo(request: Request):
    return request.body
"""


@pytest.fixture
def environment(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A folder for control sockets: a short path, without servers of other tests."""
    with tempfile.TemporaryDirectory(prefix="cs-") as runtime:
        yield {**environment, "XDG_RUNTIME_DIR": runtime, "NO_COLOR": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def screen(folder: Path, environment: dict[str, str]) -> Iterator[Callable[..., Screen]]:
    """Start a command on a terminal."""
    started: list[Screen] = []

    def start(*arguments: str, columns: int = 80, lines: int = 24) -> Screen:
        command = list(arguments) if arguments[0].startswith("/") else [*COMMAND, *arguments]
        started.append(Screen(command, folder, environment, columns, lines))
        return started[-1]

    yield start
    for one in started:
        one.close()


class Asking(threading.Thread):
    """A request in a thread; ``done`` returns status and body, None if it was cut."""

    def __init__(self, port: int, path: str, method: str = "GET", body: str | None = None) -> None:
        super().__init__(daemon=True)
        self.answer: tuple[int, str] | None = None
        self._given = (port, path, method, body)
        self.start()

    def run(self) -> None:
        port, path, method, body = self._given
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            self.answer = response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def done(self) -> tuple[int, str] | None:
        self.join(TIMEOUT)
        assert not self.is_alive()
        return self.answer


@pytest.mark.parametrize("of", ["asyncio", "trio"])
def test_requests_are_held_changed_and_let_go_by_keys(
    serve: Callable[..., Running], screen: Callable[..., Screen], of: str
) -> None:
    port = serve("app:app", "--backend", of).port
    top = screen("top", "shop")
    top.until("no request is being served")
    top.keys("i", "~u /page @handler", "\r")
    top.until("‖ ~u /page @handler")
    asking = Asking(port, "/page/a")
    top.until("1 held")
    top.until(lambda text: "handler ‖" in text and "/page/a" in text)
    # Show it in full, edit it, resume it.
    top.keys("\r")
    top.until("GET /page/a  held at handler")
    top.keys("e", "target=/page/b X-Tag:t", "\r")
    seen = top.until("is edited: target, headers")
    assert "GET /page/b" in seen
    assert "x-tag: t" in seen
    top.keys("n")
    top.until("GET /page/b  held at response")
    top.keys("e", "status=999", "\r")
    top.until("200 to 599")
    top.keys("e", "status=201 body=changed", "\r")
    top.until("is edited: status, body")
    top.keys("a")
    assert asking.done() == (201, "changed")
    top.keys("q")
    # Abort; respond without the handler; resume all.
    aborted = Asking(port, "/page/c")
    top.until("1 held")
    top.keys("X")
    assert aborted.done() is None
    top.until(lambda text: "1 held" not in text)
    answered = Asking(port, "/page/d")
    top.until("1 held")
    top.keys("R", "503 'come later'", "\r")
    assert answered.done() == (503, "come later")
    several = [Asking(port, f"/page/{name}") for name in "efg"]
    top.until("3 held")
    top.keys("A")
    assert sorted(one.done() or () for one in several) == [(200, f"page {name}") for name in "efg"]
    # Hold nothing more.
    top.keys("i", "\x15", "\r")
    top.until("nothing is held now")
    assert Asking(port, "/page/h").done() == (200, "page h")
    top.keys("q")
    assert top.ended() == 0
    assert top.is_clean()


def test_what_is_held_in_an_editor(
    serve: Callable[..., Running], screen: Callable[..., Screen], folder: Path, environment: dict[str, str]
) -> None:
    port = serve("app:app").port
    environment["EDITOR"] = "sh ./ed"
    top = screen("top", "shop")
    top.until("no request")
    top.keys("i", "~u /echo @handler", "\r")
    top.until("‖ ~u /echo @handler")
    asking = Asking(port, "/echo", "POST", '{"a": 1,\n\n"b": 2}')
    top.until("handler ‖")
    for commands, wanted in (
        ("exit 3", "sh ended with code 3: nothing is changed"),
        ("true", "nothing is changed"),
        ("sed -i -e 's/^host.*/host/' -e 's/2}/3}/' $1", "a field is 'Name: value'"),
        ("grep 3} $1 && sed -i 's/^host/host: x/' $1 && ls -ld ${1%/*} | grep ^drwx------ && >seen", "is edited:"),
    ):
        (folder / "ed").write_text(f"{commands}\n")
        top.keys("E")
        top.until(wanted)
    assert (folder / "seen").exists()
    top.keys("a")
    assert asking.done() == (200, '{"a": 1,\n\n"b": 3}')
    top.keys("q")
    assert top.ended() == 0
    assert top.is_clean()


def test_killed_while_it_holds(serve: Callable[..., Running], screen: Callable[..., Screen]) -> None:
    port = serve("app:app").port
    top = screen("top", "shop")
    top.until("no request")
    top.keys("i", ".", "\r")
    top.until("‖ all @handler")
    asking = Asking(port, "/page/a")
    top.until("1 held")
    top.process.kill()
    assert asking.done() == (200, "page a")
    assert Asking(port, "/page/b").done() == (200, "page b")


def test_filters_sorting_marks_traces_and_help(serve: Callable[..., Running], screen: Callable[..., Screen]) -> None:
    port = serve("app:app").port
    slow = Asking(port, "/slow")
    top = screen("top", "shop", columns=120, lines=40)
    top.until("/slow")
    top.keys("f", "~m POST", "\r")
    top.until("nothing matches the filter")
    top.keys("f", "\x15", "~zz", "\r")
    assert "column 1: " in top.until("there is no ~zz")
    top.keys("\x15", "\x1b[F", "\x15", "~m GET & (~q", "\r")
    seen = top.until("^ ").splitlines()
    assert seen[-1].index("^") == seen[-2].index("(~q")
    top.keys("\x03")  # it only cancels the line
    top.until("? help q quit")
    top.keys("f", "\x15", "\r")
    top.until("/slow")
    top.keys("m")
    top.until("is marked")
    top.keys("o")
    top.until("status▴")
    top.keys("p")
    top.until("paused")
    top.keys("p", "2")
    top.until("listener")
    top.keys("4")
    top.until(lambda text: "handler" in text and "size" in text)
    time.sleep(0.2)  # the server starts to record
    assert Asking(port, "/page/x").done() == (200, "page x")
    top.until("/page/x")
    # A filter by fields and bodies, which only the server has.
    assert Asking(port, "/echo", "POST", "a body").done() == (200, "a body")
    top.until("/echo")
    top.keys("f", "~bq '^a b' & ~hq host", "\r")
    top.until(lambda text: "/echo" in text and "/page/x" not in text)
    top.keys("1", "f", "\x15", "~hq ^host: | ~b nothing", "\r")
    top.until(lambda text: "/slow" in text and "nothing matches" not in text)
    top.keys("4", "f", "\x15", "~u /page", "\r")
    top.until(lambda text: "/page/x" in text and "/echo" not in text)
    top.keys("\r")
    top.until(lambda text: "GET /page/x  200" in text and "→ GET /page/x HTTP/1.1" in text)
    top.keys("r")
    top.until("sent again: 200")
    top.keys("c")
    top.until(lambda text: f"curl --globoff --path-as-is http://127.0.0.1:{port}/page/x" in text)
    top.keys("q", "?")
    top.until("edit what is held")
    top.keys("\x1b")
    top.until("/page/x")
    top.keys("\x03")
    assert top.ended() == 0
    assert top.is_clean()
    del slow


def test_the_waterfall_of_what_is_under_way(serve: Callable[..., Running], screen: Callable[..., Screen]) -> None:
    port = serve("app:app").port
    asking = Asking(port, "/waits")
    top = screen("top", "shop", columns=120, lines=40)
    top.until(lambda text: "/waits" in text and "1 suspended" in text)
    top.keys("\r")
    waits = re.compile(r"(?m)^waits in +sleep .*/app\.py:\d+ in\s+waits")  # it may wrap
    seen = top.until(lambda text: "GET /waits  suspend" in text and "░░░" in text and waits.search(text) is not None)
    assert [line.split()[0] for line in seen.splitlines()[5:8]] == ["request", "handler", "sleep"]
    assert "→ GET /waits" in top.until("accept-encoding: identity")
    before = re.search(r"handler waits.* ([\d.]+) m?s$", seen, re.MULTILINE)
    assert before is not None
    top.until(lambda text: before[0] not in text)  # it goes on
    top.keys("c")
    top.until(f"curl --globoff --path-as-is http://127.0.0.1:{port}/waits")
    top.keys("q", "r")
    top.until("2 suspended")  # the same again, though nothing is recorded
    top.keys("q")
    assert top.ended() == 0
    del asking


def test_any_size(serve: Callable[..., Running], screen: Callable[..., Screen]) -> None:
    port = serve("app:app").port
    slow = Asking(port, "/slow")
    top = screen("top", "shop")
    top.until("/slow")
    for columns, lines in ((200, 60), (40, 10), (20, 5), (7, 2), (1, 1), (80, 24)):
        top.resize(columns, lines)
        time.sleep(0.15)
        assert top.process.poll() is None, top.text
    top.until(lambda text: "/slow" in text and "1 exchanges" in text and "? help" in text)
    top.keys("q")
    assert top.ended() == 0
    del slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_leave_it_clean(serve: Callable[..., Running], screen: Callable[..., Screen], number: int) -> None:
    assert serve("app:app").port
    top = screen("top")
    top.until("no request")
    top.process.send_signal(number)
    assert top.ended() == (0 if number == signal.SIGINT else 128 + number)
    assert top.is_clean()


#: ``top`` with something in it broken after its third time.
BROKEN = """
import sys
from coserver.views.dashboard import model, screen
from coserver_cli import main

def breaking(function, times=[]):
    def broken(*given):
        times.append(1)
        if len(times) > 3:
            raise RuntimeError("a bug")
        return function(*given)
    return broken

{what} = breaking({what})
sys.argv = ["coserver", "top"]
main()
"""


@pytest.mark.parametrize("what", ["screen.lines", "model.Dashboard.show"])
def test_a_crash_leaves_it_clean(serve: Callable[..., Running], screen: Callable[..., Screen], what: str) -> None:
    """A bug in the drawing, and one in a thread of the session."""
    assert serve("app:app").port
    top = screen(sys.executable, "-c", BROKEN.format(what=what))
    assert top.ended() == 1
    assert top.is_clean()
    text = top.raw.decode()
    assert "RuntimeError: a bug" in text[text.rindex("\x1b[?1049l") :]


def pid_of_top(shell: int) -> int:
    """The only child of a shell."""
    [child] = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    return int(child)


def test_put_aside_and_taken_up_again(serve: Callable[..., Running], screen: Callable[..., Screen]) -> None:
    """Ctrl+Z, then a shell command, then fg."""
    port = serve("app:app").port
    shell = screen("/bin/bash", "--norc", "--noprofile", "-i")
    shell.keys("PS1='ready> '\r", f"{shlex.join(COMMAND)} top\r")
    shell.until("no request is being served")
    shell.keys("\x1a")
    shell.until(lambda text: "Stopped" in text and text.count("ready>"))
    assert shell.is_given_back()
    shell.keys("echo $((41 + 1)) here\r")
    shell.until("42 here")
    slow = Asking(port, "/slow")
    shell.keys("fg\r")
    shell.until(lambda text: "/slow" in text and "? help" in text)
    assert not shell.is_given_back()
    # Stopped by a signal that cannot be caught.
    taken = shell.raw.count(b"\x1b[?1049h")
    os.kill(pid_of_top(shell.process.pid), signal.SIGSTOP)
    shell.until("Stopped")
    shell.keys("fg\r")
    shell.until(lambda text: shell.raw.count(b"\x1b[?1049h") > taken and "/slow" in text and "? help" in text)
    shell.keys("q")
    shell.until(lambda _: shell.is_given_back())
    shell.keys("stty -a | grep -wo -e '-*icanon' -e '-*echo' | tr '\\n' ' '; echo kept\r")
    shell.until("icanon echo kept")
    assert "-icanon" not in shell.text.splitlines()
    shell.keys("exit\r")
    assert shell.ended() == 0
    del slow


def test_the_server_goes_and_comes_back(serve: Callable[..., Running], screen: Callable[..., Screen]) -> None:
    first = serve("app:app")
    assert first.port
    top = screen("top", "shop")
    top.until("running")
    top.keys("4", "i", "~u /page @handler", "\r")
    top.until("holding ~u /page")
    first.signal(signal.SIGTERM)
    first.ended()
    top.until("no server is reachable")
    assert "gone" in top.lines[0]
    assert "‖" not in top.text
    second = serve("app:app")
    port = second.port
    top.until(f"pid {second.process.pid}  running")
    # The new server holds nothing, since this top may be forgotten. A person is asked.
    top.until("is new: press i, Enter to hold ~u /page @handler again")
    assert Asking(port, "/page/free").done() == (200, "page free")
    top.keys("i", "\r")
    top.until("‖ ~u /page @handler")
    asking = Asking(port, "/page/a")
    top.until("1 held")
    top.keys("A")
    assert asking.done() == (200, "page a")
    top.until("/page/a")
    top.process.send_signal(signal.SIGTERM)
    assert top.ended() == 128 + signal.SIGTERM
    assert top.is_clean()


def test_a_second_top_shows_the_holds_of_the_first(
    serve: Callable[..., Running], screen: Callable[..., Screen]
) -> None:
    server = serve("app:app")
    assert server.port
    first, second = screen("top", "shop"), screen("top", "shop")
    second.until("running")
    first.until("running")
    first.keys("i", "~u /page @handler", "\r")
    first.until("holding ~u /page")
    second.until(f"coserver top, process {first.process.pid} holds ~u /page @handler")
    second.until("‖ ~u /page")
    assert "coserver top, process" not in first.text
    server.wait_for(r"coserver top, process \d+ holds requests: ~u /page @handler; each for 300 s at most")
    first.process.send_signal(signal.SIGKILL)
    server.wait_for(r"coserver top, process \d+ holds nothing more: ~u /page @handler")
    second.until(lambda text: "‖" not in text)


def test_none_is_reachable(
    serve: Callable[..., Running], coserver: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for command in (["top", "--once"], ["step", "--once"], ["trace", "--once"]):
        ended = coserver(*command)
        assert ended.returncode == 3
        assert "no server is running here" in ended.stderr
    running = serve("app:app")
    assert running.port
    ended = coserver("top", "other", "--json")
    assert ended.returncode == 3
    assert f"running are shop (pid {running.process.pid})" in ended.stderr
    ended = coserver("top", "/nowhere.sock", "--once")
    assert ended.returncode == 3
    ended = coserver("top")
    assert ended.returncode == 1
    assert "needs a terminal" in ended.stderr
    ended = coserver("top", "--filter", "~u (")
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == "     ^"


def test_one_picture(
    serve: Callable[..., Running], coserver: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
) -> None:  # fmt: skip
    port = serve("app:app").port
    slow = Asking(port, "/slow")
    end = time.monotonic() + TIMEOUT
    while "/slow" not in (ended := coserver("top", "--once")).stdout:
        assert time.monotonic() < end, ended
    assert ended.returncode == 0
    assert "phase" in ended.stdout
    found = json.loads(coserver("top", "shop", "--json", "--filter", "~u slow").stdout)
    assert found["connections"][0]["exchange"]["target"] == "/slow"
    assert coserver("top", "--once", "--filter", "~zz").returncode == 2
    environment["PYTHONIOENCODING"] = "ascii"  # an older terminal's
    assert "/slow" in coserver("top", "--once").stdout
    del slow


def test_no_control(serve: Callable[..., Running], coserver: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert serve("app:app", "--no-control").port
    assert coserver("top", "--once").returncode == 3


def test_live(screen: Callable[..., Screen]) -> None:
    """The dashboard in the server's terminal; output of the app does not disturb it."""
    live = screen("serve", "app:app", "--port", "0", "--live")
    text = live.until("no request is being served")
    assert "coserver" not in text.splitlines()[0]
    live.keys("2")
    live.until("served")
    live.keys("q")
    assert live.ended() == 0
    assert live.is_clean()
    assert "stopping" in live.text
    assert "http://127.0.0.1" in live.raw.decode()


def test_live_without_a_terminal(coserver: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = coserver("serve", "app:app", "--port", "0", "--live")
    assert ended.returncode == 1
    assert "--live needs a terminal to draw in" in ended.stderr


def test_live_on_a_dumb_terminal(screen: Callable[..., Screen], environment: dict[str, str]) -> None:
    environment["TERM"] = "dumb"
    live = screen("serve", "app:app", "--port", "0", "--live")
    assert live.ended() == 1
    assert "Traceback" not in live.text
    assert "TERM is dumb" in live.text
