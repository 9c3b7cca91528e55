"""``server.failures``: what handlers raised, and nothing that the app expects."""

from __future__ import annotations

import http.client
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from coserver import App, HTTPException, Server
from coserver.app.inspect.failures import KEPT

from ...server.clients import get as raw_get
from ..get import get as ask


def deeper(depth: int) -> int:
    return deeper(depth - 1) if depth else 1 // 0


def shop(name: str = "shop") -> App:
    app = App(name=name)

    @app.get("/boom")
    async def boom() -> str:
        raise ValueError("no such thing")

    @app.get("/deep")
    def deep() -> str:
        return str(deeper(500))

    @app.get("/long")
    def long() -> str:
        raise ValueError("x" * 20_000)

    @app.get("/missing")
    def missing() -> str:
        raise HTTPException(404)

    @app.get("/mine")
    def mine() -> str:
        raise KeyError("mine")

    @app.error(KeyError)
    def answered(error: KeyError) -> str:
        return "expected"

    return app


@pytest.fixture
def server() -> Iterator[Server]:
    with shop().start() as server:
        assert len(server.failures) == 0  # from now on they are heard
        yield server


def test_what_was_raised_where(server: Server) -> None:
    assert ask(server, "/boom")[0] == 500
    (failure,) = server.failures
    assert failure.where == "GET /boom"
    assert "boom" in failure.handler
    assert failure.error == "ValueError: no such thing"
    lines = failure.traceback.splitlines()
    assert __file__ in lines[1]  # from the user's first frame on
    assert "no such thing" in lines[-1]
    assert "GET /boom" in repr(failure)
    assert repr(server.failures) == "<Failures 1 of 'shop'>"
    assert "no such thing" in server.failures._repr_mimebundle_()["text/html"]


def test_notes_are_shown_with_the_traceback_alone() -> None:
    app = App()

    @app.get("/noted")
    def noted() -> None:
        error = ValueError("no such thing")
        error.add_note("a note\nof two lines")
        raise error

    with app.start() as server:
        assert len(server.failures) == 0
        ask(server, "/noted")
        (failure,) = server.failures
        assert failure.error == "ValueError: no such thing"
        assert failure.traceback.splitlines()[-3:] == ["ValueError: no such thing", "a note", "of two lines"]


def test_what_the_app_expects_is_none(server: Server) -> None:
    assert [ask(server, path)[0] for path in ("/missing", "/mine", "/nowhere")] == [404, 500, 404]
    assert len(server.failures) == 0


def test_the_last_few_are_kept_and_all_counted(server: Server) -> None:
    for _ in range(KEPT + 2):
        ask(server, "/boom")
    ask(server, "/deep")
    assert (len(server.failures), server.failures.total) == (KEPT, KEPT + 3)
    assert server.failures[-1].error == "ZeroDivisionError: integer division or modulo by zero"
    assert len(server.failures[-1].traceback.splitlines()) < 100


def test_a_long_one_is_cut(server: Server) -> None:
    ask(server, "/long")
    assert len(server.failures[-1].error) == 500
    assert server.failures[-1].traceback.startswith("… ")
    assert len(server.failures[-1].traceback) < 8_100


def test_a_tcp_handler_that_fails() -> None:
    app = App()

    @app.tcp(name="chat", framing="lines")
    async def chat(connection: Any) -> None:
        async for line in connection:
            raise ValueError(f"no {line!r}")

    with app.start() as server:
        failures = server.failures
        connection = http.client.HTTPConnection("127.0.0.1", server.port_of("chat"), timeout=5)
        connection.connect()
        connection.sock.sendall(b"hello\n")
        assert connection.sock.recv(10) == b""
        connection.close()
        assert failures[0].error.startswith("ValueError: no ")
        assert "TcpConnection" in failures[0].where


def test_followers_and_the_end() -> None:
    told = threading.Event()
    with shop().start() as server:
        failures = server.failures
        failures.follow(told.set)
        ask(server, "/boom")
        assert told.wait(5)
    handlers = list(logging.getLogger("coserver.server").handlers)
    assert not [one for one in handlers if "_Ear" in type(one).__name__]
    assert failures[0].error == "ValueError: no such thing"


def test_another_servers_are_not_mixed_in(server: Server) -> None:
    with shop("other").start() as other:
        assert len(other.failures) == 0
        ask(other, "/boom")
        assert (len(server.failures), len(other.failures)) == (0, 1)
    ask(server, "/boom")
    assert len(server.failures) == 1


def test_a_follower_that_raises_is_the_logs_affair(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    server.failures.follow(lambda: 1 / 0)
    assert ask(server, "/boom")[0] == 500
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert ask(server, "/missing")[0] == 404


def test_where_nobody_has_configured_logging_the_rest_is_printed(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("coserver.server")
    monkeypatch.setattr(log, "propagate", False)  # pytest has handlers on the root
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(sys.stderr))
    log.warning("something else: %s", "a warning")
    ask(server, "/boom")
    assert capsys.readouterr().err == "something else: a warning\n"
    assert server.failures.total == 1


def test_a_request_that_breaks_the_protocol_is_none(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.connect()
    connection.sock.sendall(raw_get("/boom").replace(b"HTTP/1.1", b"HTTP/9"))
    assert b" 400 " in connection.sock.recv(1000)
    connection.close()
    assert len(server.failures) == 0
