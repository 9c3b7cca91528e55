"""The base of the live table and the stepper: a widget over a frozen table, and a thread that pushes changes.

Changes are pushed only while a page shows the panel. The page reports this regularly; its silence counts only while the
kernel could have heard it. The frozen table is in the output's HTML, updated every few seconds, for the saved notebook.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from itertools import count
from time import monotonic, sleep, time
from typing import Any, Protocol
from uuid import uuid4

from .cell import kernel_shell
from .clicks import questions

Bundle = dict[str, str]
#: Seconds of silence after which no page shows the panel; a page reports every 10.
SILENCE = 30.0
#: Seconds between two updates of the frozen table, and of the whole state for a page that missed a message.
_FREEZE, _WHOLE = 5.0, 5.0
#: Seconds in which a new page may miss messages; it gets the whole state each time.
_BEGIN = 2.0
#: Seconds between two checks for the panel's end, while no page shows it.
_IDLE = 1.0
MISSING = "This table is not live: that needs anywidget; pip install 'coserver[notebook]'"

log = logging.getLogger("coserver.notebook")


class Picture(Protocol):
    """The content of a panel at one moment."""

    def since(self, before: Any) -> dict[str, Any] | None:
        """The changes since ``before``, or everything if ``before`` is None; None without changes."""
        ...


class Panel:
    """A display in a cell; subclasses draw it. ``pause`` is the least time between two pushes, in seconds."""

    kind = ""
    pause = 0.2
    #: Whether it is drawn each ``pause``, or only after ``wake``.
    looks = True

    def __init__(self, pattern: str = "") -> None:
        """``pattern`` is the path of a port at a proxy before the notebook: ``/proxy/{port}/``."""
        self._pattern = pattern
        self.mark = f"coserver-{uuid4().hex[:12]}"
        self.closed = False
        self._wake = threading.Event()
        self._widget: Any = None
        self._handle: Any = None
        self._heard = 0.0
        self._looking = False
        self._missed = False  # the page lacks a message
        self._numbers = count(1)
        self._last: Picture | None = None
        self._frozen: Bundle = {}
        self._unlisten: Callable[[], None] = _nothing

    # For subclasses.

    def draw(self) -> Picture:
        """The content now."""
        raise NotImplementedError

    def frozen(self) -> Bundle:
        """The static content for the notebook's file."""
        raise NotImplementedError

    def over(self) -> bool:
        """Whether the panel has ended by itself."""
        raise NotImplementedError

    def answer(self, what: str, given: dict[str, Any]) -> Any:
        """Answer a question of the page. Raises Wrong."""
        raise NotImplementedError

    def ended(self) -> None:
        """Called once, when the panel is over or closed."""

    # Display.

    def show(self) -> None:
        """Show it under the running cell. If it is shown already, it moves there."""
        from IPython.display import DisplayHandle, display

        shell = kernel_shell()
        if shell is None or self.closed or self.over() or not find_spec("anywidget"):
            self._show_frozen(display, shell)
            return
        if self._widget is None:
            self._begin(shell)
        self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
        self._frozen = self.frozen()
        self._handle.display(self._bundle(), raw=True)
        self._seen()

    def close(self) -> None:
        """End the updates; the frozen table stays. Idempotent."""
        self.closed = True
        self._wake.set()

    def wake(self) -> None:
        """Draw again soon; may be called from any thread."""
        self._wake.set()

    def _show_frozen(self, display: Any, shell: Any) -> None:
        bundle = self.frozen()
        if shell is not None and not find_spec("anywidget"):
            bundle = {
                "text/plain": f"{bundle['text/plain']}\n\n{MISSING}",
                "text/html": f"{bundle['text/html']}<p><em>{MISSING}</em></p>",
            }
        display(bundle, raw=True)

    def _begin(self, shell: Any) -> None:
        from .widget import make

        page_port = questions.enter(self)
        self._last = self.draw()
        state = {"n": next(self._numbers), "at": time(), **(self._last.since(None) or {})}
        way = {} if page_port is None else {"port": page_port.port, "token": page_port.token, "pattern": self._pattern}
        self._widget = make(kind=self.kind, mark=self.mark, state=state, way=way)
        self._widget.on_msg(self._message)
        self._unlisten = _on_cell_end(shell, self._cell_ended)
        threading.Thread(target=self._live, name=f"coserver {self.kind}", daemon=True).start()

    def _bundle(self) -> Bundle:
        html = f'<div class="{self.mark}">\n{self._frozen["text/html"]}\n</div>'
        bundle: dict[str, Any] = {"text/plain": self._frozen["text/plain"], "text/html": html}
        if _by_view():
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2, "version_minor": 0, "model_id": self._widget.model_id,
            }  # fmt: skip
        return bundle

    # Pushes to the page.

    def _seen(self) -> None:
        self._heard = monotonic()
        if not self._looking:
            self._looking = self._missed = True
            self._wake.set()

    def _cell_ended(self) -> None:
        if self._looking:
            self._heard = monotonic()  # the page's messages were not read meanwhile

    def _message(self, widget: Any, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        if content.get("what") == "here":
            origin = content.get("origin")
            page_port = questions.page_port
            if page_port is not None and isinstance(origin, str):
                page_port.origins.add(origin)
            self._seen()
            return
        if content.get("what") == "away":
            self._looking = False
            return
        if content.get("what") == "missed":
            self._missed = True
            self._wake.set()
            return
        self._seen()
        widget.send(questions.by_kernel(content))

    def _live(self) -> None:
        try:
            self._push_all()
        except Exception:
            log.exception("%r is no longer updated", self)
        finally:
            self._unlisten()
            self.ended()
            questions.leave(self)

    def _push_all(self) -> None:
        begun = whole_at = frozen_at = monotonic()
        unsure = stale = False  # the page may lack a change; the frozen table is not up to date
        while not (self.closed or self.over()):
            self._wake.wait(self.pause if self.looks and self._looking else _IDLE)
            self._wake.clear()
            now = monotonic()
            if now - self._heard > SILENCE and not _cell_runs():
                self._looking = False
            if not self._looking:
                continue
            fresh, self._missed = self._missed, False
            begun = now if fresh else begun
            picture = self._look()
            changed = picture.since(self._last)
            self._last = picture
            if fresh or now - begun < _BEGIN or now - whole_at > _WHOLE:
                if changed or unsure or fresh:
                    self._push(picture.since(None), whole=True)
                    whole_at, unsure = now, False
            elif changed:
                self._push(changed)
                unsure = True
            stale = stale or changed is not None
            if stale and now - frozen_at > _FREEZE:
                frozen_at, stale = now, False
                self._freeze()
            if not self.looks:
                sleep(self.pause)  # wake() may come a hundred times a second
        self._push(self._look().since(None), whole=True, over=True)
        self._freeze()

    def _look(self) -> Picture:
        """The content now; after the end, the last content if drawing fails."""
        try:
            return self.draw()
        except Exception:
            if self._last is None or not (self.closed or self.over()):
                raise
            return self._last

    def _push(self, found: dict[str, Any] | None, *, whole: bool = False, over: bool = False) -> None:
        message = {"n": next(self._numbers), "at": time(), **(found or {}), "over": over}
        if whole:
            self._widget.state = message  # state is also sent to pages that open later
        else:
            self._widget.send(message)

    def _freeze(self) -> None:
        frozen = self.frozen()
        if frozen != self._frozen and self._handle is not None:
            self._frozen = frozen
            self._handle.update(self._bundle(), raw=True)


def _by_view() -> bool:
    """Whether the front end shows widgets only for an output that names one, as VS Code and Colab do."""
    return "google.colab" in sys.modules or any(name in os.environ for name in ("VSCODE_PID", "VSCODE_CWD"))


_running_cells = 0


def _cell_runs() -> bool:
    return _running_cells > 0


def _on_cell_end(shell: Any, call: Callable[[], None]) -> Callable[[], None]:
    """Call ``call`` after each cell; returns a function that ends this."""
    global _running_cells
    if not getattr(shell, "_coserver_counts", False):
        shell._coserver_counts = True
        _running_cells = 1  # the cell that shows this panel
        shell.events.register("pre_run_cell", _cell_begins)
        shell.events.register("post_run_cell", _cell_ends)

    def ended(*_: Any) -> None:
        call()

    shell.events.register("post_run_cell", ended)

    def unlisten() -> None:
        try:
            shell.events.unregister("post_run_cell", ended)
        except ValueError:
            pass

    return unlisten


def _cell_begins(*_: Any) -> None:
    global _running_cells
    _running_cells = 1


def _cell_ends(*_: Any) -> None:
    global _running_cells
    _running_cells = 0


def _nothing() -> None:
    """Nothing to unregister: the panel was never shown."""
