"""Hooks under the oracle, asyncio and trio, and a stub of a slow HTTP server. uvloop where a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coserver import hooks

from ..conftest import BACKENDS
from ..hooks.oracle import Oracle
from .servers import data_folder
from .stubs import slow_http


@pytest.fixture(scope="module", autouse=True)
def _installed() -> Iterator[None]:
    """Once for a file: with all these libraries loaded, an install and its undoing take a second."""
    hooks.install()
    yield
    hooks.uninstall()


@pytest.fixture
def hooked() -> Iterator[Oracle]:
    """The originals of the hooked calls are watched."""
    with Oracle() as oracle:
        yield oracle
    oracle.check()


@pytest.fixture(params=[one for one in BACKENDS if one.id != "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def http_url() -> Iterator[str]:
    with slow_http() as url:
        yield url


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that another user can be given."""
    with data_folder() as path:
        yield path
