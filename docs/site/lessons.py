"""Make pages of the lessons: execute each notebook, then write it as Markdown. So it looks like a page, and is checked.

mkdocs calls this file while it builds the site. mkdocs-jupyter is not used: each of its pages brings JupyterLab's style
sheet (575 KB) and asks another site for MathJax, and nobody checks its links.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lesson_runs import ROOT, all_executed
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pages import drawn

#: The forms of a notebook's output, best first.
_FORMS = ("image/svg+xml", "text/html", "text/markdown", "text/plain")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_HEAD = """\
!!! note ""
    This page is a notebook, [{name}]({name}), executed when the site was built; the outputs are those of that run.
    `make notebooks` opens all lessons in JupyterLab.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """mkdocs calls it when it has found its pages. A cell that raises ends the build."""
    if Path(config.docs_dir) == ROOT / "docs":
        for lesson, notebook in all_executed():
            files.append(File.generated(config, f"tutorials/{lesson.stem}.md", content=page(notebook, lesson.name)))
            content = json.dumps(notebook, indent=1, ensure_ascii=False)
            files.append(File.generated(config, f"tutorials/{lesson.name}", content=content))
    return files


def page(notebook: dict[str, Any], name: str) -> str:
    """The notebook's cells as Markdown, with a link to the notebook under the title."""
    title, *rest = notebook["cells"]
    heading, _, first = _text(title["source"]).partition("\n")
    parts = [heading, _HEAD.format(name=name), first]
    for cell in rest:
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source:
            parts.append(_fenced(source, ".python"))
            parts += [_output(one) for one in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _output(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _fenced(_text(output["text"]), ".text .output .no-copy")
    if output["output_type"] == "error":  # only in a cell with the tag raises-exception
        return _fenced(_text("\n".join(output["traceback"])), ".text .output .no-copy")
    forms = {form: _text(data) for form, data in output["data"].items() if form in _FORMS}
    form = next((one for one in _FORMS if one in forms), "")
    shown = forms.get(form, "")
    if form == "image/svg+xml":
        return drawn(shown)
    if form == "text/html":
        return f'<div class="output">{_one_block(shown)}</div>'
    return shown if form == "text/markdown" else _fenced(shown, ".text .output .no-copy")


def _one_block(markup: str) -> str:
    """HTML without empty lines: Markdown ends an HTML block at one. A zero-width space keeps the line in ``pre``."""
    return re.sub(r"\n[ \t]*(?=\n)", "\n&#8203;", markup.strip())


def _text(lines: str | list[str]) -> str:
    return _COLOUR.sub("", lines if isinstance(lines, str) else "".join(lines)).rstrip("\n")


def _fenced(text: str, kind: str) -> str:
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence} {{ {kind} }}\n{text}\n{fence}"
