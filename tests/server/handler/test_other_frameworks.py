"""Names and habits of other frameworks: each mistake says the way here, and no probe by other code is disturbed."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import coserver
from coserver import App, Request, Response, testing
from coserver.protocol.head import RequestHead
from coserver.server.handler.other_frameworks import APP, PACKAGE, REQUEST


def a_request() -> Request:
    return Request(RequestHead("GET", b"/x?y=1", 1, [(b"host", b"t")]), 1, "", {})


@pytest.mark.parametrize("name", REQUEST)
def test_attributes_of_requests(name: str) -> None:
    with pytest.raises(AttributeError, match=f"coserver's Request has no '{name}'; here: ") as caught:
        getattr(a_request(), name)
    assert caught.value.name == name


@pytest.mark.parametrize("name", APP)
def test_attributes_of_apps(name: str) -> None:
    with pytest.raises(AttributeError, match=f"coserver's App has no '{name}'; here: "):
        getattr(App(), name)


@pytest.mark.parametrize("name", PACKAGE)
def test_names_of_packages(name: str) -> None:
    said = f"coserver has no '{name}'; here: "
    with pytest.raises(AttributeError, match=said):
        getattr(coserver, name)
    with pytest.raises(ImportError, match=said):
        exec(f"from coserver import App, {name}")
    assert not hasattr(coserver, name)
    assert getattr(coserver, name, None) is None


def test_no_name_of_ours_is_in_the_tables() -> None:
    assert not [name for name in REQUEST if name in dir(a_request())]
    assert not [name for name in APP if name in dir(App())]
    assert not [name for name in PACKAGE if name in coserver.__all__]


@pytest.mark.parametrize("thing", [a_request(), App("probed")], ids=["request", "app"])
def test_probes(thing: Any) -> None:
    """hasattr, copy and pickle ask for names that are not there, also of an object without attributes."""
    assert not hasattr(thing, "middleware" if isinstance(thing, App) else "url")
    assert getattr(thing, "nowhere", 5) == 5
    with pytest.raises(AttributeError, match=f"'{type(thing).__name__}' object has no attribute 'nowhere'"):
        thing.nowhere  # noqa: B018
    with pytest.raises(AttributeError, match="__getnothing__"):
        thing.__getnothing__  # noqa: B018
    assert vars(copy.copy(thing)).keys() == vars(thing).keys()
    empty = object.__new__(type(thing))
    assert not hasattr(empty, "url_for")
    with pytest.raises(AttributeError, match="has no attribute 'nowhere'"):
        empty.nowhere  # noqa: B018


def test_an_app_is_pickled() -> None:
    app = pickle.loads(pickle.dumps(App("pickled")))
    assert app.name == "pickled"
    assert app.emitter is not None


def test_an_error_within_a_property_stays_its_own() -> None:
    class Own(Request):
        @property
        def broken(self) -> str:
            return self.nowhere  # type: ignore[attr-defined, no-any-return]

    with pytest.raises(AttributeError, match="'Own' object has no attribute 'nowhere'"):
        Own(a_request().head, 1, "", {}).broken  # noqa: B018


def test_old_names_still_work() -> None:
    with pytest.warns(DeprecationWarning, match="SetupError"):
        exec("from coserver import AppError")
    with pytest.raises(ImportError, match="cannot import name 'Nowhere'"):
        exec("from coserver import Nowhere")


# Habits.


async def awaits_json(request: Any) -> Any:
    return await request.json()


async def awaits_json_named_otherwise(request: Request) -> Any:
    req: Any = request
    return (await req.json())["x"]


async def awaits_a_form(request: Any) -> Any:
    return await request.form()


async def calls_the_body(request: Any) -> Any:
    return await request.body()


async def subscripts_the_form(request: Any) -> Any:
    return request.form["x"]


def asks_the_method_json(request: Any) -> Any:
    return request.json.get("x")


def asks_for_the_clients_host(request: Any) -> Any:
    return request.client.host


def gives_a_status_code(request: Any) -> Any:
    make: Any = Response
    return make("x", status_code=201)


def gives_anything(request: Any) -> Any:
    make: Any = Response
    return make("x", colour="red")


HABITS = [
    (awaits_json, "request.json() is no coroutine: the body has been read already. Leave out the await"),
    (awaits_json_named_otherwise, "request.json() is no coroutine"),
    (awaits_a_form, "request.form() is no coroutine"),
    (calls_the_body, "request.body is a value, not a method: leave out the parentheses"),
    (subscripts_the_form, "request.form is a method: write request.form()"),
    (asks_the_method_json, "request.json is a method: write request.json()"),
    (asks_for_the_clients_host, "request.client is the client's address as text; request.peer has the port too"),
    (gives_a_status_code, "Response has no option 'status_code'; did you mean 'status'?"),
    (gives_anything, "Response has no option 'colour'; it has body, status, headers, content_type and trailers"),
]


async def test_habits(caplog: pytest.LogCaptureFixture) -> None:
    """The note is in the log, in the exception that a test gets, and on the debug page. It is there once."""
    app = App()
    for handler, _ in HABITS:
        app.post(f"/{handler.__name__}")(handler)
    async with testing.client(app, debug=True, raise_errors=False) as client:
        for handler, note in HABITS:
            caplog.clear()
            body: Any = {"form": {"x": "1"}} if "form" in handler.__name__ else {"json": {"x": 1}}
            answer = await client.post(f"/{handler.__name__}", **body)
            assert answer.status == 500
            assert answer.failure is not None
            assert [said for said in answer.failure.__notes__ if said.startswith(note)], answer
            assert note in answer.text
            assert note in repr(answer)
            assert caplog.text.count(note) == 1


async def other_await() -> Any:
    nothing: Any = 5
    return await nothing


def other_call() -> Any:
    nothing: Any = b"x"
    return nothing()


def other_message() -> Any:
    raise TypeError("object is not callable")


@pytest.mark.parametrize("handler", [other_await, other_call, other_message])
async def test_other_mistakes_get_no_note(handler: Any) -> None:
    app = App()
    app.get("/")(handler)
    async with testing.client(app, raise_errors=False) as client:
        answer = await client.get("/")
        assert isinstance(answer.failure, TypeError)
        assert not getattr(answer.failure, "__notes__", None)
