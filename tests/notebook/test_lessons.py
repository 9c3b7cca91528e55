"""The lessons of ``notebooks/``: each runs to its end, also on trio if the loop matters; no outputs are in git.

Each has a process of its own, the one of ``make docs``, so the site shows these very runs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
RUNS = ROOT / "docs/site/lesson_runs.py"
NEEDED = ("nbclient", "ipykernel", "requests", "redis", "fastapi", "uvicorn", "httpx2", "trio", "prometheus_client")
MISSING = [name for name in NEEDED if find_spec(name) is None]


def cells(lesson: Path) -> list[dict[str, Any]]:
    return list(json.loads(lesson.read_text())["cells"])


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def on_two_loops(lesson: Path) -> bool:
    return any("parameters" in cell["metadata"].get("tags", ()) for cell in cells(lesson))


EACH = [(lesson, "asyncio") for lesson in LESSONS] + [(one, "trio") for one in LESSONS if on_two_loops(one)]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize(("lesson", "backend"), EACH, ids=lambda one: getattr(one, "stem", one))
def test_it_runs_top_to_bottom(lesson: Path, backend: str) -> None:
    command = [sys.executable, str(RUNS), lesson.stem, "--backend", backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads((ROOT / f"build/lessons/{lesson.stem}-{backend}.ipynb").read_text())
    ran = [cell["execution_count"] for cell in made["cells"] if cell["cell_type"] == "code"]
    assert ran == [*range(1, len(ran) + 1)]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda one: one.stem)
def test_in_git_it_has_no_outputs(lesson: Path) -> None:
    assert json.loads(lesson.read_text())["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(lesson):
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), f"clear the outputs of {lesson.name}"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda one: one.stem)
def test_it_is_a_lesson(lesson: Path) -> None:
    told = [text(cell) for cell in cells(lesson) if cell["cell_type"] == "markdown"]
    assert told[0].startswith("# ")
    assert "## Try next\n" in told[-1]
    longest = max(len(text(cell).splitlines()) for cell in cells(lesson) if cell["cell_type"] == "code")
    assert longest <= 32, "short cells: a screen shows each with what it prints"


def test_the_readme_and_the_site_name_each() -> None:
    numbers = [int(lesson.name[:2]) for lesson in LESSONS]
    assert numbers == [*range(1, len(LESSONS) + 1)]
    told = re.findall(r"\]\((\w+\.ipynb)\)", (ROOT / "notebooks/README.md").read_text())
    assert told == [one.name for one in LESSONS]
    named = re.findall(r"tutorials/(\d\w+)\.md", (ROOT / "mkdocs.yml").read_text())
    assert named == [one.stem for one in LESSONS]


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A repository whose only lesson raises."""
    (tmp_path / "docs/site").mkdir(parents=True)
    (tmp_path / "docs/index.md").write_text("# Here\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: wrong\nhooks: [docs/site/lessons.py]\nexclude_docs: site/\n")
    for name in ("lesson_runs.py", "lessons.py", "pages.py", "public.py"):
        (tmp_path / "docs/site" / name).write_text((ROOT / "docs/site" / name).read_text())
    lesson = json.loads(LESSONS[0].read_text())
    lesson["cells"] = [lesson["cells"][0], {**lesson["cells"][2], "source": ["1 / 0"]}]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/09_wrong.ipynb").write_text(json.dumps(lesson))
    return tmp_path


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
@pytest.mark.parametrize("command", ["docs/site/lesson_runs.py 09", "-m mkdocs build --strict"])
def test_a_cell_that_raises_is_told(wrong: Path, command: str) -> None:
    if "mkdocs" in command:
        pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=wrong, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "1 / 0" in done.stderr
    assert not list((wrong / "build/lessons").glob("*.ipynb"))
