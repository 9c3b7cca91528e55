"""A server in a real kernel: shown under its cell with its failures, changed by later cells, never left running.

One kernel for the file; the tests speak to it as a notebook does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
from jupyter_client.manager import start_new_kernel

psutil = pytest.importorskip("psutil", reason="psutil is not installed")

PATIENCE = 60

SETUP = """
from coserver import App
app = App("cell")

@app.get("/")
def index():
    return "first"

@app.get("/bad")
def bad():
    return {}["missing key"]
"""


class Notebook:
    """Runs cells; ``displays`` has the newest bundle of each display id."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client
        self.displays: dict[str, dict[str, str]] = {}

    def run(self, code: str) -> str:
        """The text of all outputs. Raises AssertionError for an error."""
        number = self.client.execute(code)
        said: list[str] = []
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            self._heed(message, said)
            mine = message["parent_header"].get("msg_id") == number
            if mine and message["msg_type"] == "error":
                said.append("\n".join(message["content"]["traceback"]))
            if mine and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return "".join(said)

    def hear_until(self, done: Callable[[], bool]) -> None:
        """Read messages between two cells."""
        while not done():
            self._heed(self.client.get_iopub_msg(timeout=PATIENCE), [])

    def hear_word(self, word: str) -> None:
        """Read messages until a cell has printed the word."""
        said: list[str] = []
        while word not in "".join(said):
            self._heed(self.client.get_iopub_msg(timeout=PATIENCE), said)

    def hear_reply(self, number: str) -> dict[str, Any]:
        """Read messages until the end of a cell."""
        while True:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"]["msg_id"] == number:
                return dict(reply["content"])

    def _heed(self, message: Any, said: list[str]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] in ("display_data", "update_display_data", "execute_result"):
            name = content.get("transient", {}).get("display_id")
            if name:
                self.displays[name] = content["data"]
            said.append(content["data"].get("text/plain", ""))


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=PATIENCE)
    try:
        yield Notebook(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def ask(url: str) -> str:
    with urlopen(url, timeout=PATIENCE) as response:
        return str(response.read().decode())


def port_of(notebook: Notebook) -> int:
    return int(notebook.run("print(server.port)"))


def card_of(notebook: Notebook) -> str:
    """The display of the server's link and failures."""
    (name,) = [name for name, shown in notebook.displays.items() if "<Server" in shown["text/plain"]]
    return name


def test_a_cell_that_starts_a_server_ends_with_its_link(notebook: Notebook) -> None:
    assert "<Server 'cell' http://127.0.0.1:" in notebook.run(f"{SETUP}\nserver = app.start()")
    (shown,) = notebook.displays.values()
    url = f"http://127.0.0.1:{port_of(notebook)}"
    assert f'<a href="{url}"' in shown["text/html"]
    assert ask(url) == "first"


def test_a_server_that_is_shown_is_shown_once(notebook: Notebook) -> None:
    before = port_of(notebook)
    notebook.displays.clear()
    said = notebook.run(f"{SETUP}\nserver = app.start()\nserver")
    assert said.count("<Server 'cell'") == 1
    live = [shown for name, shown in notebook.displays.items() if name != card_of(notebook)]
    assert len(live) == 1
    assert "cell: running" in live[0]["text/plain"]
    assert "no connection is open" in live[0]["text/html"]
    assert port_of(notebook) == before  # run again it replaces the other, on its port
    assert "<Server" not in notebook.run("with App('short').start() as short: pass")


def test_what_a_handler_raises_stands_under_the_server(notebook: Notebook) -> None:
    url = f"http://127.0.0.1:{port_of(notebook)}"
    name = card_of(notebook)
    with pytest.raises(OSError, match="500"):
        ask(f"{url}/bad")
    notebook.hear_until(lambda: "KeyError" in notebook.displays[name]["text/html"])
    shown = notebook.displays[name]
    for kind in ("text/plain", "text/html"):
        assert "GET /bad" in shown[kind]
        assert "missing key" in shown[kind]
        assert "in bad" in shown[kind]
        assert "connection.py" not in shown[kind]  # the server's own frames
    assert "KeyError" in notebook.run("print(server.failures[-1].traceback)")
    assert card_of(notebook) == name


def test_many_failures_are_bounded(notebook: Notebook) -> None:
    url = f"http://127.0.0.1:{port_of(notebook)}"
    name = card_of(notebook)
    for number in range(20):
        with pytest.raises(OSError, match="500"):
            ask(f"{url}/bad?{number}")
    notebook.hear_until(lambda: "GET /bad?19:" in notebook.displays[name]["text/html"])
    assert notebook.displays[name]["text/html"].count("<details") == 5
    assert "16 earlier failures are not shown" in notebook.displays[name]["text/plain"]


def test_a_handler_defined_again_answers_at_once_and_it_is_said(notebook: Notebook) -> None:
    url = f"http://127.0.0.1:{port_of(notebook)}"
    said = notebook.run("@app.get('/')\ndef index():\n    return 'second'")
    assert said.count("GET / now uses ") == 1
    assert ask(url) == "second"


def test_interrupting_a_cell_leaves_the_server_up(notebook: Notebook) -> None:
    url = f"http://127.0.0.1:{port_of(notebook)}"
    number = notebook.client.execute("print('asleep', flush=True)\nimport time\ntime.sleep(600)")
    notebook.hear_word("asleep")
    assert ask(url) == "second"  # while the cell sleeps
    notebook.manager.interrupt_kernel()
    assert notebook.hear_reply(number)["ename"] == "KeyboardInterrupt"
    assert ask(url) == "second"


def test_tables_and_waterfalls_show_themselves(notebook: Notebook) -> None:
    notebook.run("server.traces.start();")
    ask(f"http://127.0.0.1:{port_of(notebook)}/")
    assert "/" in notebook.run("server.traces")
    assert "<ShownTrace" in notebook.run("server.traces[-1]")
    assert "cell: running" in notebook.run("server.snapshot()")


def test_autoreload_leaves_no_port_behind(notebook: Notebook, tmp_path: Path) -> None:
    module = tmp_path / "shop_of_a_module.py"
    text = "from coserver import App\napp = App('module')\n@app.get('/')\ndef index(): return 'WORD'\n"
    module.write_text(text.replace("WORD", "one") + "server = app.start()\n")
    notebook.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n%load_ext autoreload\n%autoreload 2")
    listening = (
        "\nimport psutil\nfound = psutil.Process().net_connections('tcp')\n"
        "print('ports', len([1 for one in found if one.status == 'LISTEN']))"
    )
    said = notebook.run(f"import shop_of_a_module\nprint('port', shop_of_a_module.server.port){listening}").split()
    port, ports = said[said.index("port") + 1], said[said.index("ports") + 1]
    assert ask(f"http://127.0.0.1:{port}/") == "one"
    module.write_text(text.replace("WORD", "two") + "server = app.start()\n")
    os.utime(module, (time.time() + 10, time.time() + 10))
    said = notebook.run(f"print('port', shop_of_a_module.server.port){listening}").split()
    assert [said[said.index("port") + 1], said[said.index("ports") + 1]] == [port, ports]
    assert ask(f"http://127.0.0.1:{port}/") == "two"


def test_a_server_of_its_own_process_is_made_of_cells(notebook: Notebook) -> None:
    said = notebook.run(
        "apart, greeting = App('apart'), 'from a cell'\n@apart.get('/')\ndef hello(): return greeting\n"
        "there = apart.start(isolated=True)\nprint('port', there.port)"
    )
    assert "<IsolatedServer 'apart'" in said
    port = said.split()[said.split().index("port") + 1]
    assert ask(f"http://127.0.0.1:{port}/") == "from a cell"
    # A cell that computes, until the other process has answered.
    said = notebook.run(
        "import os, threading, urllib.request\nheard = []\n"
        "def hear():\n    with urllib.request.urlopen(there.url, timeout=60) as answer: heard.append(answer.read())\n"
        "threading.Thread(target=hear).start()\nwhile not heard: pass\n"
        "print(heard, os.getpgid(there.pid) == os.getpgid(0))"
    )
    assert "[b'from a cell'] False" in said  # and what interrupts the kernel's group is not for it


def test_a_restarted_kernel_leaves_no_port(notebook: Notebook) -> None:
    ports = [port_of(notebook), int(notebook.run("print(there.port)"))]
    process = int(notebook.run("print(there.pid)"))
    notebook.manager.restart_kernel(now=True)  # by SIGKILL: nothing of it runs at its end
    notebook.client.wait_for_ready(timeout=PATIENCE)
    until = time.monotonic() + PATIENCE
    while any(listens(port) for port in ports) or psutil.pid_exists(process):
        assert time.monotonic() < until
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
