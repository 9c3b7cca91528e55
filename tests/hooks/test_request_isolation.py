"""What libraries keep for a request: two handlers interleaved on one thread never meet."""

from __future__ import annotations

import contextvars
import time
import traceback
from typing import Any

import pytest

from coserver import run_blocking

from .side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


async def test_a_scoped_session() -> None:
    from sqlalchemy.orm import Session, scoped_session

    sessions: Any = scoped_session(Session)

    def handler() -> Any:
        mine = sessions()
        time.sleep(0.01)
        assert sessions() is mine
        return mine

    first, second = await both(handler, handler)
    assert first is not second


async def test_djangos_connections_and_asgirefs_local() -> None:
    from asgiref.local import Local
    from django.db.utils import ConnectionHandler

    sqlite = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    connections: Any = ConnectionHandler(sqlite)
    local: Any = Local(thread_critical=True)

    def handler(name: str) -> tuple[Any, str]:
        local.name, mine = name, connections["default"]
        time.sleep(0.01)
        assert connections["default"] is mine
        return mine, local.name

    (first, a), (second, b) = await both(lambda: handler("a"), lambda: handler("b"))
    assert first is not second
    assert (a, b) == ("a", "b")


async def test_flasks_g_and_request() -> None:
    from flask import Flask, g, request

    app = Flask("shop")

    def handler(path: str) -> tuple[str, str]:
        with app.test_request_context(path):
            g.path = path
            time.sleep(0.01)
            return g.path, request.path

    assert await both(lambda: handler("/a"), lambda: handler("/b")) == [("/a", "/a"), ("/b", "/b")]


async def test_context_variables_flow_in_and_out() -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="")
    var.set("in")

    def handler() -> str:
        seen = var.get()
        time.sleep(0.001)
        var.set("out")
        return seen

    assert await run_blocking(handler) == "in"
    assert var.get() == "out"


async def test_tracebacks_show_the_handlers_frames() -> None:
    def deep() -> None:
        time.sleep(0.001)
        raise LookupError("on purpose")

    def handler() -> None:
        deep()

    with pytest.raises(LookupError) as raised:
        await run_blocking(handler)
    names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert names[-2:] == ["handler", "deep"]
