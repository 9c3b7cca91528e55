"""What observing is tested with."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from coserver.testing import checks


@pytest.fixture(params=["alone", "beside others"])
def company(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who only counts or keeps is told less while no other observes; the order check is one that does."""
    if request.param == "alone":
        monkeypatch.setattr(checks, "order_check", lambda app: nullcontext())
