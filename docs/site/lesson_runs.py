"""Execute the lessons of ``notebooks/``: each in a kernel of its own, top to bottom.

Tests and the site share the executed notebooks. They stay in ``build/lessons`` until the notebook, coserver or Python
changes. ``python docs/site/lesson_runs.py 03 --backend trio`` executes one lesson; a cell that raises ends the command
with status 1.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXECUTED = ROOT / "build" / "lessons"
#: Seconds that one cell may take on a busy machine; the longest cell takes 3.
PATIENCE = 120
#: The one line of a lesson that is changed, in the cell with the tag ``parameters``, as papermill does.
PARAMETER = 'backend = "asyncio"'


def lessons() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def backends(lesson: Path) -> list[str]:
    """The backends of a lesson: asyncio, and trio too if the lesson has the line ``backend = "asyncio"``."""
    return ["asyncio", "trio"] if _parameter_cells(json.loads(lesson.read_text())) else ["asyncio"]


def executed(lesson: Path, backend: str = "asyncio") -> dict[str, Any]:
    """The notebook with its outputs. Raises nbclient's CellExecutionError for a cell that raises."""
    EXECUTED.mkdir(parents=True, exist_ok=True)
    made = EXECUTED / f"{lesson.stem}-{backend}.ipynb"
    key = _key(lesson)
    with _alone(made.with_suffix(".lock")):
        if made.exists():
            found: dict[str, Any] = json.loads(made.read_text())
            if found["metadata"].get("made_of") == key:
                return found
        found = _execute(lesson, backend)
        found["metadata"]["made_of"] = key
        made.write_text(json.dumps(found, indent=1))
        return found


def all_executed() -> list[tuple[Path, dict[str, Any]]]:
    """Every lesson, with its outputs. Several run at once: they mostly wait."""
    with ThreadPoolExecutor(4) as threads:
        return list(zip(lessons(), threads.map(executed, lessons()), strict=True))


def _execute(lesson: Path, backend: str) -> dict[str, Any]:
    import nbformat
    from nbclient import NotebookClient
    from traitlets.config import Config

    notebook = nbformat.read(lesson, as_version=4)
    for cell in _parameter_cells(notebook):
        cell["source"] = cell["source"].replace(PARAMETER, f'backend = "{backend}"')
    with tempfile.TemporaryDirectory(prefix="lesson-") as folder:
        # Keep the reader's own IPython profile and proxies out of the lesson.
        environment = {**os.environ, "IPYTHONDIR": f"{folder}/.ipython"}
        environment.pop("COSERVER_PROXY_URI", None)
        # Over a socket file: with TCP each kernel warns that others could listen.
        transport = Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}})
        client = NotebookClient(
            notebook, timeout=PATIENCE, kernel_name="python3", coalesce_streams=True, store_widget_state=False,
            resources={"metadata": {"path": folder}}, config=transport,
        )  # fmt: skip
        with Path(folder, "stderr").open("w+") as complaints:
            try:
                client.execute(env=environment, stderr=complaints)
            except BaseException:
                complaints.seek(0)
                sys.stderr.write(complaints.read())
                raise
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of the run
    plain: dict[str, Any] = json.loads(nbformat.writes(notebook))
    return plain


def _parameter_cells(notebook: Any) -> list[Any]:
    tagged = [cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ())]
    return [cell for cell in tagged if PARAMETER in "".join(cell["source"])]


def _key(lesson: Path) -> str:
    """A hash of all that the outputs depend on: Python's version, the notebook, this file, coserver's source."""
    digest = hashlib.sha256(sys.version.encode())
    for path in [lesson, Path(__file__), *sorted((ROOT / "coserver").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the file's lock, so that tests and builds side by side execute each lesson once: the second waits."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    from nbclient.exceptions import CellExecutionError

    parser = argparse.ArgumentParser(description="Execute the lessons of notebooks/ that have not been executed yet.")
    parser.add_argument("lessons", nargs="*", help="the beginnings of their names, such as 03; all if none is given")
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    asked = parser.parse_args()
    chosen = [one for one in lessons() if not asked.lessons or one.name.startswith(tuple(asked.lessons))]
    if not chosen:
        parser.error(f"no lesson begins with {' or '.join(asked.lessons)}; there are {[one.stem for one in lessons()]}")
    for lesson in chosen:
        try:
            executed(lesson, asked.backend)
        except CellExecutionError as error:
            print(f"{lesson.name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
