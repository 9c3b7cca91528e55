"""Breaches: each counted, the log told of few of them and of how many it was not told."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import Any

import pytest

from coserver import App, Limits, Request, testing
from coserver.server.breaches import BURST, PAIRS_MAX, WINDOW, Breaches
from coserver.transport.deadlines import Sweeper
from coserver.transport.peer import group_of

from .clients import connect, get, post, talking, until


@pytest.fixture
def breaches() -> Breaches:
    return Breaches(Sweeper())


def later(breaches: Breaches, windows: float = 1.0) -> None:
    breaches.expire(monotonic() + WINDOW * windows + 0.1)


def test_a_few_are_told_and_the_rest_counted(breaches: Breaches, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(417):
        breaches.note("head_size", f"192.0.2.7:{number + 1000}", "refused %d", number)
    assert breaches.counts == {"head_size": 417}
    assert caplog.messages == [f"refused {number}" for number in range(BURST)]
    caplog.clear()
    later(breaches)
    assert caplog.messages == [f"head_size: {417 - BURST} more like this from 192.0.2.7 within 10 s"]
    assert caplog.records[0].levelname == "WARNING"


def test_who_goes_on_is_told_of_once_a_window(breaches: Breaches, caplog: pytest.LogCaptureFixture) -> None:
    for window in range(1, 4):
        for _ in range(100):
            breaches.note("protocol", "192.0.2.7:1", "refused")
        later(breaches, window)
    assert len(caplog.messages) == BURST + 3
    assert caplog.messages[-1].startswith("protocol: 100 more")
    later(breaches, 4)  # quiet for a window: forgotten, and told of anew
    assert not breaches._windows
    breaches.note("protocol", "192.0.2.7:1", "again")
    assert caplog.messages[-1] == "again"


def test_each_reason_and_each_peer_has_its_own_lines(breaches: Breaches, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(BURST + 1):
        for peer in ("192.0.2.7:1", "192.0.2.8:1"):
            for reason in ("protocol", "head_size"):
                breaches.note(reason, peer, "%s %s", reason, peer)
    assert len(caplog.messages) == 4 * BURST
    later(breaches)
    assert len(caplog.messages) == 4 * BURST + 4


def test_an_attack_from_everywhere_is_bounded(breaches: Breaches, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(10_000):
        breaches.note("protocol", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1", "refused")
    assert breaches.counts["protocol"] == 10_000
    assert len(breaches._windows) == PAIRS_MAX + 1
    assert len(caplog.messages) == PAIRS_MAX + BURST
    breaches.close()
    left_out = 10_000 - PAIRS_MAX - BURST
    assert caplog.messages[-1] == f"protocol: {left_out} more like this from other peers within 10 s"


def test_nothing_is_lost_at_the_end(breaches: Breaches, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(BURST + 2):
        breaches.note("protocol", "unix", "refused")
    breaches.close()
    assert caplog.messages[-1] == "protocol: 2 more like this from unix within 10 s"
    assert not breaches._windows
    assert not breaches._sweeper.subjects


def test_it_is_swept_only_while_there_is_something(breaches: Breaches) -> None:
    sweeper = breaches._sweeper
    assert not sweeper.subjects
    breaches.note("protocol", "192.0.2.7:1", "refused")
    assert sweeper.subjects == {breaches}
    sweeper.sweep(monotonic())
    assert sweeper.subjects == {breaches}
    sweeper.sweep(monotonic() + WINDOW + 0.1)
    assert not sweeper.subjects


def test_what_nobody_reads_is_counted_only(breaches: Breaches) -> None:
    breaches.note("idle", "192.0.2.7:1", "%s", object(), level=logging.NOTSET + 1)
    assert breaches.counts == {"idle": 1}
    assert not breaches._windows


@pytest.mark.parametrize(
    ("peer", "who"),
    [
        ("192.0.2.7:8000", "192.0.2.7"),
        ("[2001:db8:1:2:3::7]:8000", "2001:db8:1:2::/64"),
        ("[fe80::1%eth0]:8000", "fe80::/64"),
        ("[odd]:8000", "[odd]"),
        ("unix", "unix"),
        ("memory", "memory"),
    ],
)
def test_group_of(peer: str, who: str) -> None:
    assert group_of(peer) == who


# On a server.


@pytest.fixture
def app() -> App:
    app = App()

    @app.post("/")
    def take(request: Request) -> str:
        return str(len(request.body))

    @app.post("/form")
    def form(request: Request) -> str:
        return str(len(request.form()))

    @app.get("/query")
    def query(request: Request) -> str:
        return str(len(request.query))

    return app


FORM = b"a=1&b=2&c=3&d=4"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")
LIMITS = Limits(
    head_size=500, head_fields=5, target_size=100, trailer_size=50, extension_size=100, body_size=1000, form_fields=3
)
REFUSED = {
    "head_size": (get("/", "X: " + "a" * 500), 431),
    "head_fields": (get("/", *(f"X-{n}: y" for n in range(5))), 431),
    "target_size": (get("/" + "a" * 200), 414),
    "trailer_size": (CHUNKED + b"0\r\nX: " + b"a" * 50 + b"\r\n\r\n", 431),
    "extension_size": (CHUNKED + b"1;" + b"a" * 200 + b"\r\nx\r\n0\r\n\r\n", 400),
    "body_size": (post("/", b"x" * 1001), 413),
    "form_fields": (post("/form", FORM, URLENCODED), 413),
    "form_text": (post("/form", FORM, URLENCODED), 413),
    "protocol": (b"garbage\r\n\r\n", 400),
}


@pytest.mark.parametrize("reason", REFUSED)
async def test_each_refusal_is_counted_and_told(
    app: App, codec: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw, status = REFUSED[reason]
    limits = Limits(form_text=10) if reason == "form_text" else LIMITS
    async with talking(app, codec=codec, limits=limits) as (server, client):
        await client.send(raw)
        assert (await client.answer()).status == status
        assert server.breaches == {reason: 1}
    assert len([each for each in caplog.records if each.levelname == "WARNING"]) == 1


async def test_a_query_of_too_many_names(app: App) -> None:
    async with talking(app, limits=LIMITS) as (server, client):
        assert (await client.ask(get("/query?a&b&c&d"))).status == 400
        assert server.breaches == {"form_fields": 1}


async def test_a_body_that_grows_too_long(app: App, codec: str) -> None:
    async with talking(app, codec=codec, limits=LIMITS) as (server, client):
        await client.send(CHUNKED + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n0\r\n\r\n")
        assert (await client.answer()).status == 413
        assert server.breaches == {"body_size": 1}


async def test_a_framing_that_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.tcp(framing="length", name="tcp")
    async def echo(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with testing.serving(app, limits=Limits(frame_size=100)) as server:
        for raw in (b"\0\0\1\0", b"\xff\xff\xff\xff", b"\0\0\0\5half"):
            async with connect(server.port) as client:
                await client.send(raw)
                await client.stream.send_eof()
                await client.gone()
        await until(lambda: sum(server.breaches.values()) == 3)
        assert server.breaches == {"frame_size": 1, "protocol": 2}
    assert len(caplog.messages) >= 3


async def test_an_attack_on_a_server(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(app) as server:
        for _ in range(30):
            async with connect(server.port) as client:
                await client.send(b"garbage\r\n\r\n")
                await client.answer()
        assert server.breaches == {"protocol": 30}
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len(told) == BURST + 1
    assert told[-1] == f"protocol: {30 - BURST} more like this from 127.0.0.1 within 10 s"


def test_read_from_another_thread(app: App, backend: str) -> None:
    with app.start(backend=backend) as server:
        assert threading.get_ident() != server.thread
        assert server.breaches == {}
