"""The log of ``coserver serve``: as JSON, as text, behind proxies, and without a reader."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ...server.http.test_access_log import COMBINED
from ..conftest import COMMAND, TIMEOUT, Running

APP = """
import logging
import anyio
from coserver import App, await_

app = App("shop")
log = logging.getLogger("shop.cart")
asked, begun = [], []

@app.get("/")
async def index(request):
    log.info("asked by %s", request.client, extra={"request_id": request.request_id, "odd": {1, 2}.__class__})
    log.debug("in detail")
    asked.append(1)
    return [request.client, request.scheme, request.request_id]

@app.get("/fail")
def fail():
    raise KeyError("no such thing")

@app.get("/flood/{count:int}")
def flood(count: int):
    for number in range(count):
        log.warning("line %d, and as long as one of an access log is, with all that belongs there", number)
    return "done"

class Slow:
    def __str__(self):
        begun.append(1)
        while len(asked) < 5:
            await_(anyio.sleep(0.01))
        return "slow"

@app.get("/begun")
async def has_begun():
    return len(begun)

@app.get("/slow")
def slow():
    log.warning("%s", Slow())
    return "done"
"""


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "app.py").write_text(APP)
    return folder


def get(port: int, path: str = "/", **fields: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in fields.items()})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def stop(running: Running) -> None:
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_json(serve: Callable[..., Running], backend: str) -> None:
    running = serve("app", "--log-format", "json", "--trusted-peers", "127.0.0.1", "--backend", backend)
    port = running.port
    get(port, X_Request_ID="mine", X_Forwarded_For="192.0.2.1")
    get(port, "/fail", X_Request_ID="other")
    stop(running)
    records = [json.loads(line) for line in running.lines]
    for record in records:
        assert list(record)[:4] == ["time", "level", "logger", "message"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record["time"])
    by_logger = {record["logger"]: record for record in reversed(records)}
    assert {"coserver.access", "coserver.server", "shop.cart"} <= set(by_logger)
    access = by_logger["coserver.access"]
    assert access["message"].startswith("192.0.2.1 - - [")
    assert {name: access[name] for name in ("method", "target", "status", "client", "request_id", "handler")} == {
        "method": "GET",
        "target": "/",
        "status": 200,
        "client": "192.0.2.1",
        "request_id": "mine",
        "handler": "index",
    }
    assert 0 < access["seconds"] < TIMEOUT
    assert by_logger["shop.cart"]["odd"] == "<class 'set'>"
    error = by_logger["coserver.server"]
    assert (error["level"], error["request_id"]) == ("ERROR", "other")
    assert error["exception"].endswith("KeyError: 'no such thing'")
    assert error["hidden_frames"] > 0


def test_text(serve: Callable[..., Running]) -> None:
    running = serve("app", "--log-level", "debug")
    port = running.port
    get(port)
    get(port, "/fail")
    stop(running)
    text = "\n".join(running.lines)
    now = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    for pattern in (
        rf"^{now} INFO shop\.cart: asked by 127\.0\.0\.1$",
        rf"^{now} DEBUG shop\.cart: in detail$",
        r'^127\.0\.0\.1 - - \[[^]]+\] "GET / HTTP/1\.1" 200 \d+$',
        rf"^{now} ERROR coserver\.server: handler fail failed on .*, request id \S+$",
        "^KeyError: 'no such thing'$",
    ):
        assert re.search(pattern, text, re.MULTILINE), (pattern, text)
    assert "\x1b" not in text
    assert "coserver.http" not in text  # level debug alone must not log secrets


def test_a_level_above_the_access_logs(serve: Callable[..., Running]) -> None:
    running = serve("app", "--log-level", "warning")
    port = running.port
    get(port)
    get(port, "/flood/1")
    stop(running)
    assert len(running.lines) == 6, running.lines  # what it says at the start, one line, and that it stops
    assert running.lines[4].endswith(
        "WARNING shop.cart: line 0, and as long as one of an access log is, with all that belongs there"
    )
    assert running.lines[5] == "stopping"


def test_debug_http(serve: Callable[..., Running]) -> None:
    running = serve("app", "--debug", "http", "--no-access-log", "--log-level", "error")
    get(running.port, X_Secret="\x9b31m")
    stop(running)
    said = running.lines[4:]
    assert re.search(r" DEBUG coserver\.http: request 1 on connection 1, from 127\.0\.0\.1:\d+$", said[0])
    assert said[1] == "  > GET / HTTP/1.1"
    assert "  > x-secret: \\x9b31m" in said
    assert "  < HTTP/1.1 200 OK" in said


# Behind proxies.


class Proxy(BaseHTTPRequestHandler):
    """A proxy: adds to X-Forwarded-For, and sets https."""

    protocol_version = "HTTP/1.1"
    upstream = 0

    def do_GET(self) -> None:
        said = self.headers.get("X-Forwarded-For")
        address = self.client_address[0]
        fields = {
            "X-Forwarded-For": f"{said}, {address}" if said else address,
            "X-Forwarded-Proto": self.headers.get("X-Forwarded-Proto", "https"),
            "X-Request-ID": self.headers.get("X-Request-ID", "made-by-the-proxy"),
            "User-Agent": self.headers.get("User-Agent", ""),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=TIMEOUT)
        connection.request("GET", self.path, headers=fields)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[Callable[[int], int]]:
    """Start a proxy before a port; returns the proxy's port."""
    started: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(upstream: int) -> int:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Of", (Proxy,), {"upstream": upstream}))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        started.append((server, thread))
        return int(server.server_port)

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def test_curl_through_two_proxies(serve: Callable[..., Running], proxy: Callable[[int], int]) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    running = serve("app", "--access-format", "combined", "--trusted-peers", "127.0.0.1")
    outer = proxy(proxy(running.port))
    # Both proxies are 127.0.0.1, and so is curl; the address that it claims is the first that is not trusted.
    answer = subprocess.run(
        [
            curl,
            "-s",
            "-A",
            'evil" \\ agent',
            "-H",
            "X-Forwarded-For: 6.6.6.6, 192.0.2.7",
            f"http://127.0.0.1:{outer}/?a=%22",
        ],
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert json.loads(answer.stdout) == ["192.0.2.7", "https", "made-by-the-proxy"]
    line = running.wait_for(r'^\S+ - - \[.*"GET /')[0]
    stop(running)
    (line,) = [line for line in running.lines if '"GET /' in line]
    match = COMBINED.fullmatch(line)
    assert match
    assert (match["host"], match["line"], match["status"]) == ("192.0.2.7", "GET /?a=%22 HTTP/1.1", "200")
    assert match["agent"] == 'evil\\" \\\\ agent'
    assert int(match["size"]) == len(answer.stdout)


# Readers, and none.


def test_nothing_is_lost_while_somebody_reads(serve: Callable[..., Running]) -> None:
    running = serve("app", "--no-access-log")
    port = running.port
    for _ in range(2):
        assert get(port, "/flood/100000") == "done"
    stop(running)
    numbers = [int(match[1]) for line in running.lines if (match := re.search(r"shop\.cart: line (\d+),", line))]
    assert numbers == [*range(100_000)] * 2
    assert "dropped" not in running.lines[-1]


def test_a_reader_that_stands_still_stops_nobody(folder: Path, environment: dict[str, str], backend: str) -> None:
    command = [*COMMAND, "serve", "app", "--port", "0", "--backend", backend]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        port = 0
        while not (line := process.stderr.readline().decode()).startswith("Press"):
            if match := re.search(r"http://\S+:(\d+)", line):
                port = int(match[1])
        # From here on nobody reads: a pipe holds 64 KiB, the log 16 MiB, and this is 24.
        began = time.monotonic()
        for _ in range(2):
            assert get(port, "/flood/100000") == "done"
        for _ in range(100):
            assert get(port)
        assert time.monotonic() - began < TIMEOUT
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0  # what cannot be written does not keep it alive
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_reader_that_comes_back_is_told_what_it_missed(folder: Path, environment: dict[str, str]) -> None:
    command = [*COMMAND, "serve", "app", "--port", "0", "--no-access-log"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while not (line := process.stderr.readline()).startswith("Press"):
            if match := re.search(r"http://\S+:(\d+)", line):
                port = int(match[1])
        for _ in range(3):
            assert get(port, "/flood/100000") == "done"
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reader.start()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
        reader.join(TIMEOUT)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    kept = sum("shop.cart: line" in line for line in lines)
    report = re.compile(r"WARNING coserver\.log: log lines dropped, because stderr was not read fast enough: (\d+)$")
    (told,) = [int(match[1]) for line in lines if (match := report.search(line))]
    assert kept + told - ("stopping\n" not in lines) == 300_000
    assert kept > 50_000
    assert told > 50_000


def test_a_worker_that_is_suspended_in_a_log_call(serve: Callable[..., Running], backend: str) -> None:
    """Neither the loop nor another worker waits for the suspended worker."""
    running = serve("app", "--backend", backend)
    port = running.port
    slow = threading.Thread(target=get, args=(port, "/slow"))
    slow.start()
    until = time.monotonic() + TIMEOUT
    while get(port, "/begun") == "0":
        assert time.monotonic() < until
    for _ in range(5):
        get(port)
    slow.join()
    stop(running)
    order = [line for line in running.lines if "shop.cart" in line]
    assert order[-1].endswith("WARNING shop.cart: slow")
    assert len(order) == 6


@pytest.mark.parametrize(("no_color", "colours"), [("", True), ("1", False)])
def test_on_a_terminal(folder: Path, environment: dict[str, str], no_color: str, colours: bool) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "serve", "app", "--port", "0"], cwd=folder, env={**environment, "NO_COLOR": no_color}, stderr=end
    )
    os.close(end)
    text = ""

    def read_to(pattern: str) -> re.Match[str]:
        nonlocal text
        until = time.monotonic() + TIMEOUT
        while not (match := re.search(pattern, text)):
            assert time.monotonic() < until, text
            try:
                text += os.read(terminal, 10_000).decode().replace("\r\n", "\n")
            except OSError:
                pytest.fail(f"no {pattern!r} in {text!r}")
        return match

    try:
        port = int(read_to(r"http://127\.0\.0\.1:(\d+)")[1])
        read_to("Press Ctrl")
        get(port, "/flood/1")
        level = "\x1b\\[33mWARNING\x1b\\[0m" if colours else "WARNING"
        read_to(rf"\n\d\d:\d\d:\d\d {level} shop\.cart: line 0,")
        read_to(r'\n127\.0\.0\.1 - - \[[^]]+\] "GET /flood/1 HTTP/1\.1" 200 4\n')
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
