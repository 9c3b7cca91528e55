"""requests, httpx (both ways), aiohttp and h11's client half: keep-alive, uploads, streams, several at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from io import BytesIO

import aiohttp
import anyio
import h11
import httpx
import pytest
import requests

from coserver import Server

from .asking import BIG, DIGEST, LINES, TIMEOUT


def pieces() -> Iterator[bytes]:
    for start in range(0, len(BIG), 100_000):
        yield BIG[start : start + 100_000]


async def pieces_async() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece


def test_requests(server: Server) -> None:
    with requests.Session() as session:

        def ask(method: str, path: str, data: object = None) -> requests.Response:
            return session.request(method, server.url + path, data=data, timeout=TIMEOUT)  # type: ignore[arg-type]

        peer = ask("GET", "/peer").text
        assert ask("GET", "/").text == "hello"
        assert ask("GET", "/stream").text == LINES
        assert ask("HEAD", "/big").headers["content-length"] == str(len(BIG))
        assert ask("GET", "/big").content == BIG
        assert ask("POST", "/digest", BIG).json() == DIGEST
        assert ask("POST", "/digest", pieces()).json() == DIGEST  # chunked
        assert ask("POST", "/digest-stream", pieces()).json() == DIGEST
        assert ask("GET", "/refused").status_code == 418
        assert ask("DELETE", "/thing").status_code == 204
        assert ask("GET", "/peer").text == peer
        with session.get(server.url + "/stream", stream=True, timeout=TIMEOUT) as response:
            assert next(response.iter_lines()) == b"line 0"


def test_httpx(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=TIMEOUT) as client:
        peer = client.get("/peer").text
        assert client.get("/plain/3").json() == {"number": 3}
        assert client.head("/stream").status_code == 200
        assert client.get("/stream").text == LINES
        assert client.post("/digest", content=BIG).json() == DIGEST
        assert client.put("/digest-stream", content=pieces()).json() == DIGEST
        assert client.options("/echo").headers["allow"] == "OPTIONS, POST"
        assert client.get("/peer").text == peer


async def test_httpx_async(server: Server) -> None:
    answers: list[int] = []

    async with httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT) as client:

        async def ask(number: int) -> None:
            for _ in range(5):
                answers.append((await client.get(f"/plain/{number}")).json()["number"])

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
        assert sorted(answers) == sorted(list(range(10)) * 5)
        assert (await client.post("/digest-stream", content=pieces_async())).json() == DIGEST
        async with client.stream("GET", "/stream") as response:
            assert "".join([text async for text in response.aiter_text()]) == LINES


def test_aiohttp(server: Server) -> None:
    async def main() -> None:
        timeout = aiohttp.ClientTimeout(TIMEOUT)
        async with aiohttp.ClientSession(server.url, timeout=timeout) as session:

            async def ask(number: int) -> int:
                async with session.get(f"/plain/{number}") as response:
                    return int((await response.json())["number"])

            assert await asyncio.gather(*map(ask, range(30))) == list(range(30))
            async with session.post("/digest", data=BytesIO(BIG)) as response:
                assert await response.json() == DIGEST
            async with session.post("/digest-stream", data=pieces_async()) as response:
                assert await response.json() == DIGEST
            async with session.post("/echo", data=b"expected", expect100=True) as response:
                assert await response.read() == b"expected"
            async with session.get("/stream") as response:
                assert await response.text() == LINES
            async with session.head("/big") as response:
                assert response.headers["content-length"] == str(len(BIG))

    asyncio.run(main())


class TestH11:
    """The strictest of the clients: whatever breaks the protocol raises here."""

    @pytest.fixture
    def sock(self, server: Server) -> Iterator[socket.socket]:
        with socket.create_connection((server.host, server.port), TIMEOUT) as sock:
            yield sock

    @staticmethod
    def events(connection: h11.Connection, sock: socket.socket) -> list[h11.Event]:
        """Everything up to the end of one response."""
        found: list[h11.Event] = []
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(sock.recv(65536))
                continue
            assert isinstance(event, h11.Event)
            found.append(event)
            if isinstance(event, h11.EndOfMessage):
                return found

    def test_keep_alive(self, sock: socket.socket) -> None:
        connection = h11.Connection(h11.CLIENT)
        for method, path, expected in [
            ("GET", "/", b"hello"),
            ("HEAD", "/big", b""),
            ("GET", "/stream", LINES.encode()),
        ]:
            sock.sendall(connection.send(h11.Request(method=method, target=path, headers=[("Host", "x")])) or b"")
            sock.sendall(connection.send(h11.EndOfMessage()) or b"")
            events = self.events(connection, sock)
            assert b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data)) == expected
            connection.start_next_cycle()

    def test_expect_continue(self, sock: socket.socket) -> None:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", "x"), ("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]
        sock.sendall(connection.send(h11.Request(method="POST", target="/echo", headers=headers)) or b"")
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(sock.recv(65536))
        assert isinstance(event, h11.InformationalResponse)
        assert event.status_code == 100
        for out in (h11.Data(data=b"one, "), h11.Data(data=b"two"), h11.EndOfMessage()):
            sock.sendall(connection.send(out) or b"")
        events = self.events(connection, sock)
        assert b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data)) == b"one, two"
        connection.start_next_cycle()
