"""A JupyterLab for the tests, and a page in Chromium: cells are run as a person runs them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TOKEN = "of-the-tests-alone"
PATIENCE = 60.0

_SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


@contextmanager
def running_lab(folder: Path) -> Iterator[str]:
    """Run a JupyterLab; its URL. It writes only into ``folder``. It and its kernels end with the block."""
    settings = folder / "settings"
    for name, given in _SETTINGS.items():
        path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(given))
    (folder / "work").mkdir()
    environment = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
        "JUPYTERLAB_SETTINGS_DIR": str(settings), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"), "HOME": str(folder), "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }  # fmt: skip
    port = free_port()
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder / 'work'}", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with (folder / "lab.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/api?token={TOKEN}"))
        if process.poll() is not None:
            raise RuntimeError((folder / "lab.log").read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Page:
    """A notebook in the browser: ``open`` writes one, ``run`` runs a cell."""

    def __init__(self, browser: Any, url: str, work: Path, **more: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1200, "height": 1000}, **more)
        self.page.set_default_timeout(PATIENCE * 1000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._url, self._work = url, work
        self._prompts: dict[int, str] = {}  # what stood before a cell when it was started

    def open(self, name: str, cells: list[str], kernel: str = "python3") -> None:
        """Write a notebook of these cells, and open it with a kernel."""
        notebook = {
            "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": kernel, "display_name": "Python", "language": "python"}},
            "cells": [
                {"cell_type": "code", "id": f"cell-{at}", "metadata": {}, "outputs": [], "execution_count": None,
                 "source": source.strip()}
                for at, source in enumerate(cells)
            ],
        }  # fmt: skip
        (self._work / f"{name}.ipynb").write_text(json.dumps(notebook))
        self.open_file(name)
        wait_until(self._has_kernel)

    def _has_kernel(self) -> bool:
        """Whether the kernel runs and the page is connected; earlier input would be lost."""
        try:
            with urlopen(f"{self._url}/api/kernels?token={TOKEN}", timeout=PATIENCE) as response:
                there = json.loads(response.read())
        except OSError:  # it may answer 500 while one begins
            return False
        idle = self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").count()
        return bool(idle) and any(one["connections"] and one["execution_state"] == "idle" for one in there)

    def open_file(self, name: str) -> None:
        self.page.goto(f"{self._url}/doc/tree/{name}.ipynb?token={TOKEN}")
        self.page.locator(".jp-Cell").first.wait_for()

    def cell(self, at: int) -> Any:
        return self.page.locator(".jp-Cell").nth(at)

    def start_cell(self, at: int) -> None:
        """Start the cell."""
        self._prompts[at] = self._prompt(at)
        self.cell(at).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")

    def run(self, at: int) -> str:
        """Run the cell to its end; its output."""
        self.start_cell(at)
        self.wait_for_end(at)
        return str(self.cell(at).locator(".jp-OutputArea").first.inner_text())

    def wait_for_end(self, at: int) -> None:
        """Wait for the cell that ``start_cell`` started."""
        wait_until(lambda: self._prompt(at) != self._prompts[at] and re.search(r"[0-9]", self._prompt(at)))

    def _prompt(self, at: int) -> str:
        return str(self.cell(at).locator(".jp-InputPrompt").inner_text())

    def save(self) -> None:
        self.page.keyboard.press("Control+s")

    def saved(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self._work / f"{name}.ipynb").read_text()))

    def keep(self, name: str) -> None:
        """Save a screenshot if SCREENSHOTS names a folder."""
        if folder := os.environ.get("SCREENSHOTS"):
            self.page.screenshot(path=Path(folder, f"notebook-{name}.png"), full_page=True)

    def set_theme(self, name: str) -> None:
        """Set the theme as the settings menu does: "JupyterLab Dark", "JupyterLab Light"."""
        folder = self._work.parent / "settings" / "@jupyterlab" / "apputils-extension"
        (folder / "themes.jupyterlab-settings").write_text(json.dumps({"theme": name}))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def wait_until(done: Any, patience: float = PATIENCE) -> None:
    """Poll a condition."""
    until = time.monotonic() + patience
    while not done():
        if time.monotonic() > until:
            raise TimeoutError("it has not come to be")
        time.sleep(0.05)
