"""An app to run, under the order check and the leak check; and a small way to ask it something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coserver import App
from coserver.testing import leak_check, order_check


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with leak_check():
        yield


@pytest.fixture
def app() -> Iterator[App]:
    """Has ``GET /`` (async def) and ``GET /plain`` (def). Start and stop it inside the test."""
    app = App()

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    with order_check(app):
        yield app
