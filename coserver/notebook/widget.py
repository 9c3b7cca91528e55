"""The one widget: an ES module and a style sheet without a build step, drawn into the output of the cell that shows it.

The module finds its output by a class in the frozen table's HTML and covers that with a shadow root; so a notebook that
is opened without a kernel, where no widget is, shows the table itself. Loaded only where anywidget is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_here = Path(__file__).parent
#: One module, written in several files for the sake of whoever reads them.
FILES = ("dom.js", "clicks.js", "table.js", "live.js", "step.js", "mount.js")


class Widget(anywidget.AnyWidget):
    """``state`` is the whole of what is shown, sent now and then; what changed in between comes as messages.

    ``way`` says where to ask while the kernel is busy, ``mark`` which output it is drawn into.
    """

    _esm = "\n".join((_here / name).read_text() for name in FILES)
    _css = (_here / "widget.css").read_text()
    kind = traitlets.Unicode().tag(sync=True)
    mark = traitlets.Unicode().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    way = traitlets.Dict().tag(sync=True)


def make(**given: Any) -> Widget:
    return Widget(**given)
