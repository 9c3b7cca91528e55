"""The site's pages: their Python blocks are run in order, in one namespace, and print what the text below them says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from coserver.testing import leak_check

ROOT = Path(__file__).parents[2]
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "```python" in page.read_text()]
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("_in_a_folder")
def test_a_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    text = page.read_text()
    with leak_check():
        for match in BLOCK.finditer(text):
            line = text[: match.start()].count("\n") + 1
            if match[1] == "python":
                exec(compile("\n" * line + match[2], str(page), "exec"), names)
            else:
                assert capsys.readouterr().out == match[2], f"{page.name}, line {line}"
        for name in ("server", "client"):
            if hasattr(names.get(name), "stop"):
                names[name].stop()


def test_the_table_of_limits() -> None:
    """Made by ``coserver_cli.config.reference.limits_table``: copy it to the page's end."""
    from coserver_cli.config.reference import limits_table

    assert (ROOT / "docs/guide/limits.md").read_text().endswith(f"\n\n{limits_table()}")


def test_the_table_of_filters() -> None:
    """Made by ``coserver.observe.letters.letters_table``: copy it to the page's end."""
    from coserver.observe.letters import letters_table

    assert (ROOT / "docs/reference/filters.md").read_text().endswith(f"\n\n{letters_table()}")
