"""The trips of docs/design/story.md: how many files of coserver a request enters."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The most files that each may enter. More than these, and a reader loses the thread.
MOST = {"a small GET": 12, "time.sleep": 16, "a handler that fails": 16, "a subrequest": 27, "a step": 45}


@pytest.fixture(scope="module")
def trips() -> dict[str, list[str]]:
    command = [sys.executable, "-m", "tests.docs.trips", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_a_reader_is_sent_to_few_files(trips: dict[str, list[str]]) -> None:
    counts = {name: len(files) for name, files in trips.items()}
    assert counts.keys() == MOST.keys()
    assert {name: count for name, count in counts.items() if count > MOST[name]} == {}
    page = (ROOT / "docs/design/story.md").read_text()
    told = {name: int(count) for name, count in re.findall(r"^\| ([^|]+) \| (\d+) \|", page, re.MULTILINE)}
    # Another Python, or a machine where something takes another turn, may differ by a file.
    assert all(abs(told[name] - counts[name]) <= 2 for name in MOST), (told, counts)


def test_the_error_path_stands_in_the_story(trips: dict[str, list[str]]) -> None:
    """A failing handler enters no file of the story that a good one does not."""
    story = [name for name in trips["a handler that fails"] if re.match(r"server/(?!handler/)", name)]
    assert story == [name for name in trips["a small GET"] if re.match(r"server/(?!handler/)", name)]
