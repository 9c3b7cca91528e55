"""nginx in front: keep-alive to the server, forwarded fields, the PROXY protocol, uploads, clients that leave it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, Server, testing

NGINX = shutil.which("nginx") or (Path("/usr/sbin/nginx").exists() and "/usr/sbin/nginx") or ""
STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
TIMEOUT = 10.0

pytestmark = [
    pytest.mark.skipif(not NGINX, reason="nginx is not installed"),
    pytest.mark.skipif(not STREAM.exists(), reason="nginx's stream module is not installed (libnginx-mod-stream)"),
]

CONFIG = """
load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_max_body_size 64m;
    upstream app {{ server 127.0.0.1:{plain}; keepalive 8; }}
    upstream said {{ server 127.0.0.1:{forwarded}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{http};
        location / {{
            proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host shop.example;
            proxy_set_header X-Request-ID $request_id;
        }}
        location /rfc/ {{
            proxy_pass http://said/; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Forwarded "for=$remote_addr;proto=https;host=shop.example";
        }}
    }}
}}
stream {{
    server {{ listen 127.0.0.1:{stream}; proxy_pass 127.0.0.1:{proxied}; proxy_protocol on; }}
}}
"""


class Events:
    """What the server's handlers have seen."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def until(self, word: str) -> None:
        end = time.monotonic() + TIMEOUT
        while word not in self.seen:
            assert time.monotonic() < end, f"no {word!r}: {self.seen}"
            time.sleep(0.005)


def make(events: Events) -> App:
    app = App()

    @app.get("/")
    async def who(request: Request) -> list[Any]:
        return [request.client, request.scheme, request.host, request.request_id]

    @app.get("/peer")
    async def peer(request: Request) -> str:
        return request.peer

    @app.post("/digest")
    def digest(request: Request) -> dict[str, Any]:
        return {"size": len(request.body), "sha256": sha256(request.body).hexdigest()}

    @app.get("/slow")
    async def slow() -> str:
        events.seen.append("begun")
        try:
            await anyio.sleep(60)
        finally:
            events.seen.append("finally")
        return "late"

    return app


class Front:
    """nginx, and the three servers behind it."""

    def __init__(self, ports: dict[str, int], servers: dict[str, Server], events: Events) -> None:
        self.ports = ports
        self.servers = servers
        self.events = events

    def ask(self, path: str, *, through: str = "http", method: str = "GET", **options: Any) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[through], timeout=TIMEOUT)
        try:
            connection.request(method, path, **options)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


@pytest.fixture(scope="module", params=["asyncio-h11", "trio-httptools"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    backend, codec = request.param.split("-")
    events, folder = Events(), tmp_path_factory.mktemp("nginx")
    common: dict[str, Any] = {"backend": backend, "codec": codec, "trusted_peers": ["127.0.0.1"]}
    with (
        testing.leak_check(),
        make(events).start(**common) as plain,
        make(events).start(**common, forwarded_fields="forwarded") as forwarded,
        make(events).start(**common, proxy_protocol=True) as proxied,
    ):
        servers = {"plain": plain, "forwarded": forwarded, "proxied": proxied}
        ports = dict(zip(("http", "stream"), _free_ports(2), strict=True))
        behind = {name: server.port for name, server in servers.items()}
        (folder / "conf").write_text(CONFIG.format(module=STREAM, folder=folder, **ports, **behind))
        with open(folder / "out", "w") as out:
            command = [str(NGINX), "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "conf")]
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            end = time.monotonic() + TIMEOUT
            for port in ports.values():
                while True:
                    try:
                        socket.create_connection(("127.0.0.1", port), timeout=1).close()
                        break
                    except OSError:
                        assert process.poll() is None, (folder / "out").read_text()
                        assert time.monotonic() < end
                        time.sleep(0.01)
            yield Front(ports, servers, events)
        finally:
            process.terminate()
            try:
                process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_forwarded_fields(front: Front) -> None:
    status, text = front.ask("/", headers={"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=6.6.6.6"})
    client, scheme, host, request_id = json.loads(text)
    # nginx appends its own client, which is trusted here; so the one before it counts.
    assert (status, client, scheme, host) == (200, "192.0.2.7", "https", "shop.example")
    assert len(request_id) == 32


def test_forwarded_as_the_rfc_has_it(front: Front) -> None:
    _, text = front.ask("/rfc/", headers={"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "gopher"})
    assert json.loads(text)[:3] == ["127.0.0.1", "https", "shop.example"]


def test_connections_are_used_again(front: Front) -> None:
    peers = {front.ask("/peer")[1] for _ in range(20)}
    assert len(peers) < 5  # nginx keeps some to the server, though each client of its own comes anew


def test_an_idle_close_between_two_requests_is_no_error(front: Front) -> None:
    """nginx may send on a connection just as it is closed: it asks once more, elsewhere."""
    for _ in range(50):
        assert front.ask("/peer")[0] == 200


@pytest.mark.parametrize("path", ["/peer", "/"])
def test_the_proxy_protocol(front: Front, path: str) -> None:
    with socket.create_connection(("127.0.0.1", front.ports["stream"]), timeout=TIMEOUT) as sock:
        mine = sock.getsockname()
        lines = [f"GET {path} HTTP/1.1", "Host: x", "X-Forwarded-For: 192.0.2.9", "Connection: close", "", ""]
        sock.sendall("\r\n".join(lines).encode())
        said = b""
        while piece := sock.recv(65536):
            said += piece
    body = said.partition(b"\r\n\r\n")[2].decode()
    assert body == f"127.0.0.1:{mine[1]}" if path == "/peer" else json.loads(body)[0] == "192.0.2.9"


def test_keep_alive_through_the_proxy_protocol(front: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front.ports["stream"], timeout=TIMEOUT)
    peers = set()
    for _ in range(5):
        connection.request("GET", "/peer")
        peers.add(connection.getresponse().read())
    connection.close()
    assert len(peers) == 1


@pytest.mark.parametrize("through", ["http", "stream"])
@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_an_upload(front: Front, through: str, size: int) -> None:
    body = os.urandom(size)
    _, text = front.ask("/digest", through=through, method="POST", body=body)
    assert json.loads(text) == {"size": size, "sha256": sha256(body).hexdigest()}


@pytest.mark.parametrize("through", ["http", "stream"])
def test_a_client_that_leaves_nginx_is_noticed(front: Front, through: str) -> None:
    front.events.seen.clear()
    with socket.create_connection(("127.0.0.1", front.ports[through]), timeout=TIMEOUT) as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        front.events.until("begun")
    front.events.until("finally")
