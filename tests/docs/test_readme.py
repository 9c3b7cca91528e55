"""The README's examples: each is run as it stands, and does what the text beside it says."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coserver import App, Server
from coserver.testing import leak_check, order_check

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = dict(re.findall(r"^### (.+?)\n+```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


def run(title: str) -> dict[str, Any]:
    """The example's names after it has run."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[title], f"README.md: {title}", "exec"), names)
    return names


def ask(server: Server, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    client = http.client.HTTPConnection(server.host, server.port, timeout=10)
    client.request(method, path, body)
    response = client.getresponse()
    try:
        return response.status, response.read().decode()
    finally:
        client.close()


def check_http(server: Server) -> None:
    assert ask(server, "GET", "/items/2") == (200, '{"id":2,"name":"kettle"}')
    assert ask(server, "GET", "/items/9") == (404, "404 Not Found\nno item 9\n")
    assert ask(server, "GET", "/items/x")[0] == 404
    assert ask(server, "POST", "/items", json.dumps({"name": "chair"}).encode()) == (201, '{"id":3}')
    assert ask(server, "GET", "/items/3") == (200, '{"id":3,"name":"chair"}')


def check_streaming(server: Server) -> None:
    assert ask(server, "GET", "/count/3") == (200, "0\n1\n2\n")
    assert ask(server, "POST", "/digest", b"x" * 100_000) == (200, hashlib.sha256(b"x" * 100_000).hexdigest())


@pytest.mark.parametrize(("title", "check"), [("HTTP", check_http), ("Streaming", check_streaming)])
def test_served(title: str, check: Callable[[Server], None], backend: str) -> None:
    app: App = run(title)["app"]
    with leak_check(), order_check(app), app.start(backend=backend) as server:
        check(server)


def test_tcp() -> None:
    app: App = run("TCP")["app"]
    assert app.tcp_routes[0].port == 9000
    app.tcp(framing="lines")(app.tcp_routes[0].handler)  # on a free port: 9000 may be taken here
    with leak_check(), order_check(app), app.start() as server:
        address = (server.host, server.port)
        with socket.create_connection(address, 10) as client, client.makefile("rb") as lines:
            client.sendall(b"hello\nworld\n")
            assert lines.readline() == b"you said: hello\n"


def test_notebook_or_script(capsys: pytest.CaptureFixture[str]) -> None:
    with leak_check():
        names = run("From a notebook or a script")
    assert capsys.readouterr().out == "served while the cell below runs\n"
    assert not names["server"].running


def test_embedded_in_trio(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trio")
    with leak_check():
        run("In a running event loop, here trio's")
    assert capsys.readouterr().out == "Hello, trio!\n"


def test_every_example_is_tested() -> None:
    assert len(EXAMPLES) == README.count("```python") == 5


def test_the_links_lead_somewhere() -> None:
    for file in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"^```.*?^```", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            lesson = ROOT / "notebooks" / Path(link).with_suffix(".ipynb").name  # its page is made by the build
            found = (file.parent / link).exists() or (file.parent.name == "tutorials" and lesson.exists())
            assert link.startswith("https://") or found, f"{file.name} points to {link}"
