"""What an exchange asks of its carrier, from HTTP/1 and in memory alike."""

from __future__ import annotations

import anyio
import pytest

from coserver import App, Request, Response, testing
from coserver.protocol.errors import LocalProtocolError
from coserver.server.http.carrier import Carrier
from coserver.server.http.exchange import HttpExchange

from ..clients import connect, get, until


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/hints")
    async def hints(request: Request) -> str:
        exchange = exchange_of(request)
        await exchange.carrier.send_interim(exchange, 103, [("Link", "</style.css>; rel=preload")])
        return "hinted"

    @app.get("/upgrade")
    async def upgrade(request: Request) -> str:
        exchange = exchange_of(request)
        stream, buffered = exchange.carrier.hand_over(exchange)
        app.state.taken = buffered + await stream.receive()
        return "taken"

    @app.get("/reset")
    async def reset(request: Request) -> str:
        exchange = exchange_of(request)
        exchange.carrier.reset(exchange, "the test resets it")
        await anyio.sleep(60)
        return "never"

    @app.get("/wait")
    async def wait(request: Request) -> str:
        app.state.carrier = exchange_of(request).carrier
        await anyio.sleep(60)
        return "never"

    @app.get("/file")
    def file() -> Response:
        return Response.file(__file__)

    return app


def exchange_of(request: Request) -> HttpExchange:
    return request._under_way("carrier")


async def test_http1_sends_an_interim_response(app: App) -> None:
    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(get("/hints", "Connection: close"))
        raw = await client.gone()
        first, _, rest = raw.partition(b"\r\n\r\n")
        assert first == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload"
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
        assert raw.endswith(b"hinted")


async def test_a_client_of_http_1_0_gets_none(app: App) -> None:
    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(b"GET /hints HTTP/1.0\r\nHost: x\r\n\r\n")
        raw = await client.gone()
        assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
        assert raw.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("status", [101, 99, 200])
async def test_what_is_no_interim_status_is_refused(app: App, status: int) -> None:
    failures: list[BaseException] = []

    @app.get("/wrong")
    async def wrong(request: Request) -> str:
        exchange = exchange_of(request)
        try:
            await exchange.carrier.send_interim(exchange, status)
        except LocalProtocolError as error:
            failures.append(error)
        return "ok"

    async with testing.serving(app) as server, connect(server.port) as client:
        assert (await client.ask(get("/wrong"))).text == "ok"
    assert "from 100 to 199, and not 101" in str(failures[0])


async def test_http1_hands_its_stream_over(app: App) -> None:
    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(get("/upgrade") + b"what came ")
        await until(lambda: server.exchanges)
        await client.send(b"and comes")
        answer = await client.answer()
        assert (answer.text, answer.headers["connection"]) == ("taken", "close")
    assert app.state.taken == b"what came and comes"


async def test_http1_knows_that_its_peer_is_gone(app: App) -> None:
    async with testing.serving(app) as server:
        async with connect(server.port) as client:
            await client.send(get("/wait"))
            await until(lambda: server.exchanges)
            carrier: Carrier = app.state.carrier
            assert not carrier.peer_gone
        await until(lambda: carrier.peer_gone)


async def test_a_reset_is_seen_by_the_client(app: App) -> None:
    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(get("/reset"))
        with pytest.raises(anyio.BrokenResourceError):
            await client.stream.receive()


async def test_in_memory(app: App) -> None:
    async with testing.serving(app) as server, testing.streams(server) as client:
        hints = client.request("GET", "/hints")
        assert (await hints.answer())[2] == b"hinted"
        assert hints.interim == [(103, [("Link", "</style.css>; rel=preload")])]
        with pytest.raises(ConnectionResetError, match="the test resets it"):
            await client.request("GET", "/reset").answer()
        wait = client.request("GET", "/wait")
        await until(lambda: wait.exchange.phase == "handler")
        wait.leave()
        assert app.state.carrier.peer_gone
        status, headers, body = await client.request("GET", "/file").answer()
        assert (status, int(headers["content-length"])) == (200, len(body))
        assert (await client.request("GET", "/upgrade").answer())[0] == 500


