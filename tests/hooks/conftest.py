"""Hooks for the length of a test, and an oracle: whatever really waits inside a worker fails the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coserver import hooks

from .oracle import Oracle


@pytest.fixture(autouse=True, scope="module")
def nothing_hooked() -> Iterator[None]:
    """What apps of other files' tests have installed in this process is taken back; and what this one's have."""
    hooks.uninstall()
    yield
    hooks.uninstall()


@pytest.fixture
def hooked() -> Iterator[Oracle]:
    """All families are installed, and the originals of their calls are watched.

    They stay so until the end of the file: an install looks at all that lives in the process, and in that of all tests
    that takes half a second.
    """
    hooks.install()  # first: what the oracle keeps are the originals, and they are to stay so
    with Oracle() as oracle:
        yield oracle
    oracle.check()
