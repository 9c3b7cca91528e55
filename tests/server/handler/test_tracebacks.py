"""A traceback in the log begins with the user's first frame, and says so; an error of coserver's own keeps them all."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, await_, testing
from coserver.protocol import jsons
from coserver.server.handler.errors import users_part

HERE = Path(__file__).name


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    """The usual level, whatever the tests run with."""
    log = logging.getLogger("coserver.server")
    before = log.level
    log.setLevel(logging.INFO)
    yield
    log.setLevel(before)


def fail() -> Any:
    raise ValueError("no")


def shop() -> App:
    app = App("shop")

    @app.get("/def")
    def blocking(request: Request) -> Any:
        return fail()

    @app.get("/suspended")
    def suspended() -> Any:
        await_(anyio.lowlevel.checkpoint())
        return fail()

    @app.get("/async/{id}")
    async def on_the_loop(id: int) -> Any:
        return fail()

    @app.get("/bare")
    async def bare() -> Any:
        return fail()

    @app.get("/begin")
    def begin() -> Any:
        yield fail()

    @app.get("/middle")
    async def middle() -> Any:
        yield "x"
        yield fail()

    @app.get("/after")
    def after(request: Request) -> str:
        request.after(fail)
        return ""

    @app.get("/handled")
    def handled() -> Any:
        raise LookupError

    @app.error(LookupError)
    def broken(error: LookupError) -> Any:
        return fail()

    @app.tcp(framing="lines")
    def chat(connection: Any) -> None:
        for _ in connection:
            fail()

    return app


def shown(record: logging.LogRecord) -> str:
    return logging.Formatter().format(record)


PATHS = ["/def", "/suspended", "/async/1", "/bare", "/begin", "/middle", "/after", "/handled", "tcp"]


@pytest.mark.parametrize("path", PATHS)
async def test_it_begins_with_the_users_first_frame(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.client(shop(), raise_errors=False, checks=False) as client:
        if path == "tcp":
            async with client.tcp("chat") as conversation:
                await conversation.send(b"x")
                with pytest.raises(anyio.EndOfStream):
                    await conversation.receive()
        else:
            try:
                await client.get(path)
            except testing.Disconnected:
                assert path == "/middle"
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR and "ValueError" in shown(one)]
    text = shown(record)
    hint = text.splitlines()[-1]
    trace = text.rpartition("Traceback (most recent call last):\n")[2]  # the last: an error before it keeps its own
    assert hint.startswith("(")
    assert hint.endswith("left out; level DEBUG of the logger coserver.server shows them)")
    assert int(hint[1:].split()[0]) == record.hidden_frames >= 1  # type: ignore[attr-defined]
    frames = [line for line in trace.splitlines() if line.startswith('  File "')]
    assert all(HERE in line for line in frames), text
    assert text.splitlines()[-2] == "ValueError: no"
    assert "\n" not in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert not hasattr(record.exc_info[1], "__notes__")
    assert "coserver" in record.exc_info[1].__traceback__.tb_frame.f_globals["__name__"]  # type: ignore[union-attr]


async def test_level_debug_shows_all(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("coserver.server").setLevel(logging.DEBUG)
    async with testing.client(shop(), raise_errors=False) as client:
        await client.get("/def")
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert "left out" not in shown(record)
    assert "exchange.py" in shown(record)


async def test_errors_of_coservers_own_keep_all(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in coserver's code, or in a library below it, before any line of the user's."""
    app = App("own")
    app.get("/value")(object)
    app.get("/json")(lambda: {"a": 1})
    monkeypatch.setattr(jsons, "_encode", json.JSONDecoder().decode)
    async with testing.client(app, raise_errors=False) as client:
        await client.get("/value")
        await client.get("/json")
    first, second = [shown(one) for one in caplog.records if one.levelno == logging.ERROR]
    assert "left out" not in first + second
    assert "exchange.py" in first
    assert "response.py" in first
    assert "exchange.py" in second


def test_parts() -> None:
    def raised(function: Any) -> Any:
        try:
            function()
        except Exception as error:
            trace: Any = error.__traceback__
            return trace.tb_next
        raise AssertionError

    names = ("coserver.inner", "coserver_plugin.views", "anyio.streams", "json.decoder")
    ours, theirs, below, standard = [dict[str, Any](__name__=name) for name in names]
    exec("def wrong(): raise ValueError", ours)

    for calls, hidden in (
        ([ours, ours, theirs, ours], 2),  # the user's call of coserver that fails
        ([ours, theirs, below], 1),
        ([ours, below, theirs], 0),
        ([ours, standard], 0),
        ([ours, ours], 0),
        ([theirs], 0),
    ):
        function: Any = ours["wrong"]
        for one in reversed(calls):
            function = _calling(one, function)
        trace = raised(function)
        assert users_part(trace)[1] == hidden, calls
        if not hidden:
            assert users_part(trace)[0] is trace
    assert users_part(None) == (None, 0)


def _calling(space: dict[str, Any], function: Any) -> Any:
    exec("def make(function):\n def calls(): function()\n return calls", space)
    return space["make"](function)
