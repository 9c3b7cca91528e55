"""``coserver new NAME``: a folder with a small app, its test and its configuration. It overwrites nothing."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from rich.text import Text

from coserver.whole_file import whole_file

from . import console

_APP = '''"""Notes, kept in memory. ``coserver dev`` serves them."""

from coserver import App, HTTPException, Request

app = App("{name}")
notes: dict[int, str] = {{}}


@app.get("/")
def index():
    return "{name} is running; it has notes at /notes"


@app.get("/notes")
def all_notes():
    return notes


@app.get("/notes/{{id}}")
def note(id: int):
    if id not in notes:
        raise HTTPException(404, f"no note {{id}}")
    return {{"id": id, "text": notes[id]}}


@app.post("/notes")
def add(request: Request):
    id = len(notes) + 1
    notes[id] = request.json()["text"]
    return {{"id": id}}, 201
'''
_TEST = """from {module} import app

from coserver import testing


def test_a_note() -> None:
    with testing.sync_client(app) as client:
        id = client.post("/notes", json={{"text": "hello"}}).json()["id"]
        assert client.get(f"/notes/{{id}}").json() == {{"id": id, "text": "hello"}}
        assert client.get("/notes/99").status == 404
"""
_CONFIG = """app = "{module}:app"
# All options: coserver config reference
"""


def run(name: str) -> int:
    """Write the files; the exit code."""
    folder = Path(name)
    named = (folder.absolute() if name in (".", "./") else folder).name
    module = re.sub(r"[^a-z0-9_]", "_", named.lower())
    if not module.strip("_") or module[0].isdigit():
        console.error(f"the app's module is named after the folder: a letter, then letters, digits, _; got {named!r}")
        return 2
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or module in ("coserver", "test", "tests"):
        console.error(f"{module!r} is a name that Python or coserver uses already", f"try: coserver new my_{module}")
        return 2
    files = {
        f"{module}.py": _APP.format(name=named),
        f"test_{module}.py": _TEST.format(module=module),
        "coserver.toml": _CONFIG.format(module=module),
    }
    there = next((folder / file for file in files if (folder / file).exists()), None)
    if there is not None:
        console.error(f"{there} exists already", "nothing was written; choose another name")
        return 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            with whole_file(folder / file, "w", encoding="utf-8") as out:
                out.write(text)
    except OSError as error:
        console.error(f"{error.filename or folder} cannot be written: {error.strerror}")
        return 1
    go = "" if folder == Path() else f"cd {folder} && "
    console.say(Text.assemble("made ", (", ".join(str(folder / file) for file in files), "bold")))
    console.say(Text(f"  serve it   {go}coserver dev"))
    console.say(Text('  ask it     curl http://127.0.0.1:8000/notes -d \'{"text": "hello"}\''))
    console.say(Text(f"  test it    {go}python -m pytest"))
    return 0
