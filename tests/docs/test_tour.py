"""The tour: its files are written, its commands typed into two terminals, and what it shows must come."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .terminals import Terminal

TOUR = (Path(__file__).parents[2] / "docs/tour.md").read_text()
BLOCK = re.compile(r'^```(\w+) title="([\w. ]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)


def free_ports(count: int) -> list[int]:
    """Kept until all are found, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture
def runtime() -> Iterator[str]:
    """A folder for control sockets: the path of ``tmp_path`` may be too long for them, and then all tests share one."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.mark.skipif(not shutil.which("curl"), reason="the tour asks with curl, which is not installed")
def test_the_tour(tmp_path: Path, runtime: str) -> None:
    text = TOUR
    ports = free_ports(2)
    for port, free in zip(("8000", "8001"), ports, strict=True):
        text = text.replace(port, str(free))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The page serves at the command's default port, which may be taken here.
    environment = {"PATH": path, "XDG_RUNTIME_DIR": runtime, "COSERVER_PORT": str(ports[0])}
    terminals: dict[str, Terminal] = {}
    try:
        for kind, title, content in BLOCK.findall(text):
            if kind == "python":
                (tmp_path / title).write_text(content)
                continue
            if title not in terminals:
                terminals[title] = Terminal(tmp_path, environment)
            terminals[title].run(content)
        terminals["terminal 2"].see("$", whole=False)
        terminals["terminal 1"].see("$", whole=False)
    finally:
        for terminal in terminals.values():
            terminal.close()
