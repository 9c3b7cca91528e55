"""``--reload``: which files count, and the addresses of successive children."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from coserver_cli.reload.watch import WatchedFolders

from ..conftest import TIMEOUT
from .commands import Serve, ask, count, until, write
from .commands import folder as folder


def test_nobody_listens_to_files_that_are_none_of_the_app(serve: Serve, folder: Path) -> None:
    for name in (".venv/lib", "__pycache__", ".git", "own-env/lib"):
        (folder / name).mkdir(parents=True)
    (folder / "own-env" / "pyvenv.cfg").touch()
    running = serve("app", "--reload")
    port = running.port
    for name in (".venv/lib/x.py", "__pycache__/x.py", ".git/x.toml", "own-env/lib/x.py", "notes.txt", ".app.py.swp"):
        (folder / name).write_text("x")
    time.sleep(0.5)
    assert count(running, "reloading") == 0
    (folder / ".env").write_text("X=1\n")
    running.wait_for("^.env changed: reloading$")
    assert ask(port) == (200, "one")


def test_which_files_count(tmp_path: Path) -> None:
    """The project itself may lie in a folder of a name that is ignored inside it."""
    project = tmp_path / "node_modules" / ".venv" / "project"
    (project / "inner").mkdir(parents=True)
    watched = WatchedFolders([project, project / "inner", project])
    assert watched.folders == [project.resolve()]
    for name, counts in {
        "app.py": True, "inner/x.py": True, "coserver.toml": True, ".env": True, ".env.local": True, "prod.env": True,
        "node_modules/x.py": False, "inner/.git/x.py": False, "x.pyc": False, "README.md": False,
    }.items():  # fmt: skip
        assert watched.counts(project.resolve() / name) is counts, name
    assert not watched.counts(tmp_path.resolve() / "x.py")


def test_a_system_that_cannot_watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def watch(*_: object, **__: object) -> None:
        raise OSError(28, "no watches are left")

    monkeypatch.setattr("watchfiles.watch", watch)
    why: list[str] = []
    WatchedFolders([tmp_path]).watch(lambda _: None, why.append)()
    assert why == ["[Errno 28] no watches are left"]


def test_another_folder(serve: Serve, folder: Path) -> None:
    (folder / "watched").mkdir()
    running = serve("app", "--reload-dir", "watched")
    port = running.port
    write(folder, "two")
    time.sleep(0.3)
    assert ask(port) == (200, "one")
    (folder / "watched" / "x.py").touch()
    until(port, 200, "two")
    running.wait_for("^watched/x.py changed: reloading$")
    (folder / "watched" / "x.py").unlink()
    running.wait_for("^watched/x.py deleted: reloading$")


def test_a_unix_socket_stays_and_goes_at_the_end(serve: Serve, folder: Path) -> None:
    path = folder / "shop.sock"
    running = serve("app", "--reload", "--uds", str(path), port=False)
    running.wait_for("Press")
    inode = path.stat().st_ino
    write(folder, "two")
    running.wait_for("^serving shop again$")
    assert path.stat().st_ino == inode
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1000).endswith(b"two")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert not path.exists()


def test_a_busy_port_ends_it(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        running = serve("app", "--reload", "--port", str(taken.getsockname()[1]), port=False)
        assert running.ended() == 1
    assert "is taken by another process" in "\n".join(running.lines)


def test_another_address_in_the_configuration_is_listened_on(serve: Serve, folder: Path) -> None:
    (folder / "coserver.toml").write_text('app = "app"\nhost = "127.0.0.1"\nport = 0\n')
    running = serve("--reload", port=False)
    port = running.port
    (folder / "coserver.toml").write_text(f'app = "app"\nhost = "0.0.0.0"\nport = {port}\n')
    running.wait_for(rf"http://127\.0\.0\.1:{port}\s+HTTP, \d routes, on all addresses")
    assert ask(port) == (200, "one")
    (folder / "coserver.toml").write_text("no toml\n")
    running.wait_for("waiting for a change")
    assert ask(port)[0] == 503
