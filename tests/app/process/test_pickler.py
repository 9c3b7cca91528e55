"""What goes to an isolated server's process, and who is named that cannot go."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from coserver import App, SetupError
from coserver.app.process import pickler

A_LOCK = threading.Lock()


def by_global(app: App) -> None:
    @app.get("/")
    def index() -> str:
        with A_LOCK:
            return "ok"


def by_closure(app: App) -> None:
    lock = threading.Lock()

    @app.get("/")
    def index() -> str:
        with lock:
            return "ok"


def by_default(app: App) -> None:
    @app.get("/")
    def index(lock: Any = A_LOCK) -> str:
        return "ok"


def by_state(app: App) -> None:
    app.state.lock = A_LOCK


def by_lifespan(app: App) -> None:
    lock = threading.Lock()

    @app.lifespan
    async def life(app: App) -> AsyncIterator[None]:
        with lock:
            yield


def by_error_handler(app: App) -> None:
    lock = threading.Lock()

    @app.error(404)
    def missing() -> str:
        with lock:
            return "no"


def by_tcp(app: App) -> None:
    lock = threading.Lock()

    @app.tcp(name="chat")
    def chat(message: bytes) -> bytes:
        with lock:
            return message


@pytest.mark.parametrize(
    ("declare", "who"),
    [
        (by_closure, "index of GET /"),
        (by_state, "app.state"),
        (by_lifespan, "lifespan by_lifespan.<locals>.life "),
        (by_error_handler, "error handler"),
        (by_tcp, "of tcp chat"),
    ],
)
def test_who_uses_what_cannot_go(declare: Callable[[App], None], who: str) -> None:
    app = App(name="shop")
    declare(app)
    with pytest.raises(SetupError) as raised:
        pickler.pack(app, {})
    told = str(raised.value)
    assert who in told
    assert "uses 'lock', <" in told
    assert "make it there, in a lifespan" in told


def test_an_option_that_cannot_go() -> None:
    with pytest.raises(SetupError, match=r"app\.start uses 'tls', <unlocked _thread\.lock"):
        pickler.pack(App(), {"tls": threading.Lock()})


def test_what_goes() -> None:
    app = App(name="shop")

    @app.get("/")
    def index() -> str:
        return "ok"

    before, whole = pickler.pack(app, {"port": 0})
    assert before
    assert whole


def test_without_cloudpickle_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickler, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"pip install 'coserver\[notebook\]'"):
        pickler.pack(App(), {})
