"""curl and wget fetching files: whole, in part, resumed, again; the server is a process whose memory is watched.

And ``curl -N`` listening to events.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from .asking import TIMEOUT

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")

MiB = 1 << 20
#: A sparse file of 2 GiB and a little, beyond what 31 bits count; on the disk it takes nothing.
HUGE = (2 << 30) + 12_345
END = b"the very end"

SERVER = """
import itertools, sys
import anyio
from coserver import App, ServerSentEvent, Response

app = App()
app.static("/files", sys.argv[1])

@app.get("/events")
async def events() -> Response:
    async def source():
        for number in itertools.count():
            yield ServerSentEvent({"number": number}, id=str(number))
            await anyio.sleep(0.05)
    return Response.events(source())

app.run(port=0, backend=sys.argv[2], on_start=lambda server: print(server.url, flush=True))
"""


@dataclass
class Running:
    url: str
    process: psutil.Process
    folder: Path

    def rss(self) -> int:
        """Resident memory that is the process's own: pages of a file's cache are the system's."""
        return int(self.process.memory_info().rss)


@pytest.fixture(params=["asyncio", "uvloop", "trio"], scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if request.param != "asyncio" and not find_spec(request.param):
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp("files")
    (folder / "middle.bin").write_bytes(os.urandom(5 * MiB))
    with open(folder / "huge.bin", "wb") as file:
        file.truncate(HUGE - len(END))
        file.seek(0, os.SEEK_END)
        file.write(END)
    command = [sys.executable, "-W", "error", "-c", SERVER, str(folder), request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        yield Running(url, psutil.Process(process.pid), folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) in (0, -signal.SIGTERM)


def curl(*arguments: str, code: int = 0) -> bytes:
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_whole(running: Running, tmp_path: Path) -> None:
    curl("--output", str(tmp_path / "got"), f"{running.url}/files/middle.bin")
    assert digest(tmp_path / "got") == digest(running.folder / "middle.bin")


@pytest.mark.parametrize(("part", "start", "stop"), [("0-9", 0, 10), ("-12", -12, None), ("5242870-", 5242870, None)])
def test_ranges(running: Running, part: str, start: int, stop: int | None) -> None:
    content = (running.folder / "middle.bin").read_bytes()
    assert curl("--range", part, f"{running.url}/files/middle.bin") == content[start:stop]


def test_a_range_that_cannot_be_had(running: Running) -> None:
    out = curl("--range", "9999999-", "--write-out", "%{http_code}", f"{running.url}/files/middle.bin")
    assert out.endswith(b"416")


def test_several_ranges(running: Running) -> None:
    content = (running.folder / "middle.bin").read_bytes()
    out = curl("--range", "0-9,1000-1009", f"{running.url}/files/middle.bin")
    assert content[:10] in out
    assert content[1000:1010] in out


def test_beyond_31_bits(running: Running) -> None:
    url = f"{running.url}/files/huge.bin"
    assert curl("--range", f"-{len(END)}", url) == END
    assert curl("--range", f"{HUGE - 4}-{HUGE}", url) == END[-4:]
    assert f"content-length: {HUGE}\r\n" in curl("--head", url).decode()


def test_resumption(running: Running, tmp_path: Path) -> None:
    """A download that broke off goes on where it was; one that is whole is left alone."""
    got, url = tmp_path / "got", f"{running.url}/files/middle.bin"
    content = (running.folder / "middle.bin").read_bytes()
    got.write_bytes(content[:1_234_567])
    curl("--continue-at", "-", "--output", str(got), url)
    assert got.read_bytes() == content
    out = curl("--continue-at", "-", "--output", str(got), "--write-out", "%{http_code}", url)
    assert out == b"416"
    assert got.read_bytes() == content


def test_a_download_that_is_cut_and_resumed(running: Running, tmp_path: Path) -> None:
    got, url = tmp_path / "got", f"{running.url}/files/huge.bin"
    curl("--max-time", "0.2", "--limit-rate", "50M", "--output", str(got), url, code=28)
    begun = got.stat().st_size
    assert 0 < begun < HUGE
    os.truncate(got, begun)
    with open(got, "r+b") as file:  # the rest would take long: as if nearly all had come
        file.truncate(HUGE - MiB)
    curl("--continue-at", "-", "--output", str(got), url)
    assert got.stat().st_size == HUGE
    with open(got, "rb") as file:
        file.seek(-len(END), os.SEEK_END)
        assert file.read() == END


def test_asked_again(running: Running, tmp_path: Path) -> None:
    """By its tag and by its date."""
    url, tag = f"{running.url}/files/middle.bin", tmp_path / "tag"
    curl("--etag-save", str(tag), "--output", "/dev/null", url)
    arguments = ("--output", "/dev/null", "--write-out", "%{http_code} %{size_download}")
    assert curl("--etag-compare", str(tag), *arguments, url) == b"304 0"
    got = tmp_path / "got"
    curl("--remote-time", "--output", str(got), url)
    assert got.stat().st_mtime == int((running.folder / "middle.bin").stat().st_mtime)
    assert curl("--time-cond", str(got), *arguments, url) == b"304 0"


@pytest.mark.skipif(not shutil.which("wget"), reason="wget is not installed")
def test_wget(running: Running, tmp_path: Path) -> None:
    got, url = tmp_path / "middle.bin", f"{running.url}/files/middle.bin"
    content = (running.folder / "middle.bin").read_bytes()
    got.write_bytes(content[:1_000_000])
    subprocess.run(["wget", "--quiet", "--continue", url], cwd=tmp_path, check=True, timeout=TIMEOUT)
    assert got.read_bytes() == content
    done = subprocess.run(
        ["wget", "--timestamping", url], cwd=tmp_path, check=True, timeout=TIMEOUT, capture_output=True, text=True
    )
    assert "304 Not Modified" in done.stderr


@pytest.mark.parametrize("part", ["whole", "ranges"])
def test_two_gigabytes_and_flat_memory(running: Running, part: str) -> None:
    """Several clients at once; the server grows by no more than a few of its buffers."""
    url = f"{running.url}/files/huge.bin"
    curl("--output", "/dev/null", f"{running.url}/files/middle.bin")  # what it loads at first is loaded
    before = running.rss()
    ranges = (
        [[]] * 2 if part == "whole" else [["--range", f"{start}-{start + (600 << 20)}"] for start in (0, 7, 1 << 30)]
    )
    command = [
        "curl",
        "--silent",
        "--fail",
        "--max-time",
        "100",
        "--output",
        "/dev/null",
        "--write-out",
        "%{size_download}",
    ]
    clients = [subprocess.Popen([*command, *each, url], stdout=subprocess.PIPE) for each in ranges]
    highest = before
    while any(client.poll() is None for client in clients):
        highest = max(highest, running.rss())
        try:
            clients[0].wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        clients = [*clients[1:], clients[0]]
    sizes = {int(client.communicate()[0]) for client in clients}
    assert sizes == ({HUGE} if part == "whole" else {(600 << 20) + 1})
    assert highest - before < 8 * MiB


def test_events(running: Running) -> None:
    """They come while the stream goes on: curl never sees its end."""
    command = ["curl", "--no-buffer", "--silent", f"{running.url}/events"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        lines = [client.stdout.readline() for _ in range(9)]
        client.terminate()
    assert lines == [
        line for number in range(3) for line in (b"id: %d\n" % number, b'data: {"number":%d}\n' % number, b"\n")
    ]
