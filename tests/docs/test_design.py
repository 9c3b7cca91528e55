"""The design pages and CONTRIBUTING speak of what is there: files, tables, floors."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs/design").glob("*.md")), ROOT / "CONTRIBUTING.md"]
SOURCES = [one for part in ("coserver", "cli", "tests", "docs", "benchmarks") for one in (ROOT / part).rglob("*.*")]
CODE = "\n".join(one.read_text() for one in SOURCES if one.suffix == ".py")


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.stem)
def test_what_it_names_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for name in set(re.findall(r"`([\w/]+\.py)`", text)) - {"views/x.py"}:
        assert any(f"/{one.relative_to(ROOT)}".endswith(f"/{name}") for one in SOURCES), name
    for table in set(re.findall(r"`([A-Z][A-Z_]{3,})`", text)):
        assert re.search(rf"\b{table}\b", CODE), table


def test_the_house_has_the_floors_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [floors] = [one["layers"] for one in contracts if one["id"] == "floors"]
    drawn = (ROOT / "docs/design/house.md").read_text().partition("```\n")[2].partition("```")[0]
    names = [re.split(r"\W+", line.partition("floor")[0].partition("ground")[0].strip()) for line in drawn.splitlines()]
    # Two that stand side by side here are two floors there, of which neither imports the other, or one that has both.
    assert [name for line in names for name in sorted(line)] == [
        name for floor in floors for name in sorted(re.split(r"\W+", floor))
    ]
