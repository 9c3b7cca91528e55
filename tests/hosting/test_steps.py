"""Hosted applications are held, changed, answered and replayed as native handlers are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest

import coserver
from coserver import App

from ..server.clients import Answer, Client, post, talking, until


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    answer = b"%b?%b" % (body, scope["query_string"])
    if b"stream" in scope["query_string"]:
        await send({"type": "http.response.body", "body": answer, "more_body": True})
        await send({"type": "http.response.body", "body": b"|"})
    else:
        await send({"type": "http.response.body", "body": answer})


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("X-Own", "1")])
    answer = body + b"?" + environ["QUERY_STRING"].encode()
    return iter([answer, b"|"]) if "stream" in environ["QUERY_STRING"] else [answer]


def hosted(kind: str) -> App:
    return coserver.host(asgi if kind == "asgi" else wsgi, "held", lifespan="off")


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
async def test_held_changed_and_answered(kind: str) -> None:
    async with talking(hosted(kind)) as (server, client):

        async def held(at: str, do: Any, query: str = "x") -> Answer:
            with server.step("~m POST", at=at) as step:
                await client.send(post(f"/?{query}", b"hello"))
                await until(lambda: step.waiting)
                await anyio.to_thread.run_sync(do, step.waiting[0])
                return await client.answer("POST")

        def changed(**changes: Any) -> Any:
            return lambda one: (one.edit(**changes), one.resume())

        assert (await held("head", changed(target="/?y"))).text == "hello?y"
        assert (await held("body", changed(body=b"other"))).text == "other?x"
        assert (await held("handler", changed(body=b"other"))).text == "other?x"
        answer = await held("response", changed(status=201, headers={"x-own": "2"}))
        assert (answer.status, answer.headers["x-own"], answer.text) == (201, "2", "hello?x")
        answer = await held("response", changed(status=202), "stream")
        assert (answer.status, answer.text) == (202, "hello?stream|")
        assert (await held("response", changed(body=b"whole"), "stream")).text == "whole"
        for at in ("head", "body", "handler", "response"):
            answer = await held(at, lambda one: one.respond(418, b"teapot"))
            assert (answer.status, answer.text) == (418, "teapot")
        await plain(client)


async def plain(client: Client) -> None:
    assert (await client.ask(post("/?x", b"hello"))).text == "hello?x"


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
async def test_recorded_and_replayed(kind: str) -> None:
    async with talking(hosted(kind)) as (server, client):
        server.traces.start()
        await plain(client)
        assert (await client.ask(post("/?stream", b"hello"))).text == "hello?stream|"
        await until(lambda: len(server.traces) == 2)
        first, second = sorted(server.traces, key=lambda one: one.id)
        assert first.response.body.content == b"hello?x"
        assert second.response.body.content == b"hello?stream|"
        assert second.request.body.content == b"hello"
        replayed = await anyio.to_thread.run_sync(server.traces.replay, first)
        assert replayed.status == 200
