"""``coserver open`` and ``coserver replay``: HAR files of the server itself and of others, and files that are none."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import COMMAND, Running

Coserver = Callable[..., subprocess.CompletedProcess[str]]


def entry(method: str, path: str, status: int, text: str, **request: Any) -> dict[str, Any]:
    return {
        "startedDateTime": "2026-12-01T10:00:00Z", "time": 12.5,
        "request": {
            "method": method, "url": f"http://shop.example{path}", "httpVersion": "HTTP/1.1", "cookies": [],
            "headers": [{"name": "Host", "value": "shop.example"}], "queryString": [], "headersSize": -1, "bodySize": 0,
            **request,
        },
        "response": {
            "status": status, "statusText": "", "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
            "content": {"size": len(text), "mimeType": "text/plain", "text": text}, "redirectURL": "",
            "headersSize": -1, "bodySize": len(text),
        },
        "cache": {}, "timings": {"send": 0.5, "wait": 11, "receive": 1},
    }  # fmt: skip


@pytest.fixture
def har(folder: Path) -> Path:
    entries = [
        entry("GET", "/", 200, "ok"),
        entry("GET", "/", 200, "other"),
        entry("GET", "/none?a=b", 200, "was there"),
    ]
    path = folder / "a.har"
    path.write_text(
        json.dumps({"log": {"version": "1.2", "creator": {"name": "a", "version": "1"}, "entries": entries}})
    )
    return path


@pytest.mark.usefixtures("har")
def test_open(coserver: Coserver) -> None:
    done = coserver("open", "a.har")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[-2:] for line in done.stdout.splitlines()] == [
        ["GET", "/"],
        ["GET", "/"],
        ["GET", "/none?a=b"],
    ]
    done = coserver("open", "a.har", "~u /none", "--json")
    assert [json.loads(line)["target"] for line in done.stdout.splitlines()] == ["/none?a=b"]
    assert "curl" in coserver("open", "a.har", "--curl").stdout
    assert "█" in coserver("open", "a.har", "--waterfall").stdout
    done = coserver("open", "a.har", "~m PUT")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no request of a.har matches" in done.stderr


def test_open_from_a_pipe(har: Path, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "open", "-"],
        cwd=folder,
        env=environment,
        input=har.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.usefixtures("har")
def test_where_only_ascii_is_written(coserver: Coserver, environment: dict[str, str]) -> None:
    """A waterfall's bars are drawn in ASCII, and no ? stands for one."""
    environment["PYTHONIOENCODING"] = "ascii"
    done = coserver("open", "a.har", "--waterfall")
    assert done.returncode == 0
    assert "#" in done.stdout
    assert "?" not in done.stdout.replace("/none?a=b", "")
    assert done.stdout.isascii()


def test_replay(coserver: Coserver, serve: Callable[..., Running], har: Path) -> None:
    url = f"http://127.0.0.1:{serve('app').port}"
    done = coserver("replay", "a.har", url)
    assert done.returncode == 1
    first, second, third, _, said = done.stdout.splitlines()
    assert first.startswith("same     GET /  200  12.5 ms -> ")
    assert not first.endswith("another body")
    assert second.endswith("another body")
    assert third.startswith("differs  GET /none?a=b  200 -> 404")
    assert said == f"3 requests sent to {url}: 1 not answered as before"
    done = coserver("replay", "a.har", url, "~u :80/$ | !~u none")
    assert done.returncode == 0
    assert "all answered with the status of before" in done.stdout
    done = coserver("replay", "a.har", url, "--json")
    assert [json.loads(line)["same"] for line in done.stdout.splitlines()] == [True, True, False]


def test_replay_to_nobody(coserver: Coserver, har: Path) -> None:
    done = coserver("replay", "a.har", "http://127.0.0.1:1", "--timeout", "5")
    assert done.returncode == 1
    assert done.stdout.count("failed   GET") == 3
    assert "refused" in done.stdout


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("open nix.har", 1, "nix.har cannot be read: No such file"),
        ("open app.py", 1, "app.py: a HAR is JSON"),
        ("open list.har", 1, "list.har: a HAR must be an object; got list"),
        ("open . ", 1, "cannot be read: Is a directory"),
        ("open a.har (", 2, "("),
        ("replay a.har 127.0.0.1:8000", 2, "the server is a URL"),
        ("replay a.har http://h/path", 2, "a URL without a path"),
        ("replay a.har http://h:port", 2, "the server is a URL"),
        ("replay a.har https://shop.example", 2, "no certificate is checked"),
        ("replay nix.har http://127.0.0.1:1", 1, "nix.har cannot be read"),
    ],
)
def test_what_cannot_be(coserver: Coserver, har: Path, folder: Path, line: str, code: int, message: str) -> None:
    (folder / "list.har").write_text("[]")
    done = coserver(*line.split())
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recorded_file_prints_no_lines(coserver: Coserver, serve: Callable[..., Running], folder: Path) -> None:
    """``trace --har`` writes the file: a thousand lines besides help nobody. A format that is asked for is printed."""
    running = serve("app", "--record")
    subprocess.run(["curl", "-s", f"http://127.0.0.1:{running.port}/"], capture_output=True, check=True)
    place = ("--server", str(running.process.pid))
    done = coserver("trace", "--once", "--har", "b.har", *place)
    assert (done.stdout, done.stderr) == ("", "1 exchange written to b.har\n")
    assert "curl" in coserver("trace", "--once", "--har", "b.har", "--curl", *place).stdout
    assert len(coserver("open", "b.har").stdout.splitlines()) == 1
    assert coserver("replay", "b.har", f"http://127.0.0.1:{running.port}").returncode == 0
