"""Where a control is started, and where not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coserver import App, SetupError
from coserver.control.client import Unreachable, find


def test_settings_that_cannot_be(app: App) -> None:
    for wrong in ({"control": ""}, {"control": 5}, {"control_port": 70000}, {"control_port": 0},
                  {"control_port": 0, "control_token": "short"},
                  {"control_port": 0, "control_token": "ü" * 30}):  # fmt: skip
        with pytest.raises(SetupError, match="control"):
            app.start(**wrong)


def test_none_unless_asked(app: App) -> None:
    with app.start() as server:
        assert server.control is None


async def test_in_the_callers_loop(app: App, runtime: Any) -> None:
    import anyio

    from coserver import testing

    async with testing.serving(app, control="auto") as server:
        assert server.control is not None
        client = await anyio.to_thread.run_sync(find, "shop")
        assert (await anyio.to_thread.run_sync(client.snapshot)).server == "shop"
        assert json.loads(await anyio.to_thread.run_sync(client._bytes, "GET", "/v1"))["state"] == "running"
    assert not list(runtime.iterdir())


def test_the_port_of_an_app_is_no_control(app: App) -> None:
    """Whatever answers there: a 404, a page, JSON that says something else."""
    answers: dict[str, Any] = {"value": None}
    with app.start() as server:
        for value in (None, "a page", {"other": "json"}, ["a", "list"]):
            if value is not None:
                answers["value"] = value
                app.get("/v1")(lambda: answers["value"])
            with pytest.raises(Unreachable, match=r"is no control port: .* the port of the app.*--control-port"):
                find(server.url)
