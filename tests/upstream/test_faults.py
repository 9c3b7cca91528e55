"""Members that misbehave, and everything that may be cut short: whose fault it was is told, and nothing is left."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver import (
    App,
    Upstream,
    UpstreamBusy,
    UpstreamConnectError,
    UpstreamLimits,
    UpstreamProtocolError,
    UpstreamTimeout,
    gather,
    testing,
)
from coserver.protocol.errors import LocalProtocolError
from coserver.upstream.pool.pool import Pool

from ..server.clients import until
from .peers import OK, Peer, answering, faulty

SILENT = UpstreamLimits(first_byte_timeout=0.05, between_timeout=0.05)


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.stream.receive()


def pool_of(users: Upstream) -> Pool:
    client = users.client_of(threading.get_ident())
    assert client is not None
    (pool,) = client.pools
    return pool


def nobodys_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_a_member_that_refuses() -> None:
    url = f"http://127.0.0.1:{nobodys_port()}"
    async with Upstream(url, name="gone") as users:
        with pytest.raises(UpstreamConnectError) as raised:
            await users.get("/")
        error = raised.value
        assert (error.upstream, error.member, error.attempts, error.status) == ("gone", url, 2, 502)
        assert str(error) == f"upstream gone, member {url}: cannot connect: Connection refused (2 attempts)"
        assert isinstance(error.__cause__, OSError)


async def test_a_member_whose_name_is_unknown() -> None:
    async with Upstream("http://nobody.invalid") as users:
        with pytest.raises(UpstreamConnectError, match="cannot connect"):
            await users.get("/")


async def test_a_member_that_is_not_reached() -> None:
    # A full backlog answers no SYN.
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        limits = UpstreamLimits(connect_timeout=0.05)
        async with Upstream(f"http://127.0.0.1:{sock.getsockname()[1]}", limits=limits) as users:
            with pytest.raises(UpstreamTimeout, match=r"no connection in 0\.05 s") as raised:
                await users.get("/")
            assert (raised.value.phase, raised.value.status) == ("connect", 504)
        for filler in fillers:
            filler.close()


async def test_a_member_that_says_nothing() -> None:
    async with faulty(silent) as server, Upstream(server.url, limits=SILENT) as users:
        with pytest.raises(UpstreamTimeout, match="no first byte") as raised:
            await users.get("/")
        assert raised.value.phase == "first byte"
        assert list(raised.value.timeline) == ["wait", "connect", "send"]
        await until(lambda: not server.open)


async def test_a_member_that_trickles() -> None:
    """Each piece comes in time, the whole does not."""

    async def trickles(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await peer.send(b"x")
            await anyio.sleep(0.01)

    async with faulty(trickles) as server, Upstream(server.url) as users:
        with pytest.raises(UpstreamTimeout, match=r"no whole answer in 0\.1 s") as raised:
            await users.get("/", timeout=0.1)
        assert raised.value.phase == "total"


async def test_a_member_that_falls_silent() -> None:
    async def stops(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        await peer.stream.receive()

    async with faulty(stops) as server, Upstream(server.url, limits=SILENT) as users:
        with pytest.raises(UpstreamTimeout, match="nothing more of the answer") as raised:
            await users.get("/")
        assert raised.value.phase == "body"


async def test_a_member_that_does_not_read() -> None:
    limits = UpstreamLimits(send_timeout=0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the system accepts, and nobody reads
        async with Upstream(f"http://127.0.0.1:{deaf.getsockname()[1]}", limits=limits) as users:
            with pytest.raises(UpstreamTimeout, match="the member read nothing of the request") as raised:
                await users.post("/", content=b"x" * 20_000_000)
            assert raised.value.phase == "send"


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "without a response"),
        (b"HTTP/1.1 200", "in the middle of a response's head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "after 2 of 5 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "after 2 bytes"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "must start with 'HTTP/1.1 status reason'"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "must start with 'HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "one Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", "both"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", "'chunked'"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "hexadecimal"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "CRLF"),
        (b"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 0\r\n\r\n", "control characters"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switches protocols"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20, "more than 16 interim"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "longer than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n", "at most 200 fields"),
    ],
)
async def test_a_member_that_talks_nonsense(codec: str, raw: bytes, match: str) -> None:
    async def nonsense(peer: Peer) -> None:
        await peer.request()
        await peer.send(raw)

    async with faulty(nonsense) as server, Upstream(server.url, codec=codec) as users:
        with anyio.fail_after(5), pytest.raises(UpstreamProtocolError, match=match):
            await users.post("/")
        await until(lambda: not server.open)


async def test_an_answer_that_is_too_long() -> None:
    async def long(peer: Peer) -> None:
        request = await peer.request()
        if b"/length" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world")
        elif b"/chunks" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n")
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello world")

    limits = UpstreamLimits(body_size=10)
    async with faulty(long) as server, Upstream(server.url, limits=limits) as users:
        for path in ("/length", "/chunks", "/close"):
            with pytest.raises(UpstreamProtocolError, match=r"longer than 10|at most 10"):
                await users.get(path)
            assert await (await users.get(path, stream=True)).read() == b"hello world"


async def test_a_body_until_the_close(codec: str) -> None:
    async def closes(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nall ")
        await peer.send(b"of it")

    async with faulty(closes) as server, Upstream(server.url, codec=codec) as users:
        for _ in range(2):
            assert (await users.get("/")).body == b"all of it"
        assert server.accepted == 2


async def test_a_kept_connection_that_was_closed_is_replaced_silently() -> None:
    async def once(peer: Peer) -> None:
        await peer.answer()

    async with faulty(once) as server, Upstream(server.url) as users:
        for number in range(1, 4):
            assert (await users.post("/")).body == b"ok"
            await until(lambda: not pool_of(users).idle)  # noticed at once, by the poller
            assert server.accepted == number
            assert not pool_of(users).open


async def test_a_kept_connection_that_is_closed_at_the_worst_moment() -> None:
    """It takes the request and closes instead of answering: an idempotent one goes out once more, another does not."""

    async def worst(peer: Peer) -> None:
        await peer.answer()
        await peer.request()

    async with faulty(worst) as server, Upstream(server.url) as users:
        assert (await users.get("/")).body == b"ok"
        sub = users.get("/")
        assert (await sub).body == b"ok"
        assert (sub.attempts, server.accepted) == (2, 2)
        with pytest.raises(UpstreamProtocolError):
            await users.post("/")
        assert server.accepted == 2


async def test_a_new_connection_that_dies_is_no_stale_one() -> None:
    async def dies(peer: Peer) -> None:
        await peer.request()

    async with faulty(dies) as server, Upstream(server.url, limits=UpstreamLimits(retries=0)) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.get("/")
        assert server.accepted == 1


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async def talkative(peer: Peer) -> None:
        await peer.answer(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await peer.stream.receive()

    async def later(peer: Peer) -> None:
        await peer.answer()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await peer.stream.receive()

    for talk in (talkative, later):
        async with faulty(talk) as server, Upstream(server.url) as users:
            assert (await users.get("/")).body == b"ok"
            await until(lambda: not server.open)
            assert (await users.get("/")).body == b"ok"
            assert server.accepted == 2


async def test_a_place_in_line() -> None:
    order: list[int] = []
    go = anyio.Event()

    async def talk(peer: Peer) -> None:
        while True:
            request = await peer.request()
            order.append(int(request.split(b" ")[1][1:]))
            await go.wait()
            await peer.send(OK)

    limits = UpstreamLimits(max_connections=1, waiting=4)
    async with faulty(talk) as server, Upstream(server.url, limits=limits) as users:
        subs = [users.get(f"/{number}") for number in range(5)]
        with pytest.raises(UpstreamBusy, match="4 requests wait"):
            await users.get("/9")
        subs[3].cancel()
        last = users.get("/5")
        await until(lambda: order)
        go.set()
        assert len(await gather(*subs[:3], subs[4], last)) == 5
        assert server.accepted == 1
        assert order == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.13])
async def test_a_short_timeout_means_its_figure(seconds: float) -> None:
    """Ten milliseconds more at most; the bound is generous, since the machine may have other work."""
    limits = UpstreamLimits(max_connections=1, pool_timeout=seconds)
    async with faulty(silent) as server:
        async with Upstream(server.url, limits=limits) as users:
            for queued in (False, True):  # on a connection, and in line for one
                first = users.get("/") if queued else None
                for options in ({"timeout": seconds}, {}) if queued else ({"timeout": seconds},):
                    begun = monotonic()
                    with pytest.raises((UpstreamTimeout, UpstreamBusy)):
                        await users.get("/", **options)
                    assert seconds <= monotonic() - begun < seconds + 0.04
                if first is not None:
                    first.cancel()
        async with Upstream(server.url, limits=UpstreamLimits(first_byte_timeout=seconds, retries=0)) as users:
            begun = monotonic()
            with pytest.raises(UpstreamTimeout):
                await users.get("/")
            assert seconds <= monotonic() - begun < seconds + 0.05


async def test_nobody_waits_in_line_for_ever() -> None:
    limits = UpstreamLimits(max_connections=1, pool_timeout=0.05)
    async with faulty(silent) as server, Upstream(server.url, limits=limits) as users:
        first = users.get("/")
        with pytest.raises(UpstreamBusy, match=r"in 0\.05 s"):
            await users.get("/")
        with pytest.raises(UpstreamTimeout) as raised:
            await users.get("/", timeout=0.01)
        assert raised.value.phase == "total"
        first.cancel()


async def test_the_connection_used_last_is_used_next() -> None:
    """So that those which are too many grow old, and are closed."""

    async def numbered(peer: Peer) -> None:
        while True:
            await peer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % peer.number)

    async with faulty(numbered) as server, Upstream(server.url) as users:
        await gather(*[users.get("/") for _ in range(3)])
        assert len({(await users.get("/")).body for _ in range(6)}) == 1
        assert server.accepted == 3


async def test_connections_wear_out() -> None:
    async with faulty(answering) as server:
        async with Upstream(server.url, limits=UpstreamLimits(connection_requests=2)) as users:
            for _ in range(4):
                await users.get("/")
            assert server.accepted == 2
        async with Upstream(server.url, limits=UpstreamLimits(connection_age=0)) as users:
            for _ in range(2):
                await users.get("/")
            assert server.accepted == 4
        async with Upstream(server.url, limits=UpstreamLimits(idle_timeout=0.01)) as users:
            await users.get("/")
            await until(lambda: not server.open)


async def test_a_member_says_how_long_it_keeps_a_connection() -> None:
    async def brief(peer: Peer) -> None:
        while True:
            await peer.answer(b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=5\r\nContent-Length: 2\r\n\r\nok")

    async with faulty(brief) as server, Upstream(server.url) as users:
        await users.get("/")
        await until(lambda: not server.open)


@pytest.mark.parametrize(
    ("target", "options", "match"),
    [
        ("u/1", {}, "begins with '/'"),
        ("/a#b", {}, "%23"),
        ("/", {"headers": {"Content-Length": "5"}, "content": b"x"}, "Content-Length says 5"),
        ("/", {"headers": {"Transfer-Encoding": "chunked"}}, "belongs to the connection"),
        ("/", {"headers": {"X": "a\r\nY: b"}}, "control characters"),
        ("/", {"headers": {"X Y": "a"}}, "token"),
        ("/", {"json": 1, "data": {"a": 1}}, "one body"),
        ("/", {"content": 5}, "iterable"),
    ],
)
async def test_what_cannot_be_sent(target: str, options: dict[str, Any], match: str) -> None:
    async with faulty(answering) as server, Upstream(server.url) as users:
        with pytest.raises((LocalProtocolError, TypeError), match=match):
            users.post(target, **options)
        with pytest.raises(LocalProtocolError, match="a method is a token"):
            users.request("G T", "/")
    assert not server.accepted


async def test_what_a_target_cannot_hold_is_escaped() -> None:
    async def tell(peer: Peer) -> None:
        while True:
            line = (await peer.request()).split(b"\r\n")[0]
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(line), line))

    async with faulty(tell) as server, Upstream(server.url) as users:
        assert (await users.get("/ä b\r\nX: y")).text() == "GET /%C3%A4%20b%0D%0AX:%20y HTTP/1.1"
        assert (await users.get("/a?b=1", params=[("c", "é&")])).text() == "GET /a?b=1&c=%C3%A9%26 HTTP/1.1"


@pytest.mark.parametrize(
    ("members", "options", "match"),
    [
        ([], {}, "at least one member"),
        (["ftp://a"], {}, "scheme"),
        (["http://a/path"], {}, "URL without a path"),
        (["http://a:99999"], {}, "port"),
        (["tcp://a"], {"framing": "lines"}, "port"),
        (["http://bücher.example"], {}, "IDNA"),
        (["tcp://a:1"], {}, "need a framing"),
        (["tcp://a:1"], {"framing": "x"}, "framing is one of"),
        (["http://a"], {"framing": "lines"}, "for tcp members"),
        (["http://a", "tcp://a:1"], {}, "speak one protocol"),
        (["http://a"], {"policy": "x"}, "policy is one of"),
    ],
)
def test_what_is_no_upstream(members: list[str], options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Upstream(*members, **options)


def test_what_is_no_limit() -> None:
    with pytest.raises(ValueError, match="max_connections must be at least 1"):
        UpstreamLimits(max_connections=0)
    with pytest.raises(TypeError, match="must be a number of seconds"):
        UpstreamLimits(pool_timeout="1")  # type: ignore[arg-type]


async def storm(users: Upstream, count: int, chance: random.Random) -> None:
    """Requests that are cut at random moments; whatever happens, none of it is anybody's fault but ours."""

    async def one() -> None:
        with anyio.move_on_after(chance.random() * 0.004):
            try:
                if chance.random() < 0.3:
                    await gather(users.get("/"), users.get("/big"), users.post("/", content=b"x" * 1000))
                elif chance.random() < 0.3:
                    answer = await users.get("/big", stream=True)
                    try:
                        await anext(answer.body)
                    finally:
                        answer.close()
                else:
                    await users.get("/")
            except UpstreamBusy:
                pass  # more than may wait, which is what it is for

    done = 0
    while done < count:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(one)
                if chance.random() < 0.2:
                    await anyio.lowlevel.checkpoint()
        done += 50


async def big_and_small(peer: Peer) -> None:
    while True:
        request = await peer.request()
        if b"/big" in request:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
            await peer.send(b"x" * 200_000)
        else:
            await peer.send(OK)


async def test_random_cancellations() -> None:
    """``make storm`` asks for more of them."""
    count = int(os.environ.get("COSERVER_CANCELLATIONS", "400"))
    limits = UpstreamLimits(max_connections=10)
    async with faulty(big_and_small) as server, Upstream(server.url, limits=limits) as users:
        await storm(users, count, random.Random(7))
        assert (await users.get("/")).body == b"ok"
        pool = pool_of(users)
        assert pool.open == len(pool.idle) == len(pool.connections)
        assert not pool.queue
        await until(lambda: server.open == pool.open)


async def test_a_system_that_watches_no_more_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """epoll_ctl(2) may say ENOSPC or ENOMEM: one subrequest fails, and nothing else."""
    app = App()
    app.get("/")(lambda: "ok")
    app.get("/large")(lambda: b"x" * 10_000_000)

    async with testing.serving(app) as server, Upstream(server.url, limits=UpstreamLimits(retries=0)) as users:
        poller = pool_of(users).client.poller

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(poller, "read", fail)
            with pytest.raises(UpstreamConnectError, match="cannot watch it: No space left"):
                await users.get("/")
        assert (await users.get("/")).status == 200
        streamed = await users.get("/large", stream=True)
        await until(lambda: streamed.body.paused)
        with monkeypatch.context() as patch:
            patch.setattr(poller, "resume", fail)
            with pytest.raises(UpstreamProtocolError, match="broke"):
                async for _ in streamed.body:
                    pass
        assert (await users.get("/")).status == 200
