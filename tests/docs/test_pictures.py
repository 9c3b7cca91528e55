"""The pictures of README and site: as the repository has them they ask nothing of others, and they can be made anew."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from coserver.testing import leak_check

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs/pictures").glob("*.svg"))


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs/site/pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT / "docs/site"))  # it imports its neighbour, the film
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@pytest.mark.parametrize("picture", PICTURES, ids=lambda each: each.stem)
def test_a_picture(picture: Path) -> None:
    text = picture.read_text()
    assert re.findall(r"(?:href|src|url\()\W*https?:", text) == []
    assert len(text) < (150_000 if picture.stem == "moving" else 60_000)
    assert f"pictures/{picture.name})" in (ROOT / "docs/index.md").read_text()
    assert "pictures/moving.svg)" in (ROOT / "README.md").read_text()


def test_they_can_be_made_anew(tmp_path: Path) -> None:
    with leak_check():
        maker().make(tmp_path, 0)
    shown = {one.stem: re.sub(r"<[^>]+>|&#160;", " ", one.read_text()) for one in tmp_path.iterdir()}
    assert set(shown) == {one.stem for one in PICTURES}
    assert "/items/7" in shown["top"]
    assert re.search(r"held at\s+response", shown["held"])
    assert "status=503" in shown["moving"]
