"""The same requests in memory and over a real socket: the same answers, whatever is asked."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coserver import App, HTTPException, Limits, Request, Response, Server, testing
from coserver.testing import SyncClient
from coserver.testing.request import clean_target

LIMITS = Limits(body_size=100_000, body_buffer=1_000, head_size=2_000)


@dataclass(frozen=True)
class Ask:
    """A request that both clients make."""

    method: str = "GET"
    target: str = "/"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    chunks: tuple[bytes, ...] | None = None


ASKED = [
    Ask(),
    Ask("HEAD"),
    Ask(target="/items/3"),
    Ask(target="/items/x"),
    Ask(target="/nothing"),
    Ask("DELETE"),
    Ask("OPTIONS"),
    Ask("POST", "/echo", body=b""),
    Ask("POST", "/echo", body=b"hello", headers={"Content-Type": "text/x-y"}),
    Ask("POST", "/echo", body=b"x" * 50_000),
    Ask("POST", "/echo", body=b"x" * 100_001),
    Ask("POST", "/echo", chunks=(b"one", b"two" * 10_000)),
    Ask("POST", "/echo", chunks=(b"x" * 60_000, b"y" * 60_000)),
    Ask("POST", "/stream", chunks=(b"a", b"b" * 99_000)),
    Ask("POST", "/nothing", body=b"x" * 90_000),
    Ask(target="/none"),
    Ask(target="/list"),
    Ask(target="/pieces"),
    Ask("HEAD", "/pieces"),
    Ask(target="/boom"),
    Ask(target="/teapot"),
    Ask(target="/fields"),
    Ask(target="/close"),
    Ask(headers={"Connection": "close"}),
    Ask(headers={"X-Big": "y" * 3_000}),
    Ask("POST", "/echo", body=b"x", headers={"Expect": "200-ok"}),
    Ask("BREW", "/"),
    Ask("GET", "*"),
]


def make_app() -> App:
    app = App(limits=LIMITS)
    app.get("/")(lambda: "ok")
    app.get("/items/{id}")(item)
    app.get("/none")(lambda: None)
    app.get("/list")(lambda: [1, {"a": "ü"}])
    app.get("/pieces")(lambda: iter(["a" * 70_000, "", "b"]))
    app.get("/boom")(lambda: 1 / 0)
    app.get("/fields")(lambda: Response("x", 201, headers=[("x-a", "1"), ("x-a", "2"), ("x-u", "\xfc")]))
    app.get("/close")(lambda: Response("bye", headers={"connection": "close"}))

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    @app.post("/echo")
    def echo(request: Request) -> Response:
        kind = request.headers.get("content-type", "none")
        return Response(request.body, headers={"x-kind": kind, "x-size": str(len(request.body))})

    @app.post("/stream", stream=True)
    def stream(request: Request) -> Any:
        return (piece.upper() for piece in list(request.stream()))

    return app


def item(id: int) -> dict[str, int]:
    return {"id": id}


Answer = tuple[int, list[tuple[str, str]], bytes]


def plain(fields: Any) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in fields if name.lower() != "date")


def by_socket(server: Server, ask: Ask) -> Answer:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    try:
        connection.putrequest(ask.method, ask.target, skip_accept_encoding=True)
        for name, value in ask.headers.items():
            connection.putheader(name, value)
        if ask.chunks is not None:
            connection.putheader("Transfer-Encoding", "chunked")
        elif ask.body is not None:
            connection.putheader("Content-Length", str(len(ask.body)))
        try:
            connection.endheaders(ask.chunks or ask.body, encode_chunked=ask.chunks is not None)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all was sent; the answer is there
        response = connection.getresponse()
        return response.status, plain(response.getheaders()), response.read()
    finally:
        connection.close()


def in_memory(client: SyncClient, ask: Ask) -> Answer:
    body: Any = ask.body if ask.chunks is None else iter(ask.chunks)
    r = client.request(ask.method, ask.target, headers=ask.headers, body=body)
    return r.status, plain(r.headers.pairs()), r.body


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Server, SyncClient]]:
    pytest.importorskip(request.param)
    with (
        testing.sync_client(make_app(), raise_errors=False, backend=request.param) as client,
        make_app().start(backend=request.param) as server,
    ):
        yield server, client


@pytest.mark.parametrize("ask", ASKED, ids=lambda ask: f"{ask.method} {ask.target}")
def test_the_same_answer(pair: tuple[Server, SyncClient], ask: Ask) -> None:
    server, client = pair
    assert in_memory(client, ask) == by_socket(server, ask)


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /pieces HTTP/1.0\r\n\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01 no HTTP at all\r\n\r\n",
    ],
)
def test_the_same_bytes(pair: tuple[Server, SyncClient], raw: bytes) -> None:
    server, client = pair
    with client.tcp("http") as conversation:
        conversation.send(raw)
        got = b"".join(conversation)
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(raw)
        there = b"".join(iter(lambda: sock.recv(65536), b""))
    assert without_date(got) == without_date(there)


def without_date(raw: bytes) -> list[bytes]:
    return [line for line in raw.split(b"\r\n") if not line.startswith(b"date: ")]


TOKENS = st.text("abcXYZ-09", min_size=1, max_size=10)
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.dictionaries(TOKENS.map("x-{}".format), TEXTS, max_size=5),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30),
    body=st.one_of(st.none(), st.binary(max_size=2_000), st.lists(st.binary(min_size=1, max_size=500), min_size=1)),
)
def test_whatever_is_asked(
    pair: tuple[Server, SyncClient], headers: dict[str, str], query: str, body: bytes | list[bytes] | None
) -> None:
    server, client = pair
    chunks = tuple(body) if isinstance(body, list) else None
    sent = body if isinstance(body, bytes) else None
    target = clean_target(f"/echo?{query}")
    ask = Ask("POST", target, headers, sent, chunks)
    assert in_memory(client, ask) == by_socket(server, ask)
