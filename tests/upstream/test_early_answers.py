"""A member that answers in the middle of an upload and closes: its answer counts, not the send that fails after it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, Upstream, UpstreamProtocolError

from ..certificates import authority, issue
from ..server.clients import connect, until
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


class Closable:
    """A source of pieces that counts its closings."""

    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return BODY[:10_000]

    def close(self) -> None:
        self.closed += 1


class AsyncClosable:
    """The same for ``async for``."""

    def __init__(self) -> None:
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return BODY[:10_000]

    async def aclose(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("kind", [Closable, AsyncClosable])
@pytest.mark.parametrize("answer", [REFUSAL, b""], ids=["answered", "broken"])
async def test_the_source_is_closed_once(kind: type[Closable | AsyncClosable], answer: bytes) -> None:
    """Also if the answer came before its first piece."""
    with refusing(answer) as url:
        async with Upstream(url) as member:
            for _ in range(5):
                source: Any = kind()
                try:
                    assert (await member.post("/", content=source)).status == 413
                except UpstreamProtocolError:
                    assert not answer
                await until(lambda source=source: source.closed)
                assert source.closed == 1


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_source_that_fails_to_close_hides_nothing(asynchronous: bool) -> None:
    """Its send is the first to meet the closed connection: nothing else runs on the loop before."""
    listener = socket.create_server(("127.0.0.1", 0))
    gone = threading.Event()

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            received = b""
            while b"first" not in received:
                received += client.recv(1000)
            client.send(REFUSAL)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))
        gone.set()

    def pieces() -> Iterator[bytes]:
        try:
            yield b"first"
            gone.wait(5)
            while True:
                yield BODY[:10_000]
        finally:
            raise ValueError("not to be closed")

    async def async_pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            gone.wait(5)
            while True:
                yield BODY[:10_000]
        finally:
            raise ValueError("not to be closed")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        async with Upstream(f"http://127.0.0.1:{listener.getsockname()[1]}") as member:
            response = await member.post("/", content=async_pieces() if asynchronous else pieces())
            assert (response.status, response.body) == (413, b"large")
    thread.join(5)


@pytest.mark.parametrize("kind", BODIES)
async def test_an_answer_after_the_send_that_failed(kind: str, tmp_path: Path) -> None:
    """A member at a UNIX socket may shut its receiving side alone, and answer then."""
    path = tmp_path / "member"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for _ in range(5):
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.shutdown(socket.SHUT_RD)
                time.sleep(0.02)
                client.sendall(REFUSAL)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        async with Upstream(f"unix:{path}") as member:
            for _ in range(5):
                response = await member.post("/", content=BODIES[kind]())
                assert (response.status, response.body) == (413, b"large")
    thread.join(5)
