"""A held exchange in the user's own editor: a first line, fields, an empty line, the body. Returns the changes.

Only the user can read the file, and it is deleted afterwards. Secrets are not masked in it, so that they can be edited.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..traces import show_size
from .terminal import Terminal

#: Fields that are set from the body.
_FRAMING = ("content-length", "transfer-encoding", "expect", "trailer")


def as_text(held: Mapping[str, Any]) -> str:
    """The text for the editor: the response of ``held`` if there is one, else its request."""
    message, lines = _message(held), ["# Length fields follow the body. An unchanged or empty file changes nothing."]
    body = message["body"] or {"size": 0, "text": ""}
    text = _body(message)
    if text is None:
        size = show_size(body["size"])
        lines.append(f"# The body ({size}) is not shown. It stays unless you write another one below.")
    if first := _first(held):
        lines.append(first)
    lines += [f"{name}: {value}" for name, value in _fields(message)]
    return "\n".join([*lines, "", text or "", ""])


def changes_in(held: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The arguments for ``Held.edit``, without those that did not change. Raises ValueError."""
    if not text.strip() or text == as_text(held):
        return {}
    message, first = _message(held), _first(held)
    head, _, body = text.partition("\n\n")
    lines = [line.rstrip("\r") for line in head.split("\n") if not line.startswith("#")]
    changes = _first_line(held, lines.pop(0) if first and lines else "") if first else {}
    fields = [_field(line) for line in lines if line]
    if fields != _fields(message):
        changes["headers"] = [list(field) for field in fields]
    body, before = body.removesuffix("\n"), _body(message)
    if body != (before or ""):
        changes["body"] = body
    return changes


def edit(terminal: Terminal, held: Mapping[str, Any], text: str) -> str:
    """Run the editor on ``text``; the edited text. Raises OSError if the editor is missing or fails."""
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory(prefix="coserver-") as folder:
        file = Path(folder) / f"held-{held['id']}.txt"
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        with terminal.suspended() as (stdin, stdout):
            try:
                code = subprocess.call([*command, str(file)], stdin=stdin, stdout=stdout, stderr=stdout)
            except OSError as error:
                raise OSError(f"cannot run the editor {command[0]}: {error.strerror}; set VISUAL or EDITOR") from error
        if code:
            raise OSError(f"{command[0]} ended with code {code}: nothing is changed")
        return file.read_bytes().decode("utf-8", "surrogateescape")


def _message(held: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = held["response"] if held["response"] is not None else held["request"]
    return found


def _first(held: Mapping[str, Any]) -> str:
    """The line before the fields; "" for a TCP message, which has only a body."""
    if held["response"] is not None:
        return str(held["response"]["status"] or "")
    request = held["request"]
    return f"{request['method']} {request['target']}" if request["method"] else ""


def _first_line(held: Mapping[str, Any], line: str) -> dict[str, Any]:
    if line == _first(held):
        return {}
    words = line.split(" ")
    if held["response"] is not None:
        if len(words) != 1 or not line.isdigit():
            raise ValueError(f"the first line must be a status: 404; got {line!r:.60}")
        return {"status": int(line)}
    if len(words) != 2:
        raise ValueError(f"the first line must be a method and a target: GET /page; got {line!r:.60}")
    names = ("method", "target")
    return {name: word for name, word in zip(names, words, strict=True) if word != held["request"][name]}


def _fields(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in message["headers"] if name.lower() not in _FRAMING]


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"a field is 'Name: value', and an empty line ends the fields; got {line!r:.60}")
    return name.strip(), value.strip()


def _body(message: Mapping[str, Any]) -> str | None:
    """The body as text; None if it is not text, or not complete."""
    body = message["body"]
    if body is None or not body["size"]:
        return ""
    text = body.get("text")
    return text if text is not None and len(text.encode()) == body["size"] else None
