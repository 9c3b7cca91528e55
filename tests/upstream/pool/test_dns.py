"""Names are looked up again and again: each address is a member, those that come are asked, those that leave drain."""

from __future__ import annotations

import socket
import ssl
import threading
import urllib.request
from collections import Counter
from typing import Any

import anyio
import pytest
import trustme

from coserver import App, Upstream, UpstreamConnectError, UpstreamLimits, UpstreamTimeout, gather
from coserver.upstream.pool.client import Client
from coserver.upstream.pool.dns import addresses_of

from ...server.clients import until
from ..peers import OK, Faulty, Peer, answering, faulty, serving
from ..test_faults import nobodys_port

OFTEN = UpstreamLimits(resolve_interval=0.02, eject_failures=0)
NAME = "http://users.test"
Address = tuple[str, int]


class Names:
    """What the resolver says: ``known`` by name. ``asked`` counts; while ``hangs`` is set it says nothing."""

    def __init__(self) -> None:
        self.known: dict[str, list[Address]] = {}
        self.asked: Counter[str] = Counter()
        self.hangs: anyio.Event | None = None

    def says(self, *servers: Faulty | Address, name: str = "users.test") -> None:
        self.known[name] = [one if isinstance(one, tuple) else ("127.0.0.1", one.port) for one in servers]

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked[host] += 1
        if self.hangs is not None:
            await self.hangs.wait()
        await anyio.lowlevel.checkpoint()
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        kind = socket.SOCK_STREAM
        return [(family[":" in each[0]], kind, 6, "", each) for each in self.known[host]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    made = Names()
    monkeypatch.setattr(anyio, "getaddrinfo", made.getaddrinfo)
    return made


def client_of(users: Upstream) -> Client:
    client = users.client_of(threading.get_ident())
    assert client is not None
    return client


class Slow:
    """Answers when it may; ``asked`` counts, ``hosts`` are what it was called."""

    def __init__(self) -> None:
        self.asked = 0
        self.may = anyio.Event()
        self.hosts: set[bytes] = set()

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            self.asked += 1
            self.hosts |= {line for line in request.split(b"\r\n") if line.lower().startswith(b"host:")}
            await self.may.wait()
            await peer.send(OK)


async def test_each_address_is_a_member_from_the_first_request_on(names: Names) -> None:
    one, other = Slow(), Slow()
    one.may.set()
    other.may.set()
    async with faulty(one) as first, faulty(other) as second:
        names.says(first, second)
        async with Upstream(NAME + " weight=3") as users:
            subs = [users.get("/") for _ in range(8)]  # before anybody knows where it is
            await gather(*subs)
            assert (one.asked, other.asked) == (4, 4)
            assert one.hosts == other.hosts == {b"host: users.test"}
            assert [pool.member.weight for pool in client_of(users).pools] == [3, 3]
            assert subs[0].member == "http://users.test (127.0.0.1)"
            assert {sub.attempts for sub in subs} == {1}
            assert names.asked == {"users.test": 1}


async def test_who_comes_is_asked_and_who_leaves_drains(names: Names) -> None:
    old, new, app = Slow(), Slow(), App()
    new.may.set()
    async with faulty(old) as first, faulty(new) as second:
        names.says(first)
        users = app.upstream("users", NAME, limits=OFTEN)
        async with serving(app) as server:
            sub = users.get("/")
            await until(lambda: old.asked == 1)
            idle = users.get("/")
            await until(lambda: old.asked == 2)
            names.says(second)
            await until(lambda: len(client_of(users).all_pools) == 2)
            states = {(member.state, member.in_flight) for member in server.snapshot().upstreams[0].members}
            assert states == {("draining", 2), ("up", 0)}
            await gather(*(users.get("/") for _ in range(5)))
            assert (old.asked, new.asked) == (2, 5)
            old.may.set()
            assert (await sub).ok
            assert (await idle).ok
            await until(lambda: first.open == 0)
            (member,) = server.snapshot().upstreams[0].members
            assert (member.state, member.failures) == ("up", 0)


async def test_idle_connections_of_who_leaves_are_closed_at_once(names: Names) -> None:
    async with faulty(answering) as first, faulty(answering) as second, Upstream(NAME, limits=OFTEN) as users:
        names.says(first)
        await gather(users.get("/"), users.get("/"))
        names.says(second)
        await until(lambda: first.open == 0)
        assert len(client_of(users).all_pools) == 1
        assert (await users.get("/")).ok


async def test_who_comes_back_before_its_end_is_the_same_member(names: Names) -> None:
    slow = Slow()
    async with faulty(slow) as first, faulty(answering) as second, Upstream(NAME, limits=OFTEN) as users:
        names.says(first)
        sub = users.get("/")
        await until(lambda: slow.asked == 1)
        (pool,) = client_of(users).pools
        names.says(second)
        await until(lambda: pool.health.state == "draining")
        names.says(first)
        await until(lambda: client_of(users).pools == (pool,))
        assert client_of(users).all_pools == (pool,)
        slow.may.set()
        await sub
        await users.get("/")
        assert first.accepted == 1  # kept, as ever


async def test_a_look_up_that_fails_changes_nothing(names: Names, caplog: pytest.LogCaptureFixture) -> None:
    async with faulty(answering) as server, Upstream(NAME, limits=OFTEN) as users:
        names.says(server)
        await users.get("/")
        names.known.clear()
        seen = names.asked["users.test"]
        await until(lambda: names.asked["users.test"] > seen + 3)
        names.known["users.test"] = []
        await until(lambda: names.asked["users.test"] > seen + 6)
        assert (await users.get("/")).ok
        assert server.accepted == 1
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1  # not at each
        assert "users.test is not found: Name or service not known" in caplog.text


async def test_a_name_that_nobody_knows_yet(names: Names) -> None:
    async with faulty(answering) as server, Upstream(NAME) as users:
        for _ in range(2):
            with pytest.raises(UpstreamConnectError, match=r"Name or service not known"):
                await users.get("/")
        names.says(server)
        assert (await users.get("/")).ok  # asked for at once, though it would not have been for 30 s


async def test_a_resolver_that_hangs(names: Names) -> None:
    names.hangs = anyio.Event()
    limits = UpstreamLimits(connect_timeout=0.3, retries=0)
    async with faulty(answering) as server, Upstream(NAME, server.url, limits=limits) as users:
        subs = [users.get("/") for _ in range(2)]
        answers = await gather(*subs, return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["UpstreamResponse", "UpstreamTimeout"]
        (late,) = (answer for answer in answers if isinstance(answer, UpstreamTimeout))
        assert late.phase == "connect"
        assert names.asked["users.test"] == 1
        names.says(server)
        left = users.get("/")
        names.hangs.set()
        assert (await left).ok


async def test_closed_before_it_is_known(names: Names) -> None:
    names.hangs = anyio.Event()
    async with Upstream(NAME) as users:
        sub = users.get("/")
        await until(lambda: names.asked["users.test"] == 1)
    assert sub.cancelled


async def test_it_is_looked_up_when_an_address_does_not_answer(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coserver.upstream.pool.dns.FRESH", 0)
    names.says(("127.0.0.1", nobodys_port()))
    async with faulty(answering) as server, Upstream(NAME, limits=UpstreamLimits(retries=0)) as users:
        await until(lambda: bool(client_of(users).pools[0].addresses))
        names.says(server)
        with pytest.raises(UpstreamConnectError):
            await users.get("/")
        await until(lambda: client_of(users).pools[0].addresses[0][1] == ("127.0.0.1", server.port))
        assert (await users.get("/")).ok
        assert names.asked["users.test"] == 2


async def test_only_once(names: Names) -> None:
    limits = UpstreamLimits(resolve_interval=0)
    async with faulty(answering) as server, Upstream(NAME, limits=limits) as users:
        names.says(server)
        await users.get("/")
        client_of(users).pools[0].name.doubt()  # type: ignore[union-attr]
        await users.get("/")
        assert names.asked["users.test"] == 1


async def test_whoever_waits_in_line_goes_to_who_comes(names: Names) -> None:
    slow = Slow()
    limits = UpstreamLimits(resolve_interval=0.02, max_connections=1)
    async with faulty(slow) as first, faulty(answering) as second, Upstream(NAME, limits=limits) as users:
        names.says(first)
        sub = users.get("/")
        await until(lambda: slow.asked == 1)
        waiting = [users.get("/") for _ in range(3)]
        names.says(first, second)
        assert all(answer.ok for answer in await gather(*waiting))
        assert not sub.done
        assert slow.asked == 1
        slow.may.set()
        await sub


async def test_what_was_not_sent_goes_elsewhere_and_tls_knows_the_name(names: Names) -> None:
    """The first address takes the connection and says nothing; it leaves before TLS has begun."""
    authority = trustme.CA()
    theirs, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("users.test").configure_cert(theirs)
    authority.configure_trust(ours)
    shown: list[str] = []
    theirs.sni_callback = lambda _sock, name, _context: shown.append(name)

    async def silent(peer: Peer) -> None:
        await peer.stream.receive()
        await peer.stream.receive()

    checks: dict[str, Any] = {"check_path": "/", "check_interval": 60, "check_failures": 1}
    limits = UpstreamLimits(resolve_interval=0.02, max_connections=2, **checks)
    async with faulty(silent) as first, faulty(answering, theirs) as second:
        names.says(first)
        async with Upstream("https://users.test", tls=ours, limits=limits) as users:
            subs = [users.get("/") for _ in range(4)]
            await until(lambda: first.open == 2)
            names.says(second)
            assert all(answer.ok for answer in await gather(*subs))
            assert [sub.attempts for sub in subs] == [1, 1, 1, 1]
            assert set(shown) == {"users.test"}
            await until(lambda: first.open == 0)
            assert [pool.health.state for pool in client_of(users).pools] == ["up"]  # a check of who left says nothing


async def test_of_two_families_the_first_counts(names: Names) -> None:
    member = Upstream(NAME).members[0]
    v4, v6, inet, inet6 = [("127.0.0.1", 80), ("127.0.0.2", 80)], ("::1", 80), socket.AF_INET, socket.AF_INET6
    names.says(*v4, v6)
    assert await addresses_of(member) == [((inet, v4[0]),), ((inet, v4[1]),)]
    names.says(v6, *v4, v6)  # one address: the others are its own, for when it does not answer
    assert await addresses_of(member) == [((inet6, v6), (inet, v4[0]), (inet, v4[1]))]


async def test_localhost_where_only_one_family_listens(names: Names) -> None:
    async with faulty(answering) as server, Upstream("http://localhost") as users:
        names.says(("::1", server.port), server, name="localhost")
        sub = users.get("/")
        assert (await sub).ok
        assert sub.member == "http://localhost (::1, 127.0.0.1)"


async def test_what_is_no_name(caplog: pytest.LogCaptureFixture) -> None:
    """The real resolver's own complaint."""
    async with Upstream(f"http://{'a' * 64}.test") as users:
        with pytest.raises(UpstreamConnectError, match="cannot connect"):
            await users.get("/")
    assert "Traceback" not in caplog.text


def test_the_loop_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """The system's resolver takes its time: others are served meanwhile."""
    entered, leave = threading.Event(), threading.Event()
    real = socket.getaddrinfo

    def slow(host: Any, *rest: Any, **given: Any) -> Any:
        numeric = given.get("flags", rest[-1]) & socket.AI_NUMERICHOST  # trio tries that first, without a thread
        if host in ("users.test", b"users.test") and not numeric:
            entered.set()
            leave.wait(10)
            return real("127.0.0.1", *rest, **given)
        return real(host, *rest, **given)

    if backend == "uvloop":
        pytest.skip("libuv asks the system by itself, in its own threads")
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    app = App()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    users = app.upstream("users", "http://users.test")
    with app.start(backend=backend) as server:
        sub = users.get("/")
        assert entered.wait(10)
        assert urllib.request.urlopen(server.url).read() == b"hello"
        assert not sub.done
        leave.set()
