"""A client for the tests: the standard library's, each request on a connection of its own."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path

from coserver import Server

#: Seconds that no test needs, unless something hangs.
TIMEOUT = 60.0


def get(server: Server, path: str = "/", method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
    """Status and body of one request."""
    return get_from(server.port, path, method, body, host=server.host)


def get_from(
    port: int, path: str = "/", method: str = "GET", body: bytes | None = None, host: str = "127.0.0.1"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request(method, path, body, {"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def say(port: int, line: bytes, host: str = "127.0.0.1") -> bytes:
    """One line to a TCP server, and the line that comes back."""
    with socket.create_connection((host, port), TIMEOUT) as client, client.makefile("rwb") as file:
        file.write(line + b"\n")
        file.flush()
        return file.readline().rstrip(b"\n")


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    return False


def run_script(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a script of its own, warnings being errors."""
    script = folder / "script.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        check=False,
    )
