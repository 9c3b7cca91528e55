"""Tests see only the servers that they start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coserver.control import socket_path


def test_no_server_of_the_machine_is_seen() -> None:
    folder = socket_path.folder()
    assert folder.parent == Path(os.environ["XDG_RUNTIME_DIR"])  # so the folder is usable, and its path short enough
    assert folder.parent.name.startswith("cs-")
    assert {pid for _, pid, _ in socket_path.running()} <= {os.getpid()}


def test_a_child_has_the_same_folder_and_leaves_it() -> None:
    code = "from coserver.control import socket_path; print(socket_path.folder())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(socket_path.folder())
    assert os.path.isdir(os.environ["XDG_RUNTIME_DIR"])
