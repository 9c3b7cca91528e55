"""redis, PostgreSQL and MariaDB as Debian has them: on free ports, with folders of their own, ended with the block."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
REDIS = shutil.which("redis-server", path=_PATH)
MARIADB = shutil.which("mariadbd", path=_PATH) or shutil.which("mysqld", path=_PATH)
MARIADB_INSTALL = shutil.which("mariadb-install-db", path=_PATH)


def _newest_postgres() -> str | None:
    """Debian keeps each version's programs in a folder of its own, off the path."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    if found:
        return os.path.dirname(max(found, key=lambda path: float(path.split("/")[4])))
    there = shutil.which("initdb", path=_PATH)
    return there and os.path.dirname(os.path.realpath(there))


POSTGRES = _newest_postgres()

needs_redis = pytest.mark.skipif(REDIS is None, reason="redis-server is not installed (.ci/run installs it)")
needs_postgres = pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed (.ci/run installs it)")
needs_mariadb = pytest.mark.skipif(
    MARIADB is None or MARIADB_INSTALL is None, reason="mariadb-server is not installed (.ci/run installs it)"
)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def data_folder() -> Iterator[Path]:
    """Not pytest's: its folders are closed to other users. Short: a UNIX socket's path holds 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="coserver-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _as_user(folder: Path, *names: str) -> dict[str, Any]:
    """How to run a server that refuses to be root's: for Popen. The folder becomes that user's."""
    if os.getuid() != 0:
        return {}
    for name in (*names, "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    return {}


@contextmanager
def _serving(
    command: list[str],
    folder: Path,
    port: int,
    *,
    end: int = signal.SIGTERM,
    ready: Callable[[], bool] | None = None,
    **how: Any,
) -> Iterator[int]:
    """The server of ``command``, as soon as it is ready, or else takes connections; ended at the end."""
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, **how)
    try:
        _until(ready or (lambda: _connects(port)), process, folder)
        yield port
    finally:
        process.send_signal(end)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def _until(ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + 30
    while not ready():
        said = (folder / "said").read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"it ended instead of listening:\n{said}"
        assert time.monotonic() < until, f"it did not listen within 30 s:\n{said}"
        time.sleep(0.02)


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Its port."""
    assert REDIS is not None
    port = free_port()
    command = [REDIS, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _serving(command, folder, port):
        yield port


def _postgres_serves(port: int) -> bool:
    """It takes connections earlier, to say "the database system is starting up"."""
    asked = [f"{POSTGRES}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(asked, check=False).returncode == 0


@contextmanager
def postgres_server(folder: Path) -> Iterator[int]:
    """Its port; the user ``postgres`` needs no password."""
    how = _as_user(folder, "postgres")
    data = folder / "data"
    made = subprocess.run(
        [f"{POSTGRES}/initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E", "UTF8"],
        cwd=folder, capture_output=True, text=True, check=False, **how,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    port = free_port()
    command = [
        f"{POSTGRES}/postgres", "-D", str(data), "-p", str(port), "-F", "-k", str(folder),
        "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=8MB", "-c", "autovacuum=off",
    ]  # fmt: skip
    # Fast shutdown: it ends what is connected.
    with _serving(command, folder, port, end=signal.SIGINT, ready=lambda: _postgres_serves(port), **how):
        yield port


@contextmanager
def mariadb_server(folder: Path) -> Iterator[int]:
    """Its port; the user ``root`` has the password that is empty."""
    assert MARIADB is not None
    assert MARIADB_INSTALL is not None
    how = _as_user(folder, "mysql")
    data = folder / "data"
    user = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    made = subprocess.run(
        [MARIADB_INSTALL, "--no-defaults", f"--datadir={data}", *user, "--innodb-flush-log-at-trx-commit=0"],
        cwd=folder, capture_output=True, text=True, check=False, **how,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr + made.stdout
    port = free_port()
    command = [
        MARIADB, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
        f"--socket={folder}/sock", f"--pid-file={folder}/pid", "--skip-name-resolve", "--innodb-buffer-pool-size=8M",
    ]  # fmt: skip
    with _serving(command, folder, port, **how):
        yield port
