"""The design pages and CONTRIBUTING speak of what is there: files, tables, layers."""

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


def test_the_layers_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [one["layers"] for one in contracts if one["id"] == "floors"]
    order = [sorted(re.split(r"\W+", layer)) for layer in layers]
    drawn = (ROOT / "docs/design/house.md").read_text().partition("```\n")[2].partition("```")[0]
    names = [re.split(r"\s(?:layer|below)\s", line)[0] for line in drawn.splitlines()]
    assert [sorted(re.split(r"\W+", name.strip())) for name in names] == order
    # The numbers count from protocol, which is 0; those below it have none.
    ground = order.index(["protocol"])
    numbers = {name: ground - at for at, layer in enumerate(order[: ground + 1]) for name in layer}
    for line in drawn.splitlines()[: ground + 1]:
        name, number = re.split(r"\W", line)[0], re.findall(r"layer (\d+)", line)
        assert number == [str(numbers[name])], line
    for name, number in numbers.items():
        if name == "__main__":
            continue  # a file
        told = re.match(r'"""Layer (\d+):', (ROOT / f"coserver/{name}/__init__.py").read_text())
        assert told is None or int(told[1]) == number, name
    table = re.findall(r"^\| (\d+) \| (.+?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    rows = {name: int(number) for number, packages in table for name in re.findall(r"coserver/(\w+)", packages)}
    assert rows == numbers
