"""Each newsfragment has a kind that the changelog knows, and says something."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = {one["directory"] for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]}


def test_every_fragment_will_be_found() -> None:
    for fragment in (ROOT / "newsfragments").iterdir():
        if fragment.name in ("README.md", ".gitignore"):
            continue
        name, kind, ending = fragment.name.rsplit(".", 2)
        assert kind in KINDS, fragment.name
        assert (bool(name), ending) == (True, "md"), fragment.name
        assert fragment.read_text().strip().endswith((".", ")", "`")), fragment.name
