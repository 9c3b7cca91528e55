"""https members: the certificate decides, and everything else is as without TLS."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import trustme

from coserver import (
    Upstream,
    UpstreamConnectError,
    UpstreamError,
    UpstreamLimits,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamTls,
    gather,
)
from coserver.transport.stream import RECEIVE_SIZE
from coserver.transport.tls_engine import TlsEngine
from coserver.upstream.connection.tls_wire import TlsWire

from ...server.clients import until
from ..peers import OK, Peer, answering, faulty


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_side(authority: trustme.CA) -> Iterator[ssl.SSLContext]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_it_is_asked_and_kept(server_side: ssl.SSLContext, trusting: ssl.SSLContext, codec: str) -> None:
    async with faulty(answering, server_side) as server, Upstream(server.url, tls=trusting, codec=codec) as users:
        sub = users.get("/")
        assert (await sub).body == b"ok"
        assert list(sub.timeline) == ["wait", "connect", "tls", "send", "first byte", "body"]
        for _ in range(3):
            assert (await users.post("/", content=b"x" * 100)).body == b"ok"
        assert server.accepted == 1
        assert len(await gather(*(users.get("/") for _ in range(5)))) == 5


async def test_large_bodies_both_ways(server_side: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    large = bytes(range(256)) * 20_000

    async def echo(peer: Peer) -> None:
        while True:
            body = (await peer.request()).partition(b"\r\n\r\n")[2]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with faulty(echo, server_side) as server, Upstream(server.url, tls=trusting) as users:
        for _ in range(2):
            answer = await users.post("/", content=large)
            assert hashlib.sha256(answer.body).digest() == hashlib.sha256(large).digest()
        streamed = await users.post("/", content=large, stream=True)
        assert await streamed.read() == large
        assert server.accepted == 1


async def test_a_certificate_that_nobody_trusts(server_side: ssl.SSLContext) -> None:
    async with faulty(answering, server_side) as server, Upstream(server.url) as users:
        with pytest.raises(UpstreamConnectError, match="certificate"):
            await users.get("/")
        await until(lambda: not server.open)


async def test_a_member_without_tls(trusting: ssl.SSLContext) -> None:
    async def plain(peer: Peer) -> None:
        await peer.stream.receive()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with faulty(plain) as server, Upstream(f"https://localhost:{server.port}", tls=trusting) as users:
        with pytest.raises(UpstreamConnectError, match="no TLS"):
            await users.get("/")


async def test_a_handshake_that_never_ends(trusting: ssl.SSLContext) -> None:
    async def silent(peer: Peer) -> None:
        await peer.stream.receive()
        await anyio.sleep(60)

    limits = UpstreamLimits(tls_timeout=0.1)
    async with faulty(silent) as server:
        url = f"https://localhost:{server.port}"
        async with Upstream(url, tls=trusting, limits=limits) as users:
            with pytest.raises(UpstreamTimeout, match="TLS handshake") as raised:
                await users.get("/")
        assert raised.value.phase == "tls"


async def test_a_cut_is_no_end(server_side: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """Without a close-notify what the close would end is not known to be whole."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\npart of it")

    async with faulty(cut, server_side) as server, Upstream(server.url, tls=trusting) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.get("/")

    async def kept(peer: Peer) -> None:
        await peer.answer(OK)

    async with faulty(kept, server_side) as server, Upstream(server.url, tls=trusting) as users:
        for number in (1, 2):
            assert (await users.get("/")).body == b"ok"
            await until(lambda: not server.open)
            assert server.accepted == number


def test_a_context_is_for_https() -> None:
    with pytest.raises(ValueError, match="for https members"):
        Upstream("http://a", tls=ssl.create_default_context())
    with pytest.raises(TypeError, match=r"ssl\.SSLContext"):
        Upstream("https://a", tls=True)  # type: ignore[arg-type]


class Files:
    """An authority of one's own, and a certificate with a key, in a folder."""

    def __init__(self, authority: trustme.CA, folder: Path) -> None:
        self.authority, self.own, self.key = (str(folder / name) for name in ("ca.pem", "own.pem", "own.key"))
        authority.cert_pem.write_to_path(self.authority)
        issued = authority.issue_cert("me.test")
        issued.cert_chain_pems[0].write_to_path(self.own)
        issued.private_key_pem.write_to_path(self.key)


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Files:
    return Files(authority, tmp_path)


async def test_files_say_who_is_trusted_and_who_one_is(
    server_side: ssl.SSLContext, files: Files, authority: trustme.CA
) -> None:
    server_side.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_side)
    own = UpstreamTls(ca_certs=files.authority, certfile=files.own, keyfile=files.key, min_version="1.3")
    async with faulty(answering, server_side) as server:
        async with Upstream(server.url, tls=own) as users:
            assert (await users.get("/")).ok
        async with Upstream(server.url, tls=UpstreamTls(ca_certs=files.authority)) as users:
            with pytest.raises(UpstreamError):
                await users.get("/")


async def test_a_name_that_is_not_in_the_address(server_side: ssl.SSLContext, files: Files) -> None:
    async with faulty(answering, server_side) as server:
        address = f"https://127.0.0.1:{server.port}"
        async with Upstream(address, tls=UpstreamTls(ca_certs=files.authority)) as users:
            with pytest.raises(UpstreamConnectError, match="certificate"):
                await users.get("/")
        for tls in (UpstreamTls(ca_certs=files.authority, server_name="localhost"), UpstreamTls(verify=False)):
            async with Upstream(address, tls=tls) as users:
                assert (await users.get("/")).ok


def test_files_that_cannot_be_used(files: Files, tmp_path: Path) -> None:
    other = Files(trustme.CA(), tmp_path)  # the same names: its key is not that of ``own``
    text = tmp_path / "text.pem"
    text.write_text("hello")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"ca_certs": "gone.pem"}, "no authorities can be read from gone.pem: No such file"),
        ({"ca_certs": str(text)}, "no authorities can be read from"),
        ({"certfile": str(text)}, "holds no private key in PEM"),
        ({"certfile": files.authority, "keyfile": other.key}, "is not that of the certificate"),
        ({"certfile": "gone.pem"}, r"gone\.pem cannot be read"),
        ({"keyfile": other.key}, "give certfile too"),
        ({"verify": False, "ca_certs": files.authority}, "trusts everybody"),
        ({"min_version": "1.1"}, r"min_version is 1\.2 or 1\.3"),
    ]
    for given, match in wrong:
        with pytest.raises(ValueError, match=match):
            Upstream("https://localhost", tls=UpstreamTls(**given))
    with pytest.raises(TypeError, match="verify is True or False"):
        UpstreamTls(verify="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="keyfile_password is a text; got something else"):
        UpstreamTls(keyfile_password=7)  # type: ignore[arg-type]
    assert "secret" not in repr(UpstreamTls(certfile="a", keyfile_password="secret"))
    with pytest.raises(ValueError, match="tls is for https members"):
        Upstream("http://localhost", tls=UpstreamTls())


class Pipe:
    """A socket over two byte strings. ``broken``: whoever sends meets a broken pipe."""

    def __init__(self) -> None:
        self.received = self.sent = b""
        self.broken = False

    def fileno(self) -> int:
        return -1

    def recv(self, size: int) -> bytes:
        if not self.received:
            raise BlockingIOError
        data, self.received = self.received[:size], self.received[size:]
        return data

    def send(self, data: bytes) -> int:
        if self.broken:
            raise BrokenPipeError
        self.sent += data
        return len(data)


class Waits:
    """A loop that lets the server's engine answer."""

    def __init__(self, sock: Pipe, server: TlsEngine) -> None:
        self.sock, self.server = sock, server

    async def wait_readable(self, _: object) -> None:
        self.server.feed(self.sock.sent)
        self.sock.sent = b""
        self.server.handshake()
        self.sock.received += self.server.take()


async def test_a_fault_behind_an_answer_hides_nothing_of_it(
    server_side: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """Nor does the alert that says so, when the member takes no more."""
    server, sock = TlsEngine(server_side, server_side=True), Pipe()
    wire = TlsWire(cast(Any, sock), trusting, "localhost")
    await wire.handshake(cast(Any, Waits(sock, server)))
    server.feed(sock.sent)
    server.handshake()
    server.write(b"answer")
    sock.received += server.take() + b"\x17\x03\x03\x00\x20" + bytes(32)  # a record that nobody has encrypted
    sock.broken = True
    assert wire.recv(RECEIVE_SIZE) == b"answer"
    with pytest.raises(ConnectionAbortedError):
        wire.recv(RECEIVE_SIZE)
