"""Fixtures for pytest: ``pytest_plugins = ["coserver.testing.fixtures"]`` in a conftest.py.

The only module here that imports pytest. anyio's pytest plugin runs async fixtures, on the test's own backend. A check
that fails is an error at the test's teardown.
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
    """Check that the events of the fixture ``app``, which the test defines, come in order, and that each is closed."""
    with order_check(app):
        yield


@pytest.fixture
def coserver_leak_check(_coserver_uvloop: None) -> Iterator[None]:
    """Check that the test leaves no thread and no descriptor behind."""
    with leak_check():
        yield


@pytest.fixture(scope="session")
def _coserver_uvloop() -> None:
    """Start uvloop once: libuv opens a pipe for signals with its first loop and keeps it. No test leaks it."""
    if find_spec("uvloop"):
        anyio.run(anyio.sleep, 0, backend_options={"use_uvloop": True})
