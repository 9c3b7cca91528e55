"""Where a control is started, and where not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coserver import App, SetupError
from coserver.control.client import find


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
