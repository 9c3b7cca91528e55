"""Behind a proxy that speaks the PROXY protocol: whose word counts, and what becomes of those who do not keep to it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, SetupError, testing
from coserver.app.config.settings import ListenerSettings

from ..clients import Parser, connect, get, talking, until

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n"
V2 = SIGNATURE + b"\x21\x11\x00\x14" + bytes([192, 0, 2, 1, 10, 0, 0, 1]) + b"\x12\x67\x00\x50" + bytes(8)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
UNIX = SIGNATURE + b"\x21\x31" + struct.pack("!H", 216) + b"/run/a".ljust(216, b"\0")
ON: dict[str, Any] = {"proxy_protocol": True, "trusted_peers": ["127.0.0.1"]}


def make() -> App:
    app = App()

    @app.get("/")
    async def who(request: Request) -> list[str]:
        return [request.peer, request.client, request.scheme]

    return app


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (V1, '["192.0.2.1:4711","192.0.2.1","http"]'),
        (V2, '["192.0.2.1:4711","192.0.2.1","http"]'),
        (b"PROXY TCP6 2001:db8::1 ::1 9 80\r\n", '["[2001:db8::1]:9","2001:db8::1","http"]'),
        (UNIX, '["unix","unix","http"]'),
    ],
)
async def test_the_client_is_the_one_that_is_named(codec: str, header: bytes, said: str) -> None:
    async with talking(make(), codec=codec, **ON) as (_, client):
        # What the client itself says of others is nobody's word: it is no trusted peer.
        fields = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https")
        assert (await client.ask(header + get("/", *fields), "GET")).text == said
        assert (await client.ask(get())).text == said


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", LOCAL])
async def test_a_proxy_that_speaks_for_itself(header: bytes) -> None:
    async with talking(make(), **ON) as (_, client):
        await client.send(header + get())
        assert (await client.answer()).text.startswith('["127.0.0.1:')


@pytest.mark.parametrize("header", [V1, V2])
async def test_byte_by_byte(header: bytes) -> None:
    async with talking(make(), **ON) as (_, client):
        for byte in header + get():
            await client.send(bytes([byte]))
            await anyio.lowlevel.checkpoint()
        assert (await client.answer()).text.startswith('["192.0.2.1:4711"')


async def test_a_header_cut_by_pauses() -> None:
    async with talking(make(), **ON) as (_, client):
        for piece in (V2[:5], V2[5:14], V2[14:20], V2[20:] + get()[:4], get()[4:]):
            await client.send(piece)
            await anyio.sleep(0.02)
        assert (await client.answer()).text.startswith('["192.0.2.1:4711"')


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (get(), "must begin with a PROXY protocol header; got 'GET / HTTP/1.1"),
        (b"\x16\x03\x01\x02\x00", "must begin with a PROXY protocol header"),
        (b"PROXY TCP4 nonsense\r\n", "must be 'PROXY TCP4"),
        (b"PROXY " + b"x" * 5000, "within 107 bytes"),
        (SIGNATURE + b"\x21\x11\xff\xff" + bytes(5000), "at most 4096 bytes"),
    ],
)
async def test_a_trusted_peer_that_sends_none(first: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    app, events = make(), []
    app.emitter.add_observer(events.append)
    async with talking(app, **ON) as (server, client):
        await client.send(first)
        assert await client.gone() == b""
        await until(lambda: not server.connections)
        assert reason in caplog.text
    assert [type(event).__name__ for event in events] == ["ConnectionOpened", "ConnectionClosed"]


@pytest.mark.parametrize("first", [V1 + get(), get(), b""])
async def test_an_untrusted_peer_is_closed(first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(make(), proxy_protocol=True, trusted_peers=["10.0.0.0/8"]) as (server, client):
        if first:
            await client.send(first)
        assert await client.gone() == b""
        await until(lambda: not server.connections)
    assert "not one of trusted_peers" in caplog.text


async def test_where_none_is_expected_a_header_is_no_request() -> None:
    async with talking(make(), trusted_peers=["127.0.0.1"]) as (_, client):
        assert (await client.ask(V1 + get(), "GET")).status == 400
    async with talking(make(), trusted_peers=["127.0.0.1"]) as (_, client):
        assert (await client.ask(V2 + get(), "GET")).status == 400


@pytest.mark.parametrize("first", [b"", V1[:20], V2[:20]])
async def test_half_a_header_and_silence(first: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(make(), limits=Limits(head_timeout=0.2), **ON) as (server, client):
        if first:
            await client.send(first)
        assert await client.gone() == b""
        await until(lambda: not server.connections)
    assert "no whole PROXY header came within 0.2 s" in caplog.text


@pytest.mark.parametrize("how", ["half-close", "reset"])
async def test_half_a_header_and_away(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(make(), **ON) as (server, client):
        await client.send(V1[:20])
        await until(lambda: server.connections)
        if how == "reset":
            await client.reset()
        else:
            await client.stream.send_eof()
        await until(lambda: not server.connections)
    assert caplog.text == ""


async def test_a_header_does_not_eat_the_heads_time() -> None:
    """The request's head has its own timeout, from the header on; the request itself may come later still."""
    async with talking(make(), limits=Limits(head_timeout=0.6), **ON) as (_, client):
        await anyio.sleep(0.35)
        await client.send(V1)
        await anyio.sleep(0.35)
        assert (await client.ask(get())).status == 200


async def test_a_stop_while_a_header_is_awaited() -> None:
    async with testing.serving(make(), **ON) as server, connect(server.port) as half, connect(server.port) as late:
        await half.send(V1[:20])
        await until(lambda: server.connections == 2)
        server.stop()
        await late.send(V1 + get())  # it has just come: what it came for is on the way
        assert (await late.answer()).status == 200
        assert await half.gone() == b""
        await until(lambda: not server.running)


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("header", [V1, V2])
async def test_tcp(kind: str, header: bytes) -> None:
    app = App()

    async def greet(connection: Any) -> None:
        async for message in connection:
            await connection.send(connection.peer.encode() + b" " + message)

    def greet_def(connection: Any) -> None:
        for message in connection:
            connection.send(connection.peer.encode() + b" " + message)

    app.tcp(framing="lines", proxy_protocol=True)(greet if kind == "async" else greet_def)
    async with testing.serving(app, trusted_peers=["127.0.0.1"]) as server, connect(server.port) as client:
        await client.send(header + b"one\r\ntwo\r\n")
        with anyio.fail_after(5):
            read = b""
            while read.count(b"\n") < 2:
                read += await client.stream.receive()
        assert read.split() == [b"192.0.2.1:4711", b"one", b"192.0.2.1:4711", b"two"]


async def test_a_listener_of_its_own() -> None:
    app = make()
    app.listen(name="proxied", port=0, proxy_protocol=True)
    app.listen(name="plain", port=0)
    async with testing.serving(app, trusted_peers=["127.0.0.1"]) as server:
        async with connect(server.port_of("proxied")) as client:
            assert (await client.ask(V1 + get(), "GET")).text.startswith('["192.0.2.1:4711"')
        async with connect(server.port_of("plain")) as client:
            assert (await client.ask(get())).text.startswith('["127.0.0.1:')


async def test_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    options: dict[str, Any] = {"uds": path, "proxy_protocol": True, "trusted_peers": ["unix"]}
    async with testing.serving(make(), **options), await anyio.connect_unix(path) as stream:
        parser = Parser()
        await stream.send(V1 + get())
        parser.feed(await stream.receive())
        answer = parser.next()
        assert answer is not None
        assert answer.text.startswith('["192.0.2.1:4711"')


async def test_many_at_once() -> None:
    async with testing.serving(make(), **ON) as server, anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            async with connect(server.port) as client:
                line = f"PROXY TCP4 192.0.2.{number} 10.0.0.1 {number} 80\r\n".encode()
                await client.send(line[: number % 30])
                await client.send(line[number % 30 :] + get())
                assert f'"192.0.2.{number}:{number}"' in (await client.answer()).text

        for number in range(100):
            tasks.start_soon(one, number)


def test_it_needs_somebody_to_trust() -> None:
    app = make()
    with pytest.raises(SetupError, match="name the proxies in trusted_peers"):
        app.start(proxy_protocol=True)
    with pytest.raises(SetupError, match="name the proxies in trusted_peers"):
        app.start(listeners=[ListenerSettings(port=0, proxy_protocol=True)])
    with pytest.raises(SetupError, match="proxy_protocol must be True or False; got 'v2'"):
        app.start(proxy_protocol="v2")  # type: ignore[arg-type]
    with pytest.raises(SetupError, match="proxy_protocol must be True or False"):
        ListenerSettings(port=0, proxy_protocol=2)  # type: ignore[arg-type]


async def test_a_client_is_no_more_trusted_than_its_address_is(codec: str) -> None:
    """A proxy behind a proxy: the second one's word counts, since its address is trusted too."""
    options: dict[str, Any] = {**ON, "trusted_peers": ["127.0.0.1", "10.0.0.0/8"], "codec": codec}
    async with talking(make(), **options) as (_, client):
        inner = b"PROXY TCP4 10.1.1.1 127.0.0.1 5 6\r\n"
        answer = await client.ask(inner + get("/", "X-Forwarded-For: 192.0.2.9", "X-Forwarded-Proto: https"), "GET")
        assert answer.text == '["10.1.1.1:5","192.0.2.9","https"]'


