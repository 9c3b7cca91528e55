"""What the pages on deploying give to be copied: nginx takes it, systemd takes it, coserver takes it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from coserver import App, Request
from coserver.testing import leak_check

from .test_tour import free_ports

GUIDE = Path(__file__).parents[2] / "docs/guide"
PAGE = (GUIDE / "deploying.md").read_text()
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
AROUND = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {block}
}}
"""


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_behind_nginx(tmp_path: Path) -> None:
    app = App()

    @app.get("/")
    async def who(request: Request) -> str:
        return f"{request.client} {request.scheme} {request.host} {len(request.request_id)}"

    [port] = free_ports(1)
    with leak_check(), app.start(trusted_peers=["127.0.0.1"]) as server:
        block = blocks("nginx")[0].replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        block = block.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
        (tmp_path / "nginx.conf").write_text(AROUND.format(folder=tmp_path, block=block))
        files = ["-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
        front = subprocess.Popen([str(NGINX), "-p", str(tmp_path), *files])
        try:
            wait_for(port, front)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                assert answer.read().decode() == "127.0.0.1 http 127.0.0.1 32"
        finally:
            front.terminate()
            front.wait(10)


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 10).close()
        except ConnectionRefusedError:
            assert process.poll() is None, "nginx has ended"
        else:
            return


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in blocks("ini"):
        name = unit.splitlines()[0].rpartition("/")[2]
        (tmp_path / name).write_text(unit.replace("/srv/shop/.venv/bin/coserver", sys.executable))
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["shop.service", "shop.socket"]
    done = subprocess.run(["systemd-analyze", "verify", *names], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, check=False)  # fmt: skip
    assert not [line for line in done.stderr.splitlines() if "shop." in line], done.stderr


@pytest.mark.parametrize("page", ["deploying", "public"])
def test_coserver_takes_the_files(page: str, tmp_path: Path) -> None:
    files = [text for text in blocks("toml", (GUIDE / f"{page}.md").read_text()) if text.startswith("# coserver.toml")]
    assert len(files) == 1
    (tmp_path / "coserver.toml").write_text(files[0])
    command = [sys.executable, "-m", "coserver_cli", "config", "check", "--no-import"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
