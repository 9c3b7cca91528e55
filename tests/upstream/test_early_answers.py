"""A member that answers in the middle of an upload and closes: its answer counts, not the send that fails after it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, Upstream, UpstreamProtocolError

from ..certificates import authority, issue
from ..server.clients import connect
from .peers import serving

REFUSAL = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge"
CLOSING = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge"
BODY = bytes(5_000_000)


@contextmanager
def refusing(answer: bytes, *, tls: bool = False, unix: Path | None = None, answered_before: int = 0) -> Iterator[str]:
    """A member in a thread: it reads a little of each upload, answers, and closes with the rest unread.

    It answers so many requests of a connection in order before. Yields its URL.
    """
    listener = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # the systems' buffers must not take all of a body
    listener.bind(str(unix) if unix else ("127.0.0.1", 0))
    listener.listen()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issue("localhost", "127.0.0.1").configure_cert(context)

    def serve_one(plain: socket.socket) -> None:
        with plain, context.wrap_socket(plain, server_side=True) if tls else plain as client:
            for _ in range(answered_before):
                client.recv(65_536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            client.recv(1000)
            client.sendall(answer)

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            if not unix:
                # Or the answer waits here for an acknowledgement, and the close drops it.
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                serve_one(plain)
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = 0 if unix else listener.getsockname()[1]
    try:
        yield f"unix:{unix}" if unix else f"http{'s' if tls else ''}://localhost:{port}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority("ours").configure_trust(context)
    return context


async def in_pieces() -> AsyncIterator[bytes]:
    for _ in range(500):
        yield BODY[:10_000]


def in_pieces_of_a_worker() -> Iterator[bytes]:
    for _ in range(500):
        yield BODY[:10_000]


BODIES: dict[str, Any] = {"bytes": lambda: BODY, "async": in_pieces, "iterator": in_pieces_of_a_worker}


@pytest.mark.parametrize("how", ["tcp", "tls", "unix"])
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("answer", [REFUSAL, CLOSING], ids=["length", "close"])
async def test_the_answer_counts(how: str, kind: str, answer: bytes, codec: str, tmp_path: Path) -> None:
    unix = tmp_path / "member" if how == "unix" else None
    with refusing(answer, tls=how == "tls", unix=unix) as url:
        async with Upstream(url, codec=codec, tls=trusting() if how == "tls" else None) as member:
            for _ in range(5):
                response = await member.post("/", content=BODIES[kind]())
                assert (response.status, response.body) == (413, b"large")


@pytest.mark.parametrize("path", ["/whole", "/streamed"])
async def test_forward_passes_it_on(path: str) -> None:
    app = App()
    with refusing(REFUSAL) as url:
        back = app.upstream("back", url)

        @app.post("/whole")
        async def whole(request: Request) -> Any:
            return back.forward(request)

        @app.post("/streamed", stream=True)
        async def streamed(request: Request) -> Any:
            return back.forward(request)

        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
        async with serving(app) as server:
            for _ in range(5):
                async with connect(server.port) as client, anyio.create_task_group() as tasks:

                    async def upload() -> None:
                        try:
                            await client.send(head.encode() + BODY)
                        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                            pass

                    tasks.start_soon(upload)
                    answer = await client.answer()
                    assert (answer.status, answer.body) == (413, b"large")
                    tasks.cancel_scope.cancel()


async def test_of_a_kept_connection() -> None:
    """The connection has served a request before: the member is not asked again."""
    with refusing(REFUSAL, answered_before=1) as url:
        async with Upstream(url) as member:
            for _ in range(5):
                assert (await member.get("/")).status == 200
                response = await member.post("/", content=BODY)
                assert (response.status, response.body) == (413, b"large")


HALF = [b"", b"HTTP/1.1 413 Too La", b"HTTP/1.1 413 Too Large\r\nContent-Length: 50\r\n\r\nlarge"]


@pytest.mark.parametrize("answer", HALF)
async def test_half_an_answer_is_none(answer: bytes) -> None:
    with refusing(answer) as url:
        async with Upstream(url) as member:
            with pytest.raises(UpstreamProtocolError):
                await member.post("/", content=BODY)


async def test_a_body_that_the_close_ends_is_cut() -> None:
    """After a send that failed nobody knows if the end of the stream is the end of the body."""
    with refusing(b"HTTP/1.1 413 Too Large\r\n\r\nlarge") as url:
        async with Upstream(url) as member:
            with pytest.raises(UpstreamProtocolError):
                await member.post("/", content=BODY)


