"""Questions of a page to this process's panels: they come by the kernel or by the page's port; each is answered once.

A kernel that runs a cell does not answer. The page then asks again by the port, under the same number. The first of the
two is carried out; the second gets the same answer.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

from ..control.page_port import PagePort

#: Answers that are kept for repeated questions; the kernel reads the second one when the cell has ended.
_KEPT = 200

log = logging.getLogger("coserver.notebook")


class Answerer(Protocol):
    """A panel: it answers questions of its page."""

    @property
    def mark(self) -> str: ...

    def answer(self, what: str, given: dict[str, Any]) -> Any: ...


class Questions:
    """All panels of a process. The page_port is there as long as a panel is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._panels: dict[str, Answerer] = {}
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._under_way: dict[str, threading.Event] = {}
        self.page_port: PagePort | None = None

    def enter(self, panel: Answerer) -> PagePort | None:
        """The page_port to ask past the kernel; None if there can be none."""
        with self._lock:
            self._panels[panel.mark] = panel
            if self.page_port is None:
                try:
                    self.page_port = PagePort(self.by_port)
                except OSError as error:
                    log.warning("clicks wait while a cell runs, because no port of 127.0.0.1 is free: %s", error)
            return self.page_port

    def leave(self, panel: Answerer) -> None:
        """Remove a panel. Idempotent."""
        with self._lock:
            self._panels.pop(panel.mark, None)
            page_port = None
            if not self._panels:
                page_port, self.page_port = self.page_port, None
                self._answers.clear()
        if page_port is not None:
            page_port.close()

    def by_kernel(self, given: dict[str, Any]) -> dict[str, Any]:
        """Answer a message to the kernel; on another thread if the kernel has subshells."""
        on_main = threading.current_thread() is threading.main_thread()
        return self._ask(given, "kernel" if on_main else "subshell")

    def by_port(self, given: dict[str, Any]) -> dict[str, Any]:
        return self._ask(given, "port")

    def _ask(self, given: dict[str, Any], way: str) -> dict[str, Any]:
        number = str(given.get("id", ""))
        with self._lock:
            known = self._answers.get(number)
            other = self._under_way.get(number)
            if known is None and other is None:
                self._under_way[number] = threading.Event()
            panel = self._panels.get(str(given.get("to", "")))
        if other is not None:
            other.wait()
            known = self._answers.get(number)
        if known is not None:
            return known
        found = {"re": number, "way": way, **_answer(panel, given)}
        with self._lock:
            self._answers[number] = found
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
            self._under_way.pop(number).set()
        return found


def _answer(panel: Answerer | None, given: dict[str, Any]) -> dict[str, Any]:
    if panel is None:
        return {"error": "this panel is closed"}
    try:
        return {"answer": panel.answer(str(given.get("what", "")), given)}
    except Wrong as error:
        return {"error": str(error)}
    except Exception as error:
        log.exception("the page's question %r failed", given.get("what"))
        return {"error": f"{type(error).__name__}: {error}"}


class Wrong(Exception):
    """The question cannot be answered; the message is for the person at the page."""


#: The questions of this process.
questions = Questions()
Answer = Callable[[str, dict[str, Any]], Any]
