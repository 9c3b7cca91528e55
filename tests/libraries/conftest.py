"""Hooks under the oracle, asyncio and trio, and a stub of a slow HTTP server. uvloop where a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BACKENDS
from ..hooks.conftest import hooked
from .servers import data_folder
from .stubs import slow_http

__all__ = ["hooked"]


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
