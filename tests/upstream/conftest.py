"""No descriptor and no thread may be left behind by any test here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coserver.testing import leak_check


@pytest.fixture(autouse=True)
def _nothing_left_behind(_libuv_has_its_pipe: None) -> Iterator[None]:
    with leak_check():
        yield
