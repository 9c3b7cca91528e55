"""``coserver step`` and ``coserver trace`` in scripts."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coserver.control.client import Client

from .conftest import COMMAND, TIMEOUT, Running
from .test_top import APP, Asking, environment

__all__ = ["environment"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


class Script:
    """A command with pipes for stdin and stdout."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=folder, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err


@pytest.fixture
def script(folder: Path, environment: dict[str, str]) -> Iterator[Callable[..., Script]]:
    started: list[Script] = []

    def start(*arguments: str) -> Script:
        started.append(Script(arguments, folder, environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def holding(port: int, path: str, script: Script, method: str = "GET", body: str | None = None) -> tuple[Asking, str]:
    """A held request. It is repeated until the stepper holds it, because the stepper may start late."""
    asking = Asking(port, path, method, body)
    return asking, script.hear()


def until_it_holds(script: Script, port: int) -> None:
    """Wait for the stepper: it is there when a request is not answered."""
    script.say("help")
    while not script.hear().startswith("quit"):
        pass


def test_commands_of_a_script(serve: Callable[..., Running], script: Callable[..., Script]) -> None:
    port = serve("app:app").port
    step = script("step", "~u /page", "--at", "head,response")
    until_it_holds(step, port)
    asking, heard = holding(port, "/page/a", step)
    assert "GET /page/a  held at head" in heard
    step.say("fly")
    assert "there is no command 'fly'" in step.hear()
    step.say("edit body=x")
    assert "body cannot be changed at 'head'" in step.hear()
    step.say("edit target=/page/b X-A:1")
    assert "GET /page/b" in step.hear()
    step.say("until response")
    heard = step.hear()
    while "held at response" not in heard:
        heard = step.hear()
    step.say("respond 418 'no coffee' X-Tea:1")
    assert asking.done() == (418, "no coffee")
    several = [holding(port, "/page/d", step)[0] for _ in range(2)]
    step.say("resume all")
    for _ in range(2):
        assert "held at response" in step.hear()
    step.say("resume all")
    assert [one.done() for one in several] == [(200, "page d")] * 2
    step.say("quit")
    assert step.ended()[0] == 0
    assert Asking(port, "/page/c").done() == (200, "page c")


def test_json_once(serve: Callable[..., Running], script: Callable[..., Script]) -> None:
    port = serve("app:app").port
    step = script("step", "--at", "handler", "--once", "--json")
    step.say("show")
    step.say("edit target=/page/z")
    step.say("bogus")
    step.say("resume\nrespond 503\n# done")
    answers = []
    while step.process.poll() is None and not answers:  # before the stepper is there, nothing is held
        asking = Asking(port, "/page/a")
        if asking.done() == (200, "page z"):
            answers.append(asking)
    code, out, _ = step.ended()
    assert code == 0
    told = [json.loads(line) for line in out.splitlines()]
    assert told[0]["held"]["title"] == "GET /page/a"
    assert told[2]["held"]["title"] == "GET /page/z"
    assert "bogus" in told[3]["error"]
    assert told[4]["let_go"] == told[0]["held"]["id"]
    assert "not done: respond 503; leave out --once" in told[5]["error"]


def test_the_end_of_its_commands_lets_go(serve: Callable[..., Running], script: Callable[..., Script]) -> None:
    port = serve("app:app").port
    step = script("step")
    until_it_holds(step, port)
    asking, heard = holding(port, "/page/a", step)
    assert "held at handler" in heard
    assert step.process.stdin is not None
    step.process.stdin.close()
    assert asking.done() == (200, "page a")
    step.process.stdin = None
    assert step.ended()[0] == 0


def test_what_goes_by_itself_is_told(serve: Callable[..., Running], script: Callable[..., Script]) -> None:
    port = serve("app:app").port
    step = script("step", "~u /page", "--limit", "0.7", "--json")
    step.say("help")
    assert "commands" in step.hear()
    leaving = socket.create_connection(("127.0.0.1", port))
    leaving.sendall(b"GET /page/a HTTP/1.1\r\nhost: h\r\n\r\n")
    number = json.loads(step.hear())["held"]["id"]
    step.say("a")  # in top it is the key for resume
    assert "write abort or resume" in json.loads(step.hear())["error"]
    leaving.close()
    assert json.loads(step.hear())["gone"] == number
    asking = Asking(port, "/page/b")
    number = json.loads(step.hear())["held"]["id"]
    gone = json.loads(step.hear())
    assert gone == {"gone": number, "why": "its time limit of 0.7 s passed"}
    assert asking.done() == (200, "page b")
    step.say("list")
    assert json.loads(step.hear()) == {"list": []}
    step.say("quit")
    assert step.ended()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_goes(
    serve: Callable[..., Running], script: Callable[..., Script], environment: dict[str, str], number: int
) -> None:
    """Without input and without held requests the commands end too, and say why."""
    running = serve("app:app")
    assert running.port
    assert "nothing is recorded" in script("trace", "--once").ended()[2]
    [path] = Path(environment["XDG_RUNTIME_DIR"], "coserver").glob("*.sock")
    client = Client(str(path))
    steps, trace = [script("step"), script("step", "--once", "--json")], script("trace")
    end = time.monotonic() + TIMEOUT
    while len(client.ask("GET", "/v1/steps")["steps"]) < 2 or not client.ask("GET", "/v1/traces")["recording"]:
        assert time.monotonic() < end
    running.process.send_signal(number)
    running.process.wait(TIMEOUT)
    for one in (*steps, trace):
        one.process.wait(TIMEOUT)  # their stdin is open
        code, _, err = one.ended()
        assert code == (0 if one is trace and number == signal.SIGTERM else 3), err
        assert "Traceback" not in err
        assert err.strip()


def test_wrong_ones(serve: Callable[..., Running], coserver: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert serve("app:app").port
    for arguments, why in (
        (["~zz"], "there is no ~zz"),
        (["--at", "suspend"], "can be observed"),
        (["--limit", "-1"], "limit"),
    ):
        ended = coserver("step", *arguments)
        assert ended.returncode == 2
        assert why in ended.stderr


def test_traces(
    serve: Callable[..., Running], script: Callable[..., Script], folder: Path,
    coserver: Callable[..., subprocess.CompletedProcess[str]],
) -> None:  # fmt: skip
    port = serve("app:app", "--record").port
    follow = script("trace", "~u /page", "--json")
    har = script("trace", "--har", "all.har", "--curl")
    for _ in range(2):
        Asking(port, "/echo", "POST", '{"a": 1}').done()
    end = time.monotonic() + TIMEOUT
    seen: list[str] = []
    while not seen or not _readable(har.process.stdout.fileno()):  # type: ignore[union-attr]
        assert Asking(port, "/page/a").done() == (200, "page a")  # once more, until both have attached
        assert time.monotonic() < end
        if not seen and follow.process.stdout is not None and _readable(follow.process.stdout.fileno()):
            seen.append(follow.hear())
    assert json.loads(seen[0])["target"] == "/page/a"
    assert coserver("trace", "--once", "~u /echo").stdout.count("POST /echo") == 2
    assert "request" in coserver("trace", "--once", "--waterfall", "~u /page").stdout
    curl = coserver("trace", "--once", "--curl", "~u /echo").stdout.splitlines()
    assert curl[0].startswith("curl ")
    assert '{"a": 1}' in curl[0]
    assert json.loads(coserver("trace", "--once", "--json", "~u /echo").stdout.splitlines()[0])["status"] == 200
    assert coserver("trace", "--har", "no/where.har").returncode == 1
    assert har.hear().startswith("curl ")
    har.process.send_signal(2)
    assert har.ended()[0] == 0
    entries = json.loads((folder / "all.har").read_text())["log"]["entries"]
    assert entries[0]["request"]["url"].startswith("http://127.0.0.1")


def _readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0.05)[0])
