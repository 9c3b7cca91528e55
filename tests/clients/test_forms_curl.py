"""Forms as real clients send them: curl, requests, httpx, aiohttp; and what a large upload costs in memory."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import pytest
import requests

from coserver import App, Request, Server, Upload
from coserver.testing import leak_check, order_check

from .asking import BIG, TIMEOUT

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")

#: Above ``Limits.body_buffer``: such bodies go to disk.
LARGE = BIG
TEXT = 'é €\r\n&=+%22"\\;'


def curl(*arguments: str) -> bytes:
    command = ["curl", "--silent", "--show-error", "--max-time", str(TIMEOUT), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def show(request: Request) -> Any:
    return [[name, describe(value)] for name, value in request.form().pairs()]


def describe(value: str | Upload) -> Any:
    if isinstance(value, str):
        return value
    return {"name": value.filename, "type": value.content_type, "size": value.size, "sha256": digest(value.read())}


def digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def told(name: str, content: bytes, kind: str = "application/octet-stream") -> dict[str, Any]:
    return {"name": name, "type": kind, "size": len(content), "sha256": digest(content)}


@pytest.fixture
def server(backend: str) -> Iterator[Server]:
    app = App()
    app.post("/form")(show)

    @app.post("/async")
    async def on_the_loop(request: Request) -> Any:
        return show(request)

    with leak_check(), order_check(app), app.start(backend=backend) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    made = {
        'quo"te;d,na me.txt': b"in quotes",
        "é €.bin": b"\r\n--\r\n\0\xff",
        "empty.dat": b"",
        "large.png": LARGE,
        "back\\slash": b"one",
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    return made


def test_curl_urlencoded(server: Server) -> None:
    sent = curl("--data-urlencode", f"a={TEXT}", "--data-urlencode", "b=", "--data", "c", server.url + "/form")
    assert json.loads(sent) == [["a", TEXT], ["b", ""], ["c", ""]]


@pytest.mark.parametrize("path", ["/form", "/async"])
@pytest.mark.parametrize("escape", [[], ["--form-escape"]])
def test_curl_files(server: Server, files: dict[str, bytes], tmp_path: Path, path: str, escape: list[str]) -> None:
    """curl says a quote in a name as browsers do, %22, or, when asked, with a backslash, which is undone."""
    fields = ["--form-string", f"text={TEXT}"]
    for name in files:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        fields += ["--form", f'f=@"{tmp_path}/{quoted}";type=x/y']
    got = json.loads(curl(*escape, *fields, server.url + path))
    names = {name: name if escape else name.replace('"', "%22") for name in files}
    assert got == [["text", TEXT], *(["f", told(names[name], files[name], "x/y")] for name in files)]


def test_curl_with_a_name_and_a_type_of_its_own(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"y")
    (tmp_path / "text").write_text("from a file")
    got = curl(
        "--form", f"f=@{tmp_path}/x;filename=../../etc/passwd;type=text/html",
        "--form", f"t=<{tmp_path}/text",
        "--form", "e=",
        server.url + "/form",
    )  # fmt: skip
    assert json.loads(got) == [["f", told("../../etc/passwd", b"y", "text/html")], ["t", "from a file"], ["e", ""]]


def test_curl_chunked_and_waiting_for_a_100(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(LARGE)
    for more in (["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"], ["--http1.0"]):
        got = curl(*more, "--form", f"f=@{tmp_path}/x", server.url + "/form")
        assert json.loads(got) == [["f", told("x", LARGE)]]


def _requests(url: str, fields: Any, files: Any) -> Any:
    return requests.post(url, data=fields, files=files, timeout=TIMEOUT).json()


def _httpx(url: str, fields: Any, files: Any) -> Any:
    return httpx.post(url, data=fields, files=files, timeout=TIMEOUT, trust_env=False).json()


def _aiohttp(url: str, fields: Any, files: Any) -> Any:
    async def ask() -> Any:
        form = aiohttp.FormData(quote_fields=False)  # or it says %C3%A9 for é, which nobody undoes
        for name, value in fields.items():
            form.add_field(name, value)
        for name, (filename, content, kind) in files or ():
            form.add_field(name, BytesIO(content), filename=filename, content_type=kind)
        async with aiohttp.ClientSession() as session, session.post(url, data=form) as answer:
            return await answer.json()

    return asyncio.run(ask())


CLIENTS = [_requests, _httpx, _aiohttp]


@pytest.mark.parametrize("post", CLIENTS)
def test_libraries(server: Server, post: Callable[..., Any]) -> None:
    fields = {"a": TEXT, "b": ""}
    assert post(server.url + "/form", fields, None) == [["a", TEXT], ["b", ""]]
    sent = [
        ("f", ("é €.bin", b"\r\n--\0\xff", "a/b")),
        ("f", ("empty", b"", "c/d")),
        ("g", ("large", LARGE, "e/f")),
    ]
    got = post(server.url + "/async", fields, sent)
    assert got == [["a", TEXT], ["b", ""], *([name, told(*each)] for name, each in sent)]


#: The server is a process of its own: what it prints is its port; it keeps no more than its handler does.
SERVER = """
import sys
from hashlib import sha256
from coserver import App, Limits, Request
app = App()

@app.post("/")
def save(request: Request):
    upload = request.form().upload("f")
    upload.save(sys.argv[1])
    with open(sys.argv[1], "rb") as file:
        digest = sha256()
        while piece := file.read(1 << 16):
            digest.update(piece)
    return {"sha256": digest.hexdigest(), "size": upload.size, "text": request.form().text("t")}

with app.start(backend=sys.argv[2], limits=Limits(body_size=1 << 30)) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def test_the_memory_of_a_large_upload(backend: str, tmp_path: Path) -> None:
    size = 64 << 20
    content = tmp_path / "large"
    with content.open("wb") as file:
        for number in range(64):
            file.write(bytes((number,)) * (size // 64 - 9) + b"\r\n--curl\r")
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script), str(tmp_path / "saved"), backend],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        port = process.stdout.readline().decode().strip()
        try:
            curl("--form", "f=@-;filename=small", "--form", "t=1", f"http://127.0.0.1:{port}/")  # everything is loaded
            before = _peak(process.pid)
            answer = curl("--form", f"f=@{content}", "--form", "t=1", f"http://127.0.0.1:{port}/")
            grown = _peak(process.pid) - before
        finally:
            process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert (tmp_path / "saved").stat().st_size == size
    with content.open("rb") as file:
        sent = sha256(file.read()).hexdigest()
    assert json.loads(answer) == {"sha256": sent, "size": size, "text": "1"}
    assert grown < size / 4, f"{grown >> 20} MiB more memory for an upload of {size >> 20} MiB"


def _peak(pid: int) -> int:
    """The most memory, in bytes, that a process has ever had; where that is not told, what it has now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return int(psutil.Process(pid).memory_info().rss)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
