"""The demo: its shop answers what its hints say, its traffic ends with the server, Ctrl+C stops it cleanly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from coserver.testing import leak_check, order_check
from demo import shop
from demo.traffic import CUSTOMERS, ERRANDS, Traffic

from .test_readme import ask

ROOT = Path(__file__).parents[2]


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
    monkeypatch.setattr("demo.traffic.PAUSE", 0.001)
    with leak_check(), shop.app.start() as server:
        traffic = Traffic(server.url)
        traffic.start()
        while traffic.answered < CUSTOMERS:
            threading.Event().wait(0.01)
        traffic.stop()
        traffic.join()
    assert {method for method, _, _ in ERRANDS} == {"GET", "POST"}


def test_the_whole_demo() -> None:
    """Its ports may be taken here: then it says so, and takes others."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "demo"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    with process.stdout as lines:
        for line in lines:
            said += line
            if "Press Ctrl+C" in line:
                url = re.search(r"curl (http://\S+)/items/1", said)
                assert url is not None
                out = subprocess.run(
                    [sys.executable, "-c", f"import urllib.request as r; print(r.urlopen('{url[1]}/items/1').read())"],
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout
                assert "lamp" in out
                process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert re.search(r"nc 127\.0\.0\.1 \d+", said)
    assert re.search(r"stopped; the customers got \d+ answers\n$", said)
