"""The reference of the Python interface: every public name stands there, and says what it is. The build looks too."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def public() -> Any:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("public", ROOT / "docs/site/public.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_stands_there_and_says_what_it_is(public: Any) -> None:
    assert list(public.wrong(public.pages(ROOT / "docs"))) == []


def test_what_is_missing_is_told(public: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = public.pages(ROOT / "docs")
    page = text.replace("::: coserver.App\n", "::: coserver.Nobody\n")
    assert list(public.wrong(page)) == [
        "coserver.App is public, and not in the reference", "coserver.Nobody is in the reference, and not public",
    ]  # fmt: skip
    assert list(public.wrong(f"{text}\n::: coserver.App\n")) == ["coserver.App is in the reference twice"]
    monkeypatch.setattr("coserver.App.mount.__doc__", None)
    assert list(public.wrong(text)) == ["App.mount has no docstring"]


def test_what_is_the_house_s_own_is_still_there(public: Any) -> None:
    for name, methods in public.OURS.items():
        module, _, one = name.rpartition(".")
        assert (module, one) in public.names()
        for method in methods:
            assert hasattr(getattr(importlib.import_module(module), one), method), method
