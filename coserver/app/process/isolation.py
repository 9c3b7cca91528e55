"""A server in a process of its own: a cell's computation does not slow its handlers, and the reverse.

IsolatedServer asks the process over its control socket. This process binds the listening sockets and keeps them. The
next server of the same name takes duplicates of them, in this process or in another, so that no client is refused. The
other process ends with this one, however this one ends: it reads from a pipe that is closed then.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ...control.client import Client, Refused, Unreachable
from ...observe.filters import Filter
from ...observe.snapshot.snapshot import Snapshot
from ...server.handler.errors import SetupError
from .. import registry
from ..address import Address, Addressed, proxy_pattern
from ..config.settings import Settings
from ..config.validate import seconds
from ..inspect.display import show_snapshot
from ..listeners import plan_listeners
from ..sockets import BoundListener, CannotListen
from .child import LENGTH, REPLACED
from .pickler import pack
from .remote import RemoteStepper, RemoteTraces

if TYPE_CHECKING:
    from ...notebook.live import LiveTable
    from ..app import App
    from ..server import Server

#: Seconds for the process to listen: enough to import a big library on a busy machine.
_START_TIMEOUT = 120.0
#: Seconds for the process to end: after its handlers' cleanup, and again after its pipe is closed. Then it is killed.
_END_TIMEOUT = 3.0
#: Seconds to wait for a replaced server's last accept; a stuck loop accepts nobody.
_LAST_ACCEPT = 1.0

#: All whose process has not ended; ``registry.isolated`` has those that accept clients.
_running: set[IsolatedServer] = set()
_lock = threading.RLock()


class IsolatedServer(Addressed):
    """A server in a process of its own: ``app.start(isolated=True)``. ``with server:`` stops it at the block's end.

    Handlers that are defined later are served after the next start.
    """

    def __init__(self, app: App, settings: Settings, options: dict[str, Any]) -> None:
        """Returns when the process listens. Raises SetupError, OSError; a server of this name goes on then."""
        self.name = app.name
        self.addresses = ()
        self.bound: list[BoundListener] = []
        self._grace = settings.limits.grace
        self._cleanup = settings.limits.cleanup_timeout + _END_TIMEOUT
        self._process: subprocess.Popen[bytes] | None = None
        self._replaced: Server | None = None
        self._stopping = False
        plans = plan_listeners(app, settings)
        self._folder = tempfile.mkdtemp(prefix="coserver-")
        try:
            before, pickled = pack(app, {**options, "control": os.path.join(self._folder, "control")})
            with registry.lock:
                self.bound = registry.bind(app.name, [one.spec for one in plans])
            self._start(before, pickled)
        except BaseException:
            self._clear()
            raise
        threading.Thread(target=self._wait, name=f"coserver {self.name}", daemon=True).start()

    def _start(self, before: dict[str, Any], pickled: bytes) -> None:
        """Start the process on the bound sockets. Raises SetupError, CannotListen."""
        given = [
            (one.name, one.host, one.path, one.file, [sock.fileno() for sock in one.sockets]) for one in self.bound
        ]
        self._process, reading = _spawn([fd for *_, fds in given for fd in fds])
        threading.Thread(target=self._copy_output, name=f"coserver output {self.name}", daemon=True).start()
        try:
            assert self._process.stdin is not None
            for part in (pickle.dumps({**before, "sockets": given}), pickled):
                self._process.stdin.write(LENGTH.pack(len(part)) + part)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process reports the reason
        report = _read_report(reading)
        if "error" in report:
            self._end()
            raise (CannotListen if "CannotListen" in report["kind"] or "OSError" in report["kind"] else SetupError)(
                f"the process of {self.name!r} did not start: {report['kind']}: {report['error']}"
            )
        self.addresses = tuple(Address(**one) for one in report["addresses"])
        self._client = Client(report["control"])

    def replace(self, here: Server | None, apart: registry.Isolated | None) -> None:
        """Take the place of the servers of this name. When this returns, they accept no client any more."""
        if apart is not None:
            apart.give_way()
        if here is not None:
            self._replaced = here
            here.begin_stop()
            until = monotonic() + _LAST_ACCEPT
            while here.accepting and not here.on_its_thread and monotonic() < until:
                sleep(0.001)

    def __repr__(self) -> str:
        state = f"process {self.pid}" if self.running else "stopped"
        return f"<IsolatedServer {self.name!r} {', '.join(address.url for address in self.addresses)}, {state}>"

    def __enter__(self) -> IsolatedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's number."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """False once its process has ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def traces(self) -> RemoteTraces:
        """The finished exchanges, if they are recorded: ``app.start(isolated=True, record=True)``."""
        return RemoteTraces(self._client, self.name)

    def snapshot(self) -> Snapshot:
        """A frozen picture of connections, exchanges, upstreams and counters. Raises Unreachable after the end."""
        return show_snapshot(self._client.snapshot())

    def step(
        self, filter: str | Filter = "", at: str | Iterable[str] = "handler", *, limit: float | None = None
    ) -> RemoteStepper:
        """See Server.step."""
        return RemoteStepper(self._client, self.name, str(filter) if filter else "", at, limit)

    def live(self, filter: str | Filter = "", *, record: bool = True) -> LiveTable:
        """See Server.live."""
        from ...notebook.live import LiveTable

        table = LiveTable(self, filter, proxy_pattern()[0])
        if record and self.running:
            self.traces.start()
        return table

    def stop(self, grace: float | None = None) -> None:
        """Stop accepting, let exchanges end within ``grace`` seconds, then cancel them and end the process.

        Twice is fine.
        """
        grace = seconds(grace)
        self._stopping = True
        self._close_listeners()
        if self._process is not None and self.running:
            try:
                self._client.drain(grace)
                self._process.wait((self._grace if grace is None else grace) + self._cleanup)
            except (Unreachable, Refused, subprocess.TimeoutExpired):
                pass
        self._end()
        if self._replaced is not None and not self._replaced.on_its_thread:
            self._replaced.stop(grace)

    # Its process.

    def give_way(self) -> None:
        """Stop accepting: the successor accepts instead. Returns then; the drain goes on in a thread."""
        self._stopping = True
        until = monotonic() + _LAST_ACCEPT
        try:
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(REPLACED)
            self._process.stdin.flush()
            while self._client.ask_about()["state"] == "running" and monotonic() < until:
                sleep(0.005)
        except (Unreachable, Refused, OSError, ValueError):
            pass  # the process has ended
        threading.Thread(target=self.stop, name=f"coserver end {self.name}", daemon=True).start()

    def _end(self) -> None:
        assert self._process is not None
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clear()

    def _wait(self) -> None:
        """Wait until the process has ended; tell people if it ended by itself."""
        assert self._process is not None
        status = self._process.wait()
        if not self._stopping:
            how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            print(f"coserver: the process of {self.name!r} has ended by itself, {how}", file=sys.stderr)
        self._end()

    def _copy_output(self) -> None:
        """Copy the process's output, with its log and tracebacks, to stderr."""
        assert self._process is not None
        out = self._process.stdout
        assert out is not None
        with out:
            for line in out:
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()

    def forget(self) -> None:
        """Close this process's descriptors alone, in a forked child."""
        for one in self.bound:
            one.forget()
        if self._process is not None:
            for file in (self._process.stdin, self._process.stdout):
                if file is not None:
                    file.raw.close()  # type: ignore[attr-defined]  # a thread of the parent may hold the buffer's lock
            self._process.returncode = 0  # only its parent may wait for it
        self.bound = []
        self._replaced = None
        self._folder = ""  # nor is the folder to be removed here

    def _close_listeners(self) -> None:
        """Close this process's sockets; remove the files of UNIX sockets that no successor listens on."""
        with registry.lock:
            if registry.isolated.get(self.name) is self:
                del registry.isolated[self.name]
            bound, self.bound = self.bound, []
            registry.close(self.name, bound)

    def _clear(self) -> None:
        self._close_listeners()
        shutil.rmtree(self._folder, ignore_errors=True)
        _running.discard(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...notebook.cell import server_bundle

        return server_bundle(self)

    def _ipython_display_(self) -> None:
        from ...notebook.cell import kernel_shell, show_links

        show_links(self)
        if self.running and kernel_shell() is not None:
            self.live().show()


def start(app: App, settings: Settings, options: dict[str, Any]) -> IsolatedServer:
    """Start an isolated server in the place of the server of this name, which goes on if the start fails.

    Raises SetupError, OSError.
    """
    with _lock:
        server = IsolatedServer(app, settings, options)
        _running.add(server)
        with registry.lock:
            here, apart = registry.running(app.name), registry.isolated.get(app.name)
            registry.isolated[app.name] = server
        server.replace(here, apart)
    if "IPython" in sys.modules:
        from ...notebook.cell import show_at_end, show_links

        show_at_end(server, show_links)
    return server


def _spawn(inherited: list[int]) -> tuple[subprocess.Popen[bytes], int]:
    """Start the process. Returns it, and the descriptor to read its report from."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "coserver.app.process.child", str(writing)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[writing, *inherited],
            start_new_session=True,  # an interrupt of a cell must not reach it
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return process, reading


def _read_report(reading: int) -> dict[str, Any]:
    """The process's report: its addresses, or the error that kept it from listening."""
    with os.fdopen(reading) as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        if not poll.poll(_START_TIMEOUT * 1000):
            return {"kind": "TimeoutError", "error": f"it does not listen after {_START_TIMEOUT:g} s"}
        line = file.readline()
    report: dict[str, Any] = (
        json.loads(line) if line else {"kind": "EOFError", "error": "it ended; see what it printed"}
    )
    return report


def _after_fork() -> None:
    """Leave the processes to the parent: a forked child must not end them, nor keep their pipes and ports open."""
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it
    for server in _running:
        server.forget()
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _stop_all() -> None:
    for server in list(_running):
        server._stopping = True
        server._end()
