"""Requests held at each phase, looked at, changed, answered and let go; others are served meanwhile."""

from __future__ import annotations

import logging
import threading
import time
import typing
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from coserver import App, HTTPException, Limits, Request, Response
from coserver.observe.filters import FilterError
from coserver.observe.step.held import Held, NotHeld
from coserver.observe.step.stepper import Stepper

from ...server.clients import chunked, connect, get, post, talking, until

PHASES = ["accept", "head", "body", "handler", "response", "recycle"]


def make_app() -> App:
    app = App(name="shop")

    @app.get("/page/{id}")
    async def page(request: Request, id: int) -> dict[str, Any]:
        return {"id": id, "tag": request.headers.get("x-tag"), "q": request.query_string}

    @app.post("/echo")
    def echo(request: Request) -> bytes:
        return request.body

    @app.get("/other")
    async def other() -> str:
        return "other"

    @app.post("/stream", stream=True)
    async def stream(request: Request) -> bytes:
        return b"".join([piece async for piece in request.stream()])

    @app.get("/pieces")
    async def pieces() -> Any:
        app.state.closed = False
        try:
            yield "one"
            yield "two"
        finally:
            app.state.closed = True

    @app.get("/fail")
    async def fail() -> None:
        raise HTTPException(418)

    @app.get("/file")
    async def file() -> Response:
        return Response.file(typing.__file__)  # too large to be read into memory

    return app


@pytest.fixture
def app() -> App:
    return make_app()


async def held(step: Stepper) -> Held:
    return await step.wait_async(5)


@pytest.mark.parametrize("at", PHASES)
async def test_held_at_each_phase_while_others_are_served(app: App, at: str) -> None:
    short = Limits(head_timeout=0.4, body_timeout=0.4, handler_timeout=0.4, idle_timeout=0.4, write_timeout=0.4)
    async with talking(app, limits=short) as (server, other):
        assert (await other.ask(get("/other"))).text == "other"
        with server.step("!~u /other", at=at) as step:
            async with connect(server.port) as client:
                await client.send(get("/page/7"))
                one = await held(step)
                assert one.phase == at
                for _ in range(6):  # longer than any deadline in all, each time much less than one
                    await anyio.sleep(0.08)
                    assert (await other.ask(get("/other"))).text == "other"
                assert step.waiting == [one]
                one.resume()
                assert (await client.answer()).status == 200


async def test_from_phase_to_phase(app: App) -> None:
    async with talking(app) as (server, client):
        step = server.step("/page/", at="head")
        await client.send(get("/page/7", "X-Tag: a"))
        seen = []
        for _ in range(5):
            one = await held(step)
            seen.append(one.phase)
            assert one.title == "GET /page/7"
            if one.phase == "recycle":
                assert (await client.answer()).status == 200
            step.next()
        assert seen == ["head", "body", "handler", "response", "recycle"]
        # The next request is held where the stepper says.
        await client.send(get("/page/8"))
        assert (await held(step)).phase == "head"
        step.until("response")
        one = await held(step)
        assert (one.phase, one.status, one.handler.endswith("page")) == ("response", 200, True)
        assert one.answer_body == b'{"id":8,"tag":null,"q":""}'
        assert dict(one.answer_headers)["content-type"] == "application/json"
        step.resume()
        assert (await client.answer()).status == 200
        assert not step.waiting
        step.close()


async def test_everything_known_is_shown(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("~m POST", at=["body", "response"]) as step:
            await client.send(post("/echo?x=1", b"hello", "X-Tag: a"))
            one = await held(step)
            assert (one.method, one.target, one.body, one.status) == ("POST", "/echo?x=1", b"hello", 0)
            assert ("x-tag", "a") in one.headers
            shown = one.as_dict()
            assert shown["request"]["body"] == {"size": 5, "text": "hello"}
            assert shown["response"] is None
            assert shown["exchange"]["held"]
            assert server.snapshot().filter("~at body")[0].held
            step.resume()  # and is held again where the stepper says
            one = await held(step)
            assert one.phase == "response"
            assert one.as_dict()["response"]["body"] == {"size": 5, "text": "hello"}
            step.resume()
            assert (await client.answer("POST")).body == b"hello"
            await client.send(post("/echo", b"\xff\xfe"))
            assert (await held(step)).as_dict()["request"]["body"] == {"size": 2, "base64": "//4="}
        assert (await client.answer("POST")).body == b"\xff\xfe"


async def test_a_target_changed_at_the_head_leads_elsewhere(app: App, codec: str) -> None:
    async with talking(app, codec=codec) as (server, client):
        with server.step("/page", at="head") as step:
            await client.send(get("/page/7"))
            one = await held(step)
            one.edit(target="/other")
            assert one.target == "/other"
            one.resume()
            assert (await client.answer()).text == "other"
            await client.send(get("/page/7"))
            one = await held(step)
            one.edit(target="/page/9?a=b", headers={"X-Tag": "new"})
            one.next()
            await held(step)
            step.resume()
            assert (await client.answer()).text == '{"id":9,"tag":"new","q":"a=b"}'
            await client.send(post("/page/7", b"hello"))
            one = await held(step)
            one.edit(method="POST", target="/echo")
            one.resume()
            assert (await client.answer("POST")).text == "hello"


async def test_a_target_changed_later_stays_with_its_handler(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("/page", at="handler") as step:
            await client.send(get("/page/7"))
            one = await held(step)
            one.edit(target="/page/8?x", headers={"x-tag": "t"})
            with pytest.raises(ValueError, match=r"leads to .*other.*has its handler already.*'head'"):
                one.edit(target="/other")
            with pytest.raises(ValueError, match=r"leads nowhere \(404\)"):
                one.edit(target="/nowhere")
            one.resume()
            assert (await client.answer()).text == '{"id":8,"tag":"t","q":"x"}'


@pytest.mark.parametrize("raw", [post("/echo", b"hello"), chunked("/echo", b"hel", b"lo")], ids=["length", "chunked"])
@pytest.mark.parametrize("at", ["body", "handler"])
async def test_a_body_changed(app: App, raw: bytes, at: str) -> None:
    async with talking(app) as (server, client):
        with server.step("", at=at) as step:
            await client.send(raw)
            one = await held(step)
            for body, bytes_ in ((b"\x00" * 70_000, b"\x00" * 70_000), ({"a": 1}, b'{"a":1}'), ("né", "né".encode())):
                one.edit(body=body)
                assert dict(one.headers)["content-length"] == str(len(bytes_))
                assert "transfer-encoding" not in dict(one.headers)
                assert one.body == bytes_
            one.resume()
            assert (await client.answer("POST")).text == "né"
        assert (await client.ask(post("/echo", b"next"))).text == "next"


async def test_a_body_on_disk_changed(app: App) -> None:
    async with talking(app, limits=Limits(body_buffer=10)) as (server, client):
        with server.step("", at="handler") as step:
            await client.send(post("/echo", b"x" * 5000))
            one = await held(step)
            assert one.as_dict()["request"]["body"] == {"size": 5000, "text": "x" * 5000}
            one.edit(body="short")
            assert one.as_dict()["request"]["body"] == {"size": 5, "text": "short"}
            one.resume()
            assert (await client.answer("POST")).text == "short"


async def test_an_answer_changed(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("", at="response") as step:
            await client.send(get("/page/7"))
            one = await held(step)
            one.edit(status=201, headers={"x-new": "1", "content-type": "text/csv"}, body="longer than before, longer")
            one.edit(headers={"x-new": "2"})
            assert (one.status, one.answer_body) == (201, b"longer than before, longer")
            one.resume()
            answer = await client.answer()
            assert (answer.status, answer.text) == (201, "longer than before, longer")
            assert (answer.headers["x-new"], answer.headers["content-type"]) == ("2", "text/csv")
            assert answer.headers["content-length"] == "26"
            await client.send(get("/page/7", method="HEAD"))
            step.edit((await held(step)).id, body="four", headers=[("x-all", "1")])
            step.resume()
            answer = await client.answer("HEAD")
            assert (answer.headers["content-length"], answer.body) == ("4", b"")
            assert "content-type" not in answer.headers or answer.headers["content-type"] == "text/plain; charset=utf-8"
            # A stream and a file in whose place something else is sent are closed.
            for path in ("/pieces", "/file"):
                await client.send(get(path))
                one = await held(step)
                assert one.answer_body is None
                one.edit(body=b"instead")
                one.resume()
                assert (await client.answer()).text == "instead"
            # And one whose fields alone are changed is sent.
            await client.send(get("/pieces"))
            (await held(step)).edit(headers={"x-a": "b"})
            step.resume()
            answer = await client.answer()
            assert (answer.text, answer.headers["x-a"]) == ("onetwo", "b")


@pytest.mark.parametrize("at", ["head", "body", "handler", "response"])
async def test_answered_without_the_handler(app: App, at: str) -> None:
    async with talking(app) as (server, client):
        for path in ("/page/7", "/nowhere", "/fail") if at != "handler" else ("/page/7", "/fail"):
            with server.step("", at=at) as step:
                await client.send(get(path))
                step.find((await held(step)).id).respond(503, {"why": "later"}, {"retry-after": "3"})
                answer = await client.answer()
                assert (answer.status, answer.text, answer.headers["retry-after"]) == (503, '{"why":"later"}', "3")
                assert not step.waiting
        assert (await client.ask(get("/other"))).text == "other"


async def test_answered_at_the_head_with_a_body_to_come(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("", at="head") as step:
            await client.send(post("/echo", b"x" * 1000)[:-500])
            await held(step)
            step.respond(403, "no")
            assert (await client.answer("POST")).text == "no"
        await client.send(b"x" * 500)
        assert (await client.ask(get("/other"))).text == "other"


async def test_aborted(app: App) -> None:
    for at in PHASES[1:5]:
        async with talking(app) as (server, client):
            with server.step("", at=at) as step:
                await client.send(get("/page/7"))
                one = await held(step)
                one.abort()
                with pytest.raises(anyio.BrokenResourceError):
                    await client.rest()
                await until(lambda server=server: not server.connections)
                with pytest.raises(NotHeld):
                    one.resume()


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("head", {"body": "x"}, "body cannot be changed at 'head'.*[Hh]old it at 'body' or 'handler'"),
    ("head", {"status": 200}, "status cannot be changed at 'head'.*respond"),
    ("head", {"target": "no-slash"}, "the changed request is not valid"),
    ("head", {"target": "/a b"}, "the changed request is not valid"),
    ("head", {"target": "/x HTTP/1.1\r\nA: b\r\n\r\nGET /y"}, "the changed request is not valid"),
    ("head", {"target": 7}, "method and target must be str"),
    ("head", {"method": "HEAD"}, "RFC 9112"),
    ("head", {"method": "CONNECT"}, "the changed request is not valid"),
    ("head", {"headers": {"x": "a\r\nb: c"}}, "the changed request is not valid"),
    ("head", {"headers": {"x": "a\r\n\r\nGET / HTTP/1.1"}}, "the changed request is not valid"),
    ("head", {"headers": {"host": "a\r\n\r\nGET / HTTP/1.1"}}, "the changed request is not valid"),
    ("head", {"headers": {"host": None}}, "Host"),
    ("head", {"headers": 5}, "headers are a mapping"),
    ("head", {"headers": {"é": "x"}}, "headers are a mapping"),
    ("head", {}, "nothing to change"),
    ("handler", {"body": object()}, "a body is str, bytes"),
    ("handler", {"staus": 2}, "staus cannot be changed"),
    ("response", {"target": "/x"}, "target cannot be changed at 'response'; status, headers, body can"),
    ("response", {"status": 99}, "from 200 to 599"),
    ("response", {"status": True}, "from 200 to 599"),
    ("response", {"headers": {"x": "a\r\nb: c"}}, "the changed answer cannot be sent"),
    ("recycle", {"headers": {}}, "nothing can be"),
]


@pytest.mark.parametrize(("at", "changes", "why"), BAD, ids=[f"{at}-{i}" for i, (at, _, _) in enumerate(BAD)])
async def test_what_cannot_be_is_said_and_changes_nothing(app: App, at: str, changes: dict[str, Any], why: str) -> None:
    async with talking(app) as (server, client):
        with server.step("", at=at) as step:
            await client.send(get("/page/7"))
            one = await held(step)
            before = one.as_dict()
            with pytest.raises(ValueError, match=why):
                one.edit(**changes)
            after = one.as_dict()
            assert (after["request"], after["response"]) == (before["request"], before["response"])
        assert (await client.answer()).text == '{"id":7,"tag":null,"q":""}'


async def test_a_wrong_answer_is_said(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("", at=["handler", "recycle"]) as step:
            await client.send(get("/page/7"))
            one = await held(step)
            for status, body in ((100, ""), (True, ""), (200, object())):
                with pytest.raises(ValueError, match=r"status|handler returns"):
                    one.respond(status, body)
            one.resume()
            assert (await client.answer()).status == 200
            await held(step)
            with pytest.raises(ValueError, match="no answer can be given at 'recycle'"):
                step.respond(200)


async def test_a_stream_is_not_changed(app: App) -> None:
    async with talking(app) as (server, client):
        with server.step("", at=["handler", "body"]) as step:
            await client.send(post("/stream", b"hello"))
            one = await held(step)
            assert one.phase == "handler"
            with pytest.raises(ValueError, match="stream=True"):
                one.edit(body="x")
            one.edit(headers={"a": "b"})
            one.resume()
            one = await held(step)
            assert one.phase == "body"
            with pytest.raises(ValueError, match="runs already"):
                one.respond(200)
            one.resume()
            assert (await client.answer("POST")).text == "hello"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_ends_the_hold(app: App, how: str) -> None:
    async with talking(app) as (server, client):
        with server.step("", at="handler") as step:
            await client.send(get("/page/7"))
            one = await held(step)
            await (client.reset() if how == "reset" else client.stream.aclose())
            await until(lambda: not step.waiting)
            await until(lambda: not server.connections)
            assert one.over
            with pytest.raises(NotHeld, match="no longer held"):
                one.edit(target="/page/8")


async def test_the_holds_own_limit(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with talking(app) as (server, client):
        with server.step("", at="handler", limit=0.05) as step:
            assert (await client.ask(get("/other"))).text == "other"
            assert not step.waiting
        assert "is released: the time limit of a hold is 0.05 s" in caplog.text


async def test_a_drain_lets_all_go(app: App) -> None:
    async with talking(app) as (server, client):
        step = server.step("", at="handler")
        await client.send(get("/other"))
        await held(step)
        server.stop(5)
        assert (await client.answer()).text == "other"
        assert step.closed
        with pytest.raises(RuntimeError, match="cannot hold requests"):
            server.step("")
        with pytest.raises(NotHeld, match="closed"):
            await step.wait_async(1)


async def test_a_stepper_that_raises_lets_go(app: App) -> None:
    async with talking(app) as (server, client):
        with pytest.raises(ZeroDivisionError), server.step("", at="handler") as step:  # noqa: PT012
            await client.send(get("/other"))
            await held(step)
            raise ZeroDivisionError
        assert (await client.answer()).text == "other"
        assert not server.emitter.gates


async def test_two_steppers_at_once(app: App) -> None:
    async with talking(app) as (server, client), connect(server.port) as second:
        with server.step("/page", at="handler") as one, server.step("", at=["handler", "response"]) as all_:
            await client.send(get("/page/7"))
            await second.send(get("/other"))
            assert (await held(one)).title == "GET /page/7"
            assert (await held(all_)).title == "GET /other"
            all_.resume()
            assert (await held(all_)).phase == "response"
            all_.resume()
            assert (await second.answer()).text == "other"
            one.resume()
            first = await held(all_)  # the other stepper's turn, at the same place
            assert (first.title, first.phase) == ("GET /page/7", "handler")
            one.close()
            all_.close()
            assert (await client.answer()).status == 200


async def test_a_hundred_at_once(app: App) -> None:
    async with talking(app) as (server, client):
        step = server.step("/page", at="handler")
        answers: list[int] = []

        async def ask(number: int) -> None:
            async with connect(server.port) as one:
                answer = await one.ask(get(f"/page/{number}"))
                assert f'"id":{number},' in answer.text
                answers.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(ask, number)
            await until(lambda: len(step.waiting) == 100)
            assert (await client.ask(get("/other"))).text == "other"
            for one in step.waiting[:40]:
                one.resume()
            await until(lambda: len(answers) == 40)
            assert len(step.waiting) == 60
            assert step.resume_all() == 60
            await until(lambda: len(answers) == 100)
            assert step.resume_all() == 0
            step.close()
        assert sorted(answers) == list(range(100))


async def test_cancelled_while_held(app: App) -> None:
    with anyio.CancelScope() as scope:
        async with talking(app) as (server, client):
            step = server.step("", at="handler")
            await client.send(get("/other"))
            await held(step)
            scope.cancel()
            await anyio.sleep(9)
    assert not app.emitter.gates


async def test_followed_until_it_ends(app: App) -> None:
    """A connection that ends is not followed any more, nor is another one taken for it."""
    async with talking(app) as (server, client):
        with server.step("/page", at="handler") as step:
            await client.send(get("/page/7", "Connection: close"))
            (await held(step)).until("recycle")
            assert (await client.answer()).status == 200
            await client.closed()
            await until(lambda: not step._following)


def test_wrong_ones_are_refused_at_once(app: App) -> None:
    with app.start() as server:
        with pytest.raises(FilterError, match="column"):
            server.step("~zz")
        with pytest.raises(ValueError, match="nothing can be held at 'suspend'; 'suspend' can be observed, not held"):
            server.step("", at="suspend")
        with pytest.raises(ValueError, match="name a phase"):
            server.step("", at=[])
        for limit in (0, -1, float("inf"), float("nan"), True, "5", 10**400):
            with pytest.raises(ValueError, match="hold's limit"):
                server.step("", limit=limit)  # type: ignore[arg-type]
        step = server.step("")
        with pytest.raises(NotHeld, match="nothing is held"):
            step.next()
        with pytest.raises(NotHeld, match="17 is not held"):
            step.next(17)
        assert repr(step) == "<Stepper '~all' at handler: 0 held>"
        assert not app.emitter.watched or step
        step.close()
        step.close()


# From threads.


def asking(port: int, path: str, answers: list[str]) -> threading.Thread:
    import http.client

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path)
        answers.append(connection.getresponse().read().decode())
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.fixture
def running(app: App, backend: str) -> Iterator[Any]:
    with app.start(backend=backend) as server:
        yield server


def test_from_another_thread(running: Any) -> None:
    answers: list[str] = []
    with running.step("/page", at="head") as step:
        with pytest.raises(TimeoutError, match=r"nothing for 0.01 s"):
            step.wait(0.01)
        thread = asking(running.port, "/page/7", answers)
        assert step.wait(20).phase == "head"
        step.edit(target="/page/8")
        step.next()
        assert step.wait(20).phase == "body"
        step.until("response")
        one = step.wait(20)
        one.edit(body="changed")
        one.resume()
        thread.join()
    assert answers == ["changed"]


def test_closed_while_somebody_waits(running: Any) -> None:
    step = running.step("/page", at="head")
    timer = threading.Timer(0.05, step.close)
    timer.start()
    with pytest.raises(NotHeld, match="closed"):
        step.wait(20)
    timer.join()


def test_from_the_servers_own_loop(app: App, backend: str) -> None:
    """A handler may step another request: a ``def`` waits, and suspends itself alone; an ``async def`` awaits."""
    raised: list[BaseException] = []

    @app.get("/steps/{how}")
    def steps(how: str) -> str:
        with server.step("/page", at="handler") as step:
            one = step.wait(20)
            one.edit(target="/page/99")
            one.resume()
        return "stepped"

    @app.get("/awaits")
    async def awaits() -> str:
        with server.step("/page", at="handler") as step:
            try:
                step.wait(1)
            except RuntimeError as error:
                raised.append(error)
            (await step.wait_async(20)).respond(200, "awaited")
        return "stepped"

    with app.start(backend=backend) as server:
        for path, answer in (("/steps/def", '{"id":99,"tag":null,"q":""}'), ("/awaits", "awaited")):
            answers: list[str] = []
            controller = asking(server.port, path, answers)
            while not server.emitter.gates:
                assert controller.is_alive(), answers
                time.sleep(0.001)
            asking(server.port, "/page/1", answers).join()
            controller.join()
            assert sorted(answers) == sorted([answer, "stepped"])
    assert "await step.wait_async()" in str(raised[0])


def test_another_server_of_the_same_app_is_not_held(app: App) -> None:
    with app.start() as first:
        step = first.step("", at="handler")
        with app.start() as second:  # takes its place
            answers: list[str] = []
            asking(second.port, "/other", answers).join()
            assert answers == ["other"]
        assert step.closed
