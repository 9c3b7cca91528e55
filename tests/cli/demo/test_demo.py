"""The demo: the printed hints work, its traffic ends with the server, Ctrl+C stops it cleanly."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import urllib.request
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver.testing import leak_check, order_check
from coserver_cli.demo import shop
from coserver_cli.demo.traffic import CUSTOMERS, ERRANDS, Traffic

from ...docs.test_readme import ask
from ..conftest import COMMAND, TIMEOUT, Running

ROOT = Path(__file__).parents[3]


def test_the_shop(backend: str) -> None:
    with leak_check(), order_check(shop.app), shop.app.start(backend=backend) as server:
        assert ask(server, "GET", "/")[0] == 200
        assert ask(server, "GET", "/items/1") == (200, '{"id":1,"name":"lamp","price":29}')
        assert ask(server, "GET", "/items/9") == (404, "404 Not Found\nno item 9; there are 1, 2, 3\n")
        status, order = ask(server, "POST", "/orders", b'{"item": 1, "count": 2}')
        assert status == 201
        number = re.findall(r'"order":(\d+)', order)[0]
        assert ask(server, "GET", f"/orders/{number}") == (200, order)
        assert ask(server, "POST", "/orders", b'{"item": 77}')[0] == 422
        assert ask(server, "POST", "/orders", b"[]")[0] == 422
        assert ask(server, "GET", "/orders/4000")[0] == 404


def test_the_traffic_is_answered_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coserver_cli.demo.traffic.PAUSE", 0.001)
    with leak_check(), shop.app.start() as server:
        traffic = Traffic(server.url)
        traffic.start()
        while traffic.answered < CUSTOMERS:
            threading.Event().wait(0.01)
        traffic.stop()
        traffic.join()
    assert {method for method, _, _ in ERRANDS} == {"GET", "POST"}


def watch(process: subprocess.Popen[str], environment: dict[str, str] | None = None) -> tuple[str, int]:
    """Try the demo's hints, then press Ctrl+C. Its output and its exit code."""
    running = Running(process, process.stdout)
    try:
        url = running.wait_for(r"curl (http://\S+)/items/1")[1]
        running.wait_for("Press Ctrl")
        with urllib.request.urlopen(f"{url}/items/1", timeout=TIMEOUT) as response:
            assert b"lamp" in response.read()
        if environment is not None:  # the commands that it suggests find it
            top = [*COMMAND, "top", str(process.pid), "--once"]
            assert "recycle" in subprocess.run(
                top, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
            ).stdout
        running.signal(signal.SIGINT)
        code = running.ended()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return "\n".join(running.lines), code


def start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_whole_demo(tmp_path: Path, environment: dict[str, str]) -> None:
    """Its ports may be taken; then it says so, and uses others."""
    said, code = watch(start([*COMMAND, "demo"], tmp_path, environment), environment)
    assert code == 130
    assert all(f"coserver {command}" in said for command in ("top", "step", "trace"))
    assert re.search(r"nc 127\.0\.0\.1 \d+", said)
    assert re.search(r"stopped; the customers got \d+ answers$", said)
    code_is_in = re.search(r"Its code is in (\S+)\.$", said, re.MULTILINE)
    assert code_is_in is not None
    assert Path(code_is_in[1]).is_file()


def test_a_port_that_is_taken(coserver: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = coserver("demo", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "is taken by another process" in done.stderr
    assert "Traceback" not in done.stderr


def test_from_a_wheel(tmp_path: Path, environment: dict[str, str]) -> None:
    """The installed demo needs no file of the source tree."""
    pytest.importorskip("hatchling")
    build = [sys.executable, "-c", "import hatchling.build as b, sys; print(b.build_wheel(sys.argv[1]))", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    site = next((tmp_path / "env" / "lib").glob("python3*")) / "site-packages"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True, timeout=TIMEOUT)
    (site / "dependencies.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    python = tmp_path / "env" / "bin" / "python"
    environment = {k: v for k, v in environment.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    said, code = watch(start([str(python), "-m", "coserver_cli", "demo", "--port", "0"], tmp_path, environment))
    assert code == 130
    assert f"Its code is in {site}/coserver_cli/demo/shop.py." in said, "the wheel was not what ran"
