"""The page about testing: each of its examples runs, and so do the tests in it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
async def test_an_example(number: int) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[number], f"testing.md: {number}", "exec"), names)
    for name, test in names.items():
        if name.startswith("test_"):
            result = test()
            if result is not None:
                await result


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5
