"""The widget of all panels: an ES module and a style sheet, without a build step, drawn into the cell's output.

The module finds its output by a class in the frozen table's HTML, and covers the table with a shadow root. A notebook
that is opened without a kernel has no widget, and shows the table. Loaded only if anywidget is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

_here = Path(__file__).parent
#: The files of the module, joined in this order.
FILES = ("dom.js", "clicks.js", "table.js", "live.js", "step.js", "mount.js")


class Widget(anywidget.AnyWidget):
    """The widget. ``state`` is the whole content, sent from time to time; changes in between are messages.

    ``way`` is the port for questions while the kernel is busy; ``mark`` is the class of its output.
    """

    _esm = "\n".join((_here / name).read_text() for name in FILES)
    _css = (_here / "widget.css").read_text()
    kind = traitlets.Unicode().tag(sync=True)
    mark = traitlets.Unicode().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    way = traitlets.Dict().tag(sync=True)


def make(**given: Any) -> Widget:
    return Widget(**given)
