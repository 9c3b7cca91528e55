"""curl: what people type first, and the client with the strongest habits (Expect, chunked uploads, HTTP/1.0)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from coserver import Server

from .asking import BIG, DIGEST, LINES

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")


def curl(*arguments: str, input: bytes | None = None) -> bytes:
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *arguments]
    done = subprocess.run(command, capture_output=True, input=input, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_keep_alive(server: Server) -> None:
    one, two = server.url + "/peer", server.url + "/plain/5"
    out = curl("--write-out", "\n%{num_connects}\n", one, two, two).decode().splitlines()
    assert out[2:] == ['{"number":5}', "0", '{"number":5}', "0"]
    assert out[1] == "1"


def test_head(server: Server) -> None:
    head = curl("--head", server.url + "/big").decode().lower()
    assert head.startswith("http/1.1 200 ok\r\n")
    assert f"content-length: {len(BIG)}\r\n" in head


def test_post(server: Server) -> None:
    assert curl("--data", "a=1", server.url + "/echo") == b"a=1"
    assert curl("--json", '{"a": 1}', "--include", server.url + "/echo").partition(b"\r\n\r\n")[2] == b'{"a": 1}'


@pytest.mark.parametrize("path", ["/digest", "/digest-stream"])
def test_a_chunked_upload(server: Server, path: str) -> None:
    out = curl("--request", "POST", "--upload-file", "-", server.url + path, input=BIG)
    assert json.loads(out) == DIGEST


@pytest.mark.parametrize("path", ["/digest", "/digest-stream"])
def test_expect_continue(server: Server, path: str, tmp_path: Path) -> None:
    """curl asks before it sends a body of this size, and says in its log what it was told."""
    body, log = tmp_path / "body", tmp_path / "log"
    body.write_bytes(BIG)
    out = curl(
        "--header", "Expect: 100-continue", "--data-binary", f"@{body}", "--trace-ascii", str(log), server.url + path
    )
    assert json.loads(out) == DIGEST
    assert "HTTP/1.1 100 Continue" in log.read_text()


def test_expect_continue_refused(server: Server, tmp_path: Path) -> None:
    """A 404 needs no body: it is said before any of it is sent."""
    body = tmp_path / "body"
    body.write_bytes(BIG)
    out = curl(
        *("--header", "Expect: 100-continue", "--data-binary", f"@{body}"),
        *("--output", "/dev/null", "--write-out", "%{http_code} %{size_upload}", server.url + "/nowhere"),
    )
    assert out == b"404 0"


def test_http_1_0(server: Server) -> None:
    assert curl("--http1.0", server.url + "/") == b"hello"
    out = curl("--http1.0", "--include", server.url + "/stream").decode()
    head, _, body = out.partition("\r\n\r\n")
    assert "chunked" not in head.lower()
    assert body == LINES


def test_a_streamed_response(server: Server) -> None:
    assert curl("--no-buffer", server.url + "/stream") == LINES.encode()
    assert curl(server.url + "/big") == BIG


def test_several_at_once(server: Server) -> None:
    out = curl("--parallel", *(f"{server.url}/plain/{number}" for number in range(20)))
    assert sorted(out.split(b"}")[:-1]) == sorted(b'{"number":%d' % number for number in range(20))


def test_an_error(server: Server) -> None:
    out = curl("--include", server.url + "/refused")
    assert out.startswith(b"HTTP/1.1 418 ")
    assert b"x-pot: tea\r\n" in out
    assert out.endswith(b"\r\n\r\n418 I'm a Teapot\nno coffee here\n")
