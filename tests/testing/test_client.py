"""The in-memory client: what a test asks, and what it gets back."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from coserver import App, HTTPException, Limits, Request, Response, testing
from coserver.testing import BadStatus, Disconnected


@pytest.fixture
def app() -> App:
    app = App()

    @app.get("/items/{id}")
    def item(id: int) -> dict[str, int]:
        return {"id": id}

    @app.route("/echo", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def echo(request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "target": request.target,
            "fields": list(request.headers.pairs()),
            "body": request.body.decode("latin-1"),
        }

    @app.post("/bytes")
    def give_back(request: Request) -> bytes:
        return request.body

    @app.get("/boom")
    def boom() -> None:
        raise ZeroDivisionError("boom")

    @app.get("/teapot")
    def teapot() -> None:
        raise HTTPException(418, "short and stout")

    return app


async def test_the_least(app: App, codec: str) -> None:
    async with testing.client(app, codec=codec) as c:
        r = await c.get("/items/3")
        assert (r.status, r.json(), r.ok) == (200, {"id": 3}, True)
        assert r.headers["Content-Type"] == "application/json"
        assert r.raise_for_status() is r
        assert repr(r) == "<200 OK for GET /items/3, 8 bytes>"


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
async def test_methods(app: App, method: str) -> None:
    async with testing.client(app) as c:
        r = await getattr(c, method)("/echo")
        assert r.json()["method"] == method.upper()


async def test_head_has_no_body(app: App) -> None:
    async with testing.client(app) as c:
        r = await c.head("/items/3")
        assert (r.status, r.body, r.headers["content-length"]) == (200, b"", "8")
        assert (await c.get("/items/4")).json() == {"id": 4}
        assert c.connections == 1


async def test_params_join_the_query(app: App) -> None:
    async with testing.client(app) as c:
        r = await c.get("/echo?a=1", params={"b": "x y", "c": ["1", "2"], "ü": "&"})
        assert r.json()["target"] == "/echo?a=1&b=x+y&c=1&c=2&%C3%BC=%26"
        r = await c.get("/echo", params=[("a", 1), ("a", 2)])
        assert r.json()["target"] == "/echo?a=1&a=2"
        r = await c.get("/echo?q=ä b%20c#part")
        assert r.json()["target"] == "/echo?q=%C3%A4%20b%20c"
        r = await c.get("http://testserver/echo")
        assert r.json()["target"] == "/echo"


async def test_headers_are_sent_as_given(app: App) -> None:
    async with testing.client(app) as c:
        r = await c.get("/echo", headers=[("X-One", "1"), ("x-one", "2"), ("Host", "other")])
        fields = r.json()["fields"]
        assert fields == [["host", "other"], ["x-one", "1"], ["x-one", "2"]]
        r = await c.post("/echo", json=[1], headers={"content-type": "application/x-mine"})
        assert ["content-type", "application/x-mine"] in r.json()["fields"]


async def test_bodies(app: App) -> None:
    async def pieces() -> Any:
        yield b"one "
        await anyio.lowlevel.checkpoint()
        yield ""
        yield "two"

    async with testing.client(app) as c:
        assert (await c.post("/bytes", body=b"\0\xff")).body == b"\0\xff"
        assert (await c.post("/bytes", body="grün")).text == "grün"
        assert (await c.post("/bytes", body=bytearray(b"x"))).body == b"x"
        assert (await c.post("/bytes", body=b"")).body == b""
        assert (await c.post("/bytes", body=iter([b"a", "b"]))).body == b"ab"
        assert (await c.post("/bytes", body=pieces())).body == b"one two"
        r = await c.post("/echo", body=[b"a", b"b"])
        assert ["transfer-encoding", "chunked"] in r.json()["fields"]
        r = await c.post("/bytes", body=iter([b"a", b"b"]), headers={"content-length": "2"})
        assert r.body == b"ab"
        r = await c.post("/echo", json={"a": "ü", "b": None})
        assert json.loads(r.json()["body"].encode("latin-1")) == {"a": "ü", "b": None}
        assert (await c.post("/bytes", json=None)).body == b"null"
        r = await c.post("/echo", form={"a": "x y", "b": ["1", "2"]})
        assert r.json()["body"] == "a=x+y&b=1&b=2"
        assert ["content-type", "application/x-www-form-urlencoded"] in r.json()["fields"]


async def test_a_form_with_files(app: App) -> None:
    async with testing.client(app) as c:
        files: Any = {"f": ('a"b.txt', b"\0\1", "text/plain"), "g": [("1", "x"), ("2", b"")]}
        r = await c.post("/echo", form={"t": "v"}, files=files)
        kind = dict(r.json()["fields"])["content-type"]
        assert kind.startswith("multipart/form-data; boundary=")
        boundary = kind.partition("=")[2]
        parts = r.json()["body"].split(f"--{boundary}")
        assert parts[0] == ""
        assert parts[-1] == "--\r\n"
        assert 'name="f"; filename="a%22b.txt"\r\nContent-Type: text/plain\r\n\r\n\0\1\r\n' in parts[2]
        assert len(parts) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"body": b"x", "json": 1}, "one body; given are body and json"),
        ({"body": b"x", "files": {}}, "one body; given are body and files"),
        ({"body": {"a": 1}}, "json=, form= take dicts"),
        ({"body": 3}, "bytes, str, or an iterable"),
        ({"data": b"x"}, "takes no data"),
    ],
)
async def test_a_request_that_contradicts_itself(app: App, wrong: Any, message: str) -> None:
    async with testing.client(app) as c:
        with pytest.raises(TypeError, match=message):
            await c.post("/bytes", **wrong)


@pytest.mark.parametrize("target", ["items", "", "http://elsewhere/x", "ftp://testserver/"])
async def test_a_target_that_is_none(app: App, target: str) -> None:
    async with testing.client(app) as c:
        with pytest.raises(ValueError, match=r"begins with|one app"):
            await c.get(target)


async def test_a_body_that_yields_nonsense_or_raises(app: App) -> None:
    def wrong() -> Any:
        yield b"x"
        yield 3

    def raising() -> Any:
        yield b"x"
        raise KeyError("mine")

    async with testing.client(app) as c:
        with pytest.raises(TypeError, match="yields bytes or str; got 3"):
            await c.post("/bytes", body=wrong())
        with pytest.raises(KeyError, match="mine"):
            await c.post("/bytes", body=raising())
        with pytest.raises(Exception, match="Too much data"):
            await c.post("/bytes", body=iter([b"abc"]), headers={"content-length": "2"})
        assert (await c.get("/items/1")).ok


async def test_what_a_handler_raises_is_raised(app: App) -> None:
    async with testing.client(app) as c:
        with pytest.raises(ZeroDivisionError, match="boom") as caught:
            await c.get("/boom")
        assert "boom" in [entry.name for entry in caught.traceback]  # the handler's own line is shown
        r = await c.get("/teapot")
        assert (r.status, r.ok) == (418, False)
        assert (await c.get("/nothing")).status == 404


async def test_or_answered_as_in_production(app: App) -> None:
    async with testing.client(app, raise_errors=False) as c:
        assert (await c.get("/boom")).status == 500


async def test_an_error_that_the_app_expects_is_not_raised(app: App) -> None:
    app.error(ZeroDivisionError)(lambda error: (f"sorry: {error}", 500))
    app.error(500)(lambda: "our fault")
    app.get("/other")(lambda: {}["missing"])
    async with testing.client(app) as c:
        r = await c.get("/boom")
        assert (r.status, r.text) == (500, "sorry: boom")
        with pytest.raises(KeyError, match="missing"):
            await c.get("/other")
    async with testing.client(app, raise_errors=False) as c:
        assert (await c.get("/other")).text == "our fault"


async def test_a_bad_status_can_raise(app: App) -> None:
    async with testing.client(app) as c:
        with pytest.raises(BadStatus, match=r"<418 .*for GET /teapot, .*short and stout") as caught:
            (await c.get("/teapot")).raise_for_status()
        assert caught.value.response.status == 418
        with pytest.raises(ValueError, match="is not JSON"):
            (await c.get("/teapot")).json()


async def test_text_has_the_charset_of_its_type(app: App) -> None:
    app.get("/latin")(lambda: Response(b"gr\xfcn", content_type="text/plain; charset=iso-8859-1"))
    app.get("/unknown")(lambda: Response(b"x", content_type="text/plain; charset=nonsense"))
    async with testing.client(app) as c:
        assert (await c.get("/latin")).text == "grün"
        assert (await c.get("/unknown")).text == "x"


async def test_cookies_are_kept_and_sent_back(app: App) -> None:
    @app.get("/login")
    def login() -> Response:
        fields = [("set-cookie", "session=abc; Path=/; HttpOnly; Secure"), ("set-cookie", "deep=1; Path=/items")]
        return Response("in", headers=fields)

    @app.get("/logout")
    def logout() -> Response:
        return Response("out", headers=[("set-cookie", "session=; Path=/; Max-Age=0")])

    async with testing.client(app) as c:
        await c.get("/login")
        assert dict(c.cookies) == {"session": "abc", "deep": "1"}
        c.cookies["mine"] = "x"
        fields = dict((await c.get("/echo")).json()["fields"])
        assert sorted(fields["cookie"].split("; ")) == ["mine=x", "session=abc"]
        await c.get("/logout")
        assert dict((await c.get("/echo")).json()["fields"])["cookie"] == "mine=x"
        del c.cookies["mine"]
        with pytest.raises(KeyError):
            del c.cookies["mine"]
        assert "cookie" not in dict((await c.get("/echo")).json()["fields"])
        assert dict((await c.get("/echo", headers={"cookie": "a=b"})).json()["fields"])["cookie"] == "a=b"
        c.cookies.clear()
        assert not c.cookies


async def test_cookies_of_any_text(app: App) -> None:
    @app.get("/set")
    def give() -> Response:
        response = Response("")
        response.set_cookie("a", 'b; "ü"', secure=True)
        return response

    app.get("/cookies")(lambda request: dict(request.cookies))
    async with testing.client(app) as c:
        await c.get("/set")
        assert c.cookies["a"] == 'b; "ü"'
        c.cookies["mine"] = "x y, ä"
        assert c.cookies["mine"] == "x y, ä"
        assert (await c.get("/cookies")).json() == {"a": 'b; "ü"', "mine": "x y, ä"}
        with pytest.raises(ValueError, match="name"):
            c.cookies["a b"] = "x"
        with pytest.raises(KeyError):
            c.cookies["none"]
        assert "mine" in repr(c.cookies)
        assert len(c.cookies) == 2


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"a": "x\ny"}, {"a": "\u20ac"}, {"\u20ac": "a"}])
async def test_a_field_that_cannot_be_sent(app: App, headers: dict[str, str]) -> None:
    async with testing.client(app) as c:
        with pytest.raises(Exception, match=r"Illegal header|codec can't encode"):
            await c.get("/", headers=headers)
        assert (await c.get("/items/1")).ok


async def test_a_status_without_a_name(app: App) -> None:
    app.get("/odd")(lambda: ("", 299))
    async with testing.client(app) as c:
        r = await c.get("/odd")
        assert repr(r) == "<299 for GET /odd, 0 bytes>"
        async with c.stream("GET", "/items/x") as s:
            assert repr(s) == "<404 Not Found for GET /items/x>"
            with pytest.raises(BadStatus, match="404 Not Found"):
                s.raise_for_status()


def _redirecting(app: App, status: int, to: str) -> None:
    @app.route("/old", methods=["GET", "POST", "HEAD"])
    def old() -> Response:
        return Response("", status=status, headers={"location": to})


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "GET", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (307, "POST", "POST", "sent"),
        (308, "POST", "POST", "sent"),
    ],
)
async def test_redirects(app: App, status: int, method: str, then: str, body: str) -> None:
    _redirecting(app, status, "echo?x=1")
    async with testing.client(app) as c:
        sent: Any = {"body": "sent"} if method == "POST" else {}
        r = await c.request(method, "/old", **sent)
        assert (r.status, r.headers["location"], r.history) == (status, "echo?x=1", ())
        r = await c.request(method, "/old", follow_redirects=True, **sent)
        assert (r.json()["method"], r.json()["target"], r.json()["body"]) == (then, "/echo?x=1", body)
        assert [one.status for one in r.history] == [status]
    async with testing.client(app, follow_redirects=True) as c:
        assert (await c.request(method, "/old", **sent)).status == 200


async def test_redirects_that_cannot_be_followed(app: App) -> None:
    _redirecting(app, 307, "/old")
    app.get("/away")(lambda: Response("", status=302, headers={"location": "https://elsewhere.example/"}))
    async with testing.client(app, follow_redirects=True) as c:
        with pytest.raises(ValueError, match="more than 20 times"):
            await c.get("/old")
        with pytest.raises(ValueError, match="elsewhere"):
            await c.get("/away")
        with pytest.raises(TypeError, match="an iterator is sent only once"):
            await c.post("/old", body=iter([b"x"]))


async def test_limits_hold_as_in_production(app: App) -> None:
    limits = Limits(body_size=10, head_size=300, handler_timeout=0.05)

    @app.get("/long")
    async def long() -> None:
        await anyio.sleep(100)

    async with testing.client(app, limits=limits) as c:
        assert (await c.post("/bytes", body=b"x" * 11)).status == 413
        assert (await c.post("/bytes", body=iter([b"x" * 11]))).status == 413
        assert (await c.post("/bytes", body=b"x" * 10_000_000)).status == 413
        assert (await c.get("/echo", headers={"x": "y" * 400})).status == 431
        assert (await c.get("/long")).status == 503
        assert (await c.get("/items/1")).status == 200


async def test_100_continue(app: App) -> None:
    asked: list[str] = []

    def body() -> Any:
        asked.append("body")
        yield b"x"

    expect = {"expect": "100-continue"}
    async with testing.client(app) as c:
        r = await c.post("/bytes", body=body(), headers=expect)
        assert (r.body, [one.status for one in r.interim], asked) == (b"x", [100], ["body"])
        r = await c.post("/nothing", body=body(), headers=expect)
        assert (r.status, r.interim, asked) == (404, (), ["body"])
        assert (await c.get("/items/1")).ok


async def test_a_timeout(app: App) -> None:
    cancelled = anyio.Event()

    @app.get("/never")
    async def never() -> None:
        try:
            await anyio.sleep(100)
        finally:
            cancelled.set()

    async with testing.client(app, timeout=0.05) as c:
        with pytest.raises(TimeoutError, match=r"GET /never: no whole answer within 0.05 s"):
            await c.get("/never")
        with anyio.fail_after(5):
            await cancelled.wait()
        assert (await c.get("/items/1", timeout=None)).ok


async def test_the_lifespan_runs(app: App) -> None:
    seen: list[str] = []

    @app.lifespan
    async def lifespan(app: App) -> Any:
        seen.append("up")
        yield
        seen.append("down")

    async with testing.client(app) as c:
        assert seen == ["up"]
        assert (await c.get("/items/1")).ok
    assert seen == ["up", "down"]


async def test_an_app_that_breaks_off_its_answer(app: App) -> None:
    @app.get("/half")
    def half() -> Any:
        yield "a"
        raise RuntimeError("no more")

    async with testing.client(app) as c:
        with pytest.raises(RuntimeError, match="no more"):
            await c.get("/half")
    async with testing.client(app, raise_errors=False) as c:
        with pytest.raises(Disconnected, match=r"GET /half: .* the server says: the handler broke off its response"):
            await c.get("/half")


async def test_the_blocks_own_error_goes_on_its_way(app: App) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with testing.client(app) as c:
            assert (await c.get("/items/1")).ok
            raise ZeroDivisionError


async def test_a_test_s_context_is_not_the_handlers(app: App) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    app.get("/variable")(lambda: variable.get())  # noqa: PLW0108 - it has no signature
    async with testing.client(app) as c:
        variable.set("by the test")
        assert (await c.get("/variable")).text == "unset"
