"""A running app changes: routes are added and replaced while it serves, as in a notebook."""

from __future__ import annotations

import logging
import threading

import pytest

from coserver import App, SetupError

from .get import TIMEOUT, get


def test_a_route_added_while_it_runs(app: App, backend: str) -> None:
    with app.start(backend=backend) as server:
        assert get(server, "/late")[0] == 404
        app.get("/late")(lambda: "better than never")
        assert get(server, "/late") == (200, "better than never")


def test_a_route_replaced_while_it_runs(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with app.start() as server:
        assert get(server) == (200, "ok")
        app.get("/")(lambda: "new")
        assert get(server) == (200, "new")
    assert "replaces" in caplog.text
    with app.start() as server:
        assert get(server) == (200, "new")


def test_many_routes_added_under_load(app: App) -> None:
    answers: list[tuple[int, str]] = []
    with app.start() as server:
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                answers.append(get(server))

        client = threading.Thread(target=ask)
        client.start()
        for number in range(200):
            app.get(f"/number/{number}/{{rest:path}}")(lambda rest, number=number: f"{number} {rest}")
        done.set()
        client.join(TIMEOUT)
        assert get(server, "/number/199/a/b") == (200, "199 a/b")
    assert set(answers) == {(200, "ok")}


def test_a_wrong_route_is_refused_at_once_and_changes_nothing(app: App) -> None:
    with app.start() as server:
        with pytest.raises(SetupError, match="nobody"):
            app.get("/")(lambda nobody: "")
        assert get(server) == (200, "ok")
    with app.start() as server:
        assert get(server) == (200, "ok")


def test_two_methods_of_one_path(app: App) -> None:
    app.post("/things")(lambda request: (request.json(), 201))
    app.put("/things")(lambda: None)
    app.patch("/things")(lambda: "patched")
    app.delete("/things")(lambda: "gone")
    app.head("/things")(lambda: "")
    app.options("/things")(lambda: "asked")
    with app.start() as server:
        assert get(server, "/things", "POST", b'{"a": 1}') == (201, '{"a":1}')
        assert get(server, "/things", "PUT") == (204, "")
        assert get(server, "/things", "PATCH") == (200, "patched")
        assert get(server, "/things", "DELETE") == (200, "gone")
        assert get(server, "/things", "HEAD") == (200, "")
        assert get(server, "/things", "OPTIONS") == (200, "asked")
        assert get(server, "/things")[0] == 405


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda app: app.route("/", methods="GET"), r"methods=\['GET'\]"),
        (lambda app: app.get("no-slash"), "must start with '/'"),
        (lambda app: app.get("/a{b}"), "a parameter is a whole segment"),
        (lambda app: app.get("/{a}/{a}"), "two parameters are named 'a'"),
        (lambda app: app.get("/?a=1"), "a route is a path alone"),
        (lambda app: app.tcp(framing="morse"), "unknown framing 'morse'; it may be 'raw'"),
    ],
)
def test_a_malformed_route_is_refused_where_it_stands(app: App, wrong: object, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        wrong(app)  # type: ignore[operator]


def test_a_tcp_handler_defined_again_takes_its_predecessors_place() -> None:
    app = App("cells")

    def define(answer: bytes) -> None:
        @app.tcp(name="chat", framing="lines")
        async def chat(connection: object) -> None: ...

    define(b"one")
    define(b"two")
    assert len(app.tcp_routes) == 1
    assert repr(app) == "<App 'cells' 0 routes, 1 tcp>"
