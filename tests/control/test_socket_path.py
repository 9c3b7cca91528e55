"""Where the sockets lie: their owner's alone, cleaned of dead ones, and no two servers fight over one."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from coserver import App
from coserver.app.sockets import CannotListen
from coserver.control import socket_path as place
from coserver.control.client import Client, Unreachable, find

from .conftest import Controlled


def mode(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_only_its_owner_may(controlled: Controlled, runtime: Path) -> None:
    old = os.umask(0)
    try:
        server, _ = controlled()
    finally:
        os.umask(old)
    assert server.control is not None
    assert Path(server.control.path).parent == runtime
    assert (mode(runtime), mode(server.control.path)) == (0o700, 0o600)
    server.stop()
    assert not list(runtime.iterdir())


def test_found_by_name_and_number_and_path(controlled: Controlled, runtime: Path) -> None:
    with pytest.raises(Unreachable, match="no server is running here"):
        find()
    _, client = controlled()
    for what in (None, "shop", str(os.getpid()), client.where, Path(client.where).stem):
        assert find(what).where == client.where
    with pytest.raises(Unreachable, match=rf"'other'.*running are shop \(pid {os.getpid()}\)"):
        find("other")
    other = App(name="an odd näme/../with all that a file's may not have and more and more")
    with other.start(control="auto") as second:
        assert second.control is not None
        assert Path(second.control.path).parent == runtime
        assert find(other.name).about["server"] == other.name
        with pytest.raises(Unreachable, match="several servers run: give the name of one"):
            find()


def test_two_of_one_name_do_not_fight(app: App, controlled: Controlled) -> None:
    first, _ = controlled()
    assert first.control is not None
    second, _ = controlled()  # takes the first one's place
    assert second.control is not None
    assert second.control.path != first.control.path
    assert find("shop").about["state"] == "running"
    first.stop()
    assert not os.path.exists(first.control.path)
    assert find("shop").where == second.control.path


def test_a_path_of_ones_own(app: App, runtime: Path, tmp_path: Path) -> None:
    path = str(runtime.parent / "mine.sock")
    with app.start(control=path) as server:
        assert mode(path) == 0o600
        assert find(path).name == "shop"
        with pytest.raises(CannotListen, match="another server controls by"):
            App(name="second").start(control=path)
        assert server.running
    assert not os.path.exists(path)
    Path(path).write_text("precious")
    with pytest.raises(CannotListen, match="is not a socket"):
        app.start(control=path)
    assert Path(path).read_text() == "precious"
    with pytest.raises(CannotListen, match="103 bytes"):
        app.start(control="/tmp/" + "x" * 120)


def test_stale_ones_are_removed(app: App, runtime: Path) -> None:
    runtime.mkdir(mode=0o700)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = runtime / f"shop-{ended.pid}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    (runtime / "something else").write_text("kept")
    assert dead.exists()
    assert not list(place.running())
    assert not dead.exists()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(runtime / f"shop-{os.getpid()}.sock"))
    with app.start(control="auto") as server:  # of this process's own number, left over from another life
        assert server.control is not None
        assert Client(server.control.path).name == "shop"


def test_a_folder_that_is_not_ones_own_is_not_used(
    app: App, runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    with app.start(control="auto") as server:  # it serves all the same, and says why it cannot be controlled
        assert server.control is None
    assert "cannot be controlled" in caplog.text
    assert "mode 0700" in caplog.text
    runtime.rmdir()
    elsewhere = runtime.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    runtime.symlink_to(elsewhere)
    with pytest.raises(place.NoPlace):
        place.make_folder()


def test_without_a_runtime_folder(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere/at/all")
    monkeypatch.setattr("tempfile.tempdir", str(runtime.parent))
    assert place.make_folder() == runtime.parent / f"coserver-{os.getuid()}"
    assert mode(place.folder()) == 0o700


def test_a_runtime_folder_of_somebody_else(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    """After ``su`` or ``sudo`` the variable may still name the other user's: nothing is made there."""
    monkeypatch.setattr("tempfile.tempdir", str(runtime.parent))
    assert place.folder() == runtime
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    assert place.folder() == runtime.parent / f"coserver-{own + 1}"


def test_who_looks_does_not_look_into_anybody_elses_folder(runtime: Path) -> None:
    """Under the temporary folder everybody may make one of any name, and listen in it."""
    runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(runtime / "shop-1.sock"))
        sock.listen()
        assert [name for name, *_ in place.running()] == ["shop"]
        runtime.chmod(0o777)
        assert not list(place.running())
        runtime.chmod(0o700)


def test_of_several_who_want_one_path_at_once_one_has_it(runtime: Path) -> None:
    """A stale socket lies there, and each would remove it: nobody may remove what another has just made."""
    path = str(runtime.parent / "one.sock")
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
        start = threading.Barrier(4)
        bound: list[Any] = []
        refused: list[int | None] = []
        threads = [threading.Thread(target=_bind, args=(path, start, bound, refused)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(bound), refused) == (1, [errno.EADDRINUSE] * 3)
        sock, file = bound[0]
        assert file is not None
        file.remove()
        sock.close()
    assert not os.path.exists(path)


def _bind(path: str, start: threading.Barrier, bound: list[Any], refused: list[int | None]) -> None:
    start.wait()
    try:
        bound.append(place.bind(path))
    except OSError as error:
        refused.append(error.errno)
