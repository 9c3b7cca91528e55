"""Fixtures for pytest: ``pytest_plugins = ["coserver.testing.fixtures"]`` in a conftest.py.

The only module here that imports pytest. Async fixtures are run by anyio's pytest plugin, on the test's own backend.
What a check finds is an error at the test's teardown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from importlib.util import find_spec
from typing import Any, Unpack

import anyio
import pytest

from ..app.app import App
from .checks import leak_check, order_check
from .client import Client, ClientOptions, client
from .sync_client import SyncClient, sync_client

MakeClient = Callable[..., Awaitable[Client]]
MakeSyncClient = Callable[..., SyncClient]


@pytest.fixture
async def coserver_client(anyio_backend: Any) -> AsyncIterator[MakeClient]:
    """``c = await coserver_client(app)``: a Client until the test ends; keywords as for ``testing.client``."""
    async with AsyncExitStack() as stack:

        async def make(app: App, **options: Unpack[ClientOptions]) -> Client:
            return await stack.enter_async_context(client(app, **options))

        yield make


@pytest.fixture
def coserver_sync_client() -> Iterator[MakeSyncClient]:
    """``c = coserver_sync_client(app)``: a SyncClient until the test ends; keywords as for ``testing.sync_client``."""
    with ExitStack() as stack:

        def make(app: App, **options: Unpack[ClientOptions]) -> SyncClient:
            return stack.enter_context(sync_client(app, **options))

        yield make


@pytest.fixture
def coserver_order_check(app: App) -> Iterator[None]:
    """The events of the fixture ``app``, which the test defines, must come in order, and each be closed."""
    with order_check(app):
        yield


@pytest.fixture
def coserver_leak_check(_coserver_uvloop: None) -> Iterator[None]:
    """The test must leave no thread and no descriptor behind."""
    with leak_check():
        yield


@pytest.fixture(scope="session")
def _coserver_uvloop() -> None:
    """libuv opens a pipe for signals with its first loop and keeps it until the process ends: no leak of a test."""
    if find_spec("uvloop"):
        anyio.run(anyio.sleep, 0, backend_options={"use_uvloop": True})
