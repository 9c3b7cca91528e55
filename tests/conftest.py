"""What every test shares: the backends, the codecs, and a server under the order check and the leak check."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from typing import Any


def _own_runtime_folder() -> None:
    """Give this process of tests, and all that it starts, a folder of control sockets of its own.

    Other servers of the machine are not seen from there. The path is short, since a socket's has 103 bytes at most.
    """
    here = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None  # TMPDIR may be long
    folder, pid = tempfile.mkdtemp(prefix="cs-", dir=here), os.getpid()
    os.environ["XDG_RUNTIME_DIR"] = folder

    def remove() -> None:
        if os.getpid() == pid:  # not in a forked child
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)


_own_runtime_folder()  # before the first import that could look there

import anyio  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from coserver.protocol.codecs import CODECS  # noqa: E402

# hypothesis' own deadline is 0.2 s an example, which a busy machine misses; a test that hangs has pytest's.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

BACKENDS: list[Any] = [pytest.param(("asyncio", {}), id="asyncio")]
if find_spec("uvloop"):
    BACKENDS.append(pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))
if find_spec("trio"):
    BACKENDS.append(pytest.param(("trio", {}), id="trio"))


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Every async test runs on each backend."""
    return request.param


@pytest.fixture(params=sorted(CODECS))
def codec(request: pytest.FixtureRequest) -> str:
    """A test that asks for it runs with each codec."""
    return str(request.param)


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """For synchronous tests that start servers in threads: the word for ``backend=``."""
    name = str(request.param)
    if name != "asyncio" and not find_spec(name):
        pytest.skip(f"{name} is not installed")
    return name


@pytest.fixture(scope="session", autouse=True)
def _coverage_takes_no_lock() -> None:
    """Its tracer locks a table at each call, by a lock that the hooks know as any other: a worker would suspend in the
    tracer, and hardly get it beside a thread that calls in a loop. The interpreter's own lock is enough for that table.
    """
    if "coverage.collector" in sys.modules:
        for collector in sys.modules["coverage.collector"].Collector._collectors:
            collector.data_lock = None


@pytest.fixture(scope="session", autouse=True)
def _libuv_has_its_pipe() -> None:
    """libuv opens a pipe for signals with its first loop and keeps it until the process ends: no leak of a test."""
    if find_spec("uvloop"):
        anyio.run(anyio.sleep, 0, backend_options={"use_uvloop": True})
