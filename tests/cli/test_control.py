"""Requests to the control sockets of real server processes; wrong ones, and readers that stop."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from coserver.control.client import Client, Refused, find

from ..certificates import write
from .conftest import APP, COMMAND, TIMEOUT, Running
from .serve.test_tls import port_of, shown
from .test_top import Asking, environment

__all__ = ["environment"]

#: Its first observer fails at the second request's head.
FRAGILE = """
from coserver.lifecycle import events

heads = []

def fragile(event):
    if isinstance(event, events.RequestHead):
        heads.append(event)
        if len(heads) == 2:
            raise RuntimeError("an observer's own fault")

app.emitter.add_observer(fragile)
"""


@pytest.fixture(autouse=True)
def _same_folder(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folder of control sockets for the test's client."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", environment["XDG_RUNTIME_DIR"])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("of", ["asyncio", "trio"])
def test_certificates_levels_and_the_drain(serve: Callable[..., Running], folder: Path, of: str) -> None:
    certificate, key = write(folder)
    running = serve("app:app", "--backend", of, "--ssl-certfile", certificate, "--ssl-keyfile", key)
    port = port_of(running)
    client = find(str(running.process.pid))
    first = shown(port)
    write(folder, days=77)
    client.reload_certificates()
    second = shown(port)
    assert second != first
    Path(key).write_text("half written")
    with pytest.raises(Refused, match=r"stay in use: .*holds no private key") as refused:
        client.reload_certificates()
    assert refused.value.status == 400
    assert shown(port) == second

    client.set_level("warning", "coserver.access")
    running.wait_for("coserver.access logs from level warning on")
    said = len(running.lines)
    shown(port)
    client.set_level("info", "coserver.access")
    running.wait_for("coserver.access logs from level info on")
    assert not [line for line in running.lines[said:] if '"GET /' in line]
    assert client.ask("GET", "/v1/log")["coserver.access"] == "info"

    slow = subprocess.Popen(["curl", "-sk", f"https://127.0.0.1:{port}/slow"], stdout=subprocess.PIPE, text=True)
    until((folder / "begun").exists)
    client.drain(TIMEOUT)
    until(lambda: client.ask_about()["state"] == "draining")
    assert [one.target for one in client.snapshot().exchanges] == ["/slow"]
    with pytest.raises(OSError):  # noqa: PT011 - refused, or reset in the backlog
        shown(port)
    (folder / "go on").touch()
    assert slow.communicate(timeout=TIMEOUT)[0] == "finished"
    assert running.ended() == 0


def test_an_observer_that_raises_and_a_reader_that_stops(
    serve: Callable[..., Running], folder: Path, environment: dict[str, str]
) -> None:
    """The observer is logged and removed; the reader loses events; the server is not disturbed."""
    (folder / "app.py").write_text(APP + FRAGILE)
    running = serve("app:app", "--no-access-log")
    port = running.port
    follower = subprocess.Popen(
        [*COMMAND, "trace", "--json"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout is not None
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)) as connection:

            def ask() -> None:
                connection.request("GET", "/")
                assert connection.getresponse().read() == b"ok"

            ask()
            ask()
            running.wait_for("RuntimeError: an observer's own fault")
            until(lambda: find().ask("GET", "/v1/traces")["recording"])
            ask()
            assert json.loads(follower.stdout.readline())["target"] == "/"
            assert sum("RuntimeError: an observer" in line for line in running.lines) == 1
            follower.send_signal(signal.SIGSTOP)
            weight = psutil.Process(running.process.pid)
            before = weight.memory_info().rss
            for _ in range(3000):
                ask()
            assert weight.memory_info().rss - before < 50 << 20  # traces are kept, 1,000 of them
            assert find().snapshot().counters["served"] >= 3003
    finally:
        follower.kill()
        follower.communicate()
    until(lambda: not find().ask("GET", "/v1/traces")["recording"])
    assert Asking(port, "/").done() == (200, "ok")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_two_of_one_name_and_one_that_was_killed(
    serve: Callable[..., Running], coserver: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
) -> None:  # fmt: skip
    first = serve("app:app")
    assert first.port
    second = serve("app:app")
    assert second.port
    pids = {first.process.pid, second.process.pid}
    ended = coserver("top", "--once")
    assert ended.returncode == 3
    assert "several servers run: give the name of one" in ended.stderr
    assert all(f"shop (pid {pid})" in ended.stderr for pid in pids)
    assert {json.loads(coserver("top", str(pid), "--json").stdout)["pid"] for pid in pids} == pids
    assert find("shop").about["pid"] == second.process.pid  # the newest
    first.process.kill()
    first.ended()
    runtime = Path(environment["XDG_RUNTIME_DIR"]) / "coserver"
    assert len(list(runtime.iterdir())) == 2  # the dead one's socket is left behind
    assert find().about["pid"] == second.process.pid
    assert [path.name for path in runtime.iterdir()] == [f"shop-{second.process.pid}.sock"]
    third = serve("app:app", "--control", str(runtime / f"shop-{second.process.pid}.sock"))
    third.wait_for("another server controls by")
    assert third.ended() != 0
    assert Client(str(runtime / f"shop-{second.process.pid}.sock")).about["pid"] == second.process.pid
    assert os.path.exists(runtime / f"shop-{second.process.pid}.sock")
    second.signal(signal.SIGTERM)
    assert second.ended() == 0
    assert not list(runtime.iterdir())


def test_by_a_port_with_its_token(
    serve: Callable[..., Running], coserver: Callable[..., subprocess.CompletedProcess[str]],
    environment: dict[str, str],
) -> None:  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment["COSERVER_CONTROL_TOKEN"] = "a token of sixteen bytes or more"
    running = serve("app:app", "--no-control", "--control-port", str(port))
    assert running.port
    url = f"http://127.0.0.1:{port}"
    assert json.loads(coserver("top", url, "--json").stdout)["pid"] == running.process.pid
    del environment["COSERVER_CONTROL_TOKEN"]
    ended = coserver("trace", "--server", url, "--once")
    assert ended.returncode == 2
    assert "token" in ended.stderr
