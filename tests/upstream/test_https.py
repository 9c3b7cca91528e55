"""https members: the certificate decides, and everything else is as without TLS."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator

import anyio
import pytest
import trustme

from coserver import Upstream, UpstreamConnectError, UpstreamLimits, UpstreamProtocolError, UpstreamTimeout, gather

from ..server.clients import until
from .serving import OK, Peer, answering, faulty


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
