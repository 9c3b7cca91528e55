"""slowhttptest: Slowloris, slow bodies and slow readers, as the tool of that name does them, in a few seconds each.

It opens its connections and counts those that the server closes; meanwhile it asks on one more, and says whether the
service was there.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from time import monotonic, sleep

import pytest

from coserver import App, Limits, Request, Server
from coserver.testing import leak_check, order_check

pytestmark = pytest.mark.skipif(not shutil.which("slowhttptest"), reason="slowhttptest is not installed")

LIMITS = Limits(
    head_timeout=1, body_timeout=1, write_timeout=1, linger_timeout=0.2, idle_timeout=1, max_connections=200
)
CONNECTIONS = 150
HOW_MANY = ("-c", str(CONNECTIONS), "-r", str(CONNECTIONS), "-p", "2")
#: More than the system's buffers take.
LARGE = b"x" * 20_000_000


@pytest.fixture(params=["asyncio-httptools", "trio-h11"], scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    backend, _, codec = request.param.partition("-")
    pytest.importorskip(backend)
    pytest.importorskip(codec)
    app = App(limits=LIMITS)

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.post("/")
    def take(request: Request) -> str:
        return str(len(request.body))

    @app.get("/large")
    async def large() -> bytes:
        return LARGE

    with leak_check(), order_check(app), app.start(backend=backend, codec=codec) as server:
        yield server


def attack(server: Server, *arguments: str) -> str:
    """Run it, it being served all the while; how it ended."""
    command = ["slowhttptest", *arguments, *HOW_MANY, "-l", "15", "-u", server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    said = check_service(done.stdout)
    (end,) = re.findall(r"Exit status:\s+(.*)", said)
    return str(end)


def check_service(said: str) -> str:
    """Whenever the tool asked on another connection, it was answered."""
    said = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", said)
    assert set(re.findall(r"service available:\s+(\w+)", said)) == {"YES"}, said
    return said


def broken(server: Server, before: dict[str, int], *reasons: str) -> int:
    now = server.breaches
    return sum(now.get(reason, 0) - before.get(reason, 0) for reason in reasons)


def test_slow_headers(server: Server) -> None:
    before = server.breaches
    assert attack(server, "-H", "-i", "1") == "No open connections left"
    assert broken(server, before, "head_timeout") == CONNECTIONS


def test_slow_bodies(server: Server) -> None:
    before = server.breaches
    assert attack(server, "-B", "-i", "1", "-s", "100000", "-x", "10") == "No open connections left"
    assert broken(server, before, "body_rate", "body_timeout") == CONNECTIONS


def test_slow_readers(server: Server) -> None:
    """The tool does not notice that it was cut: it still reads what its own system holds, 32 bytes a second."""
    before = server.breaches
    reading = ("-n", "1", "-w", "512", "-y", "1024", "-z", "32")
    command = ["slowhttptest", "-X", *reading, *HOW_MANY, "-l", "20", "-u", f"{server.url}/large"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        until = monotonic() + 15
        while broken(server, before, "write_rate", "write_timeout") < CONNECTIONS and monotonic() < until:
            sleep(0.02)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=10)
    check_service(said)
    assert broken(server, before, "write_rate", "write_timeout") == CONNECTIONS
