"""Upstreams that were not written here: nginx, the standard library's http.server, uvicorn with FastAPI."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, Upstream, gather

from ..server.clients import connect, get, until
from .peers import serving

NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (.ci/run installs it)")

CONFIGURATION = """
worker_processes 1; daemon off; master_process off; error_log stderr; pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_requests 5; client_max_body_size 1m;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {more}
  server {{
    listen 127.0.0.1:{port};
    root {folder};
    location / {{ default_type text/plain; }}
    location /ok {{ default_type text/plain; return 200 "ok"; }}
    location /gone {{ return 204; }}
    location /moved {{ return 302 /ok; }}
    location /slow {{ limit_rate 200k; }}
    location /back/ {{ {proxy} }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Nginx:
    """One nginx; ended at the end of the block."""

    def __init__(self, folder: Path, *, more: str = "", proxy: str = "return 404;") -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        path = folder / "nginx.conf"
        path.write_text(CONFIGURATION.format(folder=folder, port=self.port, more=more, proxy=proxy))
        assert NGINX is not None
        command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(path)]
        with (folder / "said").open("wb") as said:
            self.process = subprocess.Popen(command, stderr=said)

    def __enter__(self) -> Nginx:
        wait_for(f"{self.url}/ok", self.process)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(5)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until_when = time.monotonic() + 15
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, "it ended instead of answering"
            assert time.monotonic() < until_when, "it did not answer in 15 s"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "page.txt").write_bytes(b"0123456789" * 100_000)
    (folder / "slow.txt").write_bytes(b"x" * 60_000)
    with Nginx(folder) as running:
        yield running


@needs_nginx
async def test_nginx_is_asked(nginx: Nginx, codec: str) -> None:
    page = (nginx.folder / "page.txt").read_bytes()
    async with Upstream(nginx.url, codec=codec) as users:
        for _ in range(12):  # it closes each connection after five requests: all of that is silent
            assert (await users.get("/ok")).body == b"ok"
        assert (await users.get("/gone")).status == 204
        moved = await users.get("/moved")
        assert (moved.status, moved.headers["location"].endswith("/ok")) == (302, True)
        whole = await users.get("/page.txt")
        assert (whole.body, whole.headers["content-length"]) == (page, "1000000")
        again = await users.get("/page.txt", headers={"If-None-Match": whole.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        part = await users.get("/page.txt", headers={"Range": "bytes=10-14"})
        assert (part.status, part.body) == (206, b"01234")
        head = await users.head("/page.txt")
        assert (head.status, head.headers["content-length"], head.body) == (200, "1000000", b"")
        streamed = await users.get("/slow.txt", stream=True)
        assert len(await streamed.read()) == 60_000
        assert (await users.get("/none")).status == 404
        assert (await users.post("/ok", content=b"x" * 2_000_000)).status == 413


@needs_nginx
async def test_nginx_is_asked_by_many_at_once(nginx: Nginx, codec: str) -> None:
    async with Upstream(nginx.url, codec=codec) as users:
        answers = await gather(*(users.get("/ok") for _ in range(300)))
        assert [answer.body for answer in answers] == [b"ok"] * 300
        assert sum([1 async for _ in users.map(["/ok"] * 200, limit=20, as_completed=True)]) == 200


@needs_nginx
async def test_a_handler_behind_nginx_asks_nginx(nginx: Nginx, tmp_path: Path) -> None:
    app = App()
    users = app.upstream("users", nginx.url)

    @app.get("/back/page")
    async def page(request: Request) -> Any:
        answers = await gather(*(users.get("/ok") for _ in range(10)))
        return "".join(answer.text() for answer in answers) + request.client

    async with serving(app, trusted_peers=["127.0.0.1"]) as server:
        more = f"upstream back {{ server 127.0.0.1:{server.port}; keepalive 4; }}"
        proxy = (
            "proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection ''; "
            "proxy_set_header X-Forwarded-For $http_x_client;"
        )

        def balancer() -> list[bytes]:
            with Nginx(tmp_path, more=more, proxy=proxy) as front:
                found = []
                for _ in range(8):
                    asked = urllib.request.Request(f"{front.url}/back/page", headers={"X-Client": "192.0.2.7"})
                    with urllib.request.urlopen(asked, timeout=5) as answer:
                        found.append(answer.read())
                return found

        with anyio.fail_after(20):
            assert await anyio.to_thread.run_sync(balancer) == [b"ok" * 10 + b"192.0.2.7"] * 8


@needs_nginx
async def test_nginx_through_forward(nginx: Nginx) -> None:
    app = App()
    backs = app.upstream("backs", nginx.url)

    @app.route("/{path:path}", methods=["GET", "POST", "HEAD"], stream=True)
    async def proxy(request: Request, path: str) -> Any:
        return backs.forward(request)

    async with serving(app) as server, connect(server.port) as client:
        assert (await client.ask(get("/page.txt"))).body == (nginx.folder / "page.txt").read_bytes()
        assert (await client.ask(get("/page.txt", "Range: bytes=0-3"))).body == b"0123"
        assert (await client.ask(get("/page.txt", method="HEAD"))).headers["content-length"] == "1000000"
        assert (await client.ask(get("/gone"))).status == 204


class Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


async def test_the_standard_librarys_server(tmp_path: Path, codec: str) -> None:
    (tmp_path / "page.txt").write_bytes(b"page" * 1000)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(tmp_path))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            async with Upstream(f"http://127.0.0.1:{server.server_address[1]}", codec=codec) as users:
                assert (await users.get("/page.txt")).body == b"page" * 1000
                assert (await users.post("/", content=b"echo")).body == b"echo"
                assert (await users.get("/none")).status == 404
                assert len(await gather(*(users.get("/page.txt") for _ in range(10)))) == 10
        finally:
            await anyio.to_thread.run_sync(server.shutdown)
            thread.join()


FASTAPI = """
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
app = FastAPI()
@app.get("/item/{id}")
async def item(id: int): return {"id": id}
@app.post("/echo")
async def echo(request: Request): return {"body": (await request.body()).decode()}
@app.get("/stream")
async def stream():
    async def pieces():
        for number in range(100): yield f"{number},"
    return StreamingResponse(pieces())
"""


@pytest.fixture(scope="module")
def uvicorn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed (the group 'test' has it)")
    pytest.importorskip("fastapi", reason="fastapi is not installed (the group 'test' has it)")
    folder = tmp_path_factory.mktemp("uvicorn")
    (folder / "asked.py").write_text(FASTAPI)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "asked:app", "--port", str(port), "--log-level", "warning",
               "--timeout-keep-alive", "1"]  # fmt: skip
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, stderr=said, stdout=said)
    try:
        wait_for(f"http://127.0.0.1:{port}/item/1", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


async def test_uvicorn_and_fastapi(uvicorn: str, codec: str) -> None:
    async with Upstream(uvicorn, codec=codec) as users:
        assert [answer.json()["id"] async for answer in users.map([f"/item/{n}" for n in range(30)])] == list(range(30))
        assert (await users.post("/echo", content=iter([b"piece ", b"by piece"]))).json() == {"body": "piece by piece"}
        assert (await users.get("/stream")).text() == "".join(f"{number}," for number in range(100))
        client = users.client_of(threading.get_ident())
        assert client is not None
        await until(lambda: not client.pools[0].open)  # it closes what is idle for a second: noticed at once
        assert (await users.post("/echo", content=b"x")).status == 200
