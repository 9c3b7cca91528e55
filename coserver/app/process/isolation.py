"""A server in a process of its own: a cell that computes does not starve it, nor its handlers the cells.

The object in hand asks it by its control socket. The listening socket is made here, and stays over a rerun, so that no
client is refused. The process ends with this one, however that ends: it reads a pipe that closes then.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
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
from ...transport.listener import bind_tcp
from .. import registry
from ..address import Address, Addressed, proxy_pattern
from ..config.settings import Settings
from ..config.validate import seconds
from ..inspect.display import show_snapshot
from ..sockets import CannotListen
from .child import LENGTH
from .pickler import pack
from .remote import RemoteStepper, RemoteTraces
from .spawning import ending, report, spawn

if TYPE_CHECKING:
    from ...notebook.live import LiveTable
    from ..app import App

#: Seconds that it is given beyond its handlers' cleaning up; and when its pipe is closed, before it is killed.
_AFTER = 3.0

#: Seconds to wait for a replaced one's last accept; a loop that is stuck accepts nobody.
_LAST_ACCEPT = 1.0

_running: dict[str, IsolatedServer] = {}
_lock = threading.RLock()


class IsolatedServer(Addressed):
    """What ``app.start(isolated=True)`` returns. ``with server:`` stops it at the end of the block.

    Handlers that are defined later are not there before it is started again.
    """

    def __init__(self, app: App, settings: Settings, options: dict[str, Any]) -> None:
        """Returns when it listens. Raises SetupError, OSError."""
        self.name = app.name
        self.addresses = ()
        self._grace = settings.limits.grace
        self._cleanup = settings.limits.cleanup_timeout + _AFTER
        self._door: socket.socket | None = None
        self._folder = tempfile.mkdtemp(prefix="coserver-")
        self._stopping = False
        before = _running.get(self.name)
        try:
            self._start(app, settings, options, before)
        except BaseException:
            self._clear()
            raise
        threading.Thread(target=self._wait, name=f"coserver {self.name}", daemon=True).start()
        if before is not None:
            before._replaced()

    def _start(self, app: App, settings: Settings, options: dict[str, Any], before: IsolatedServer | None) -> None:
        alone = not (app.tcp_routes or app.listeners or settings.listeners)
        if before is not None and not alone:
            before.stop()  # its other ports are taken until then
        given = {**options, "control": os.path.join(self._folder, "control")}
        if settings.uds is None and settings.fd is None:
            self._door = _door(settings, before)
            if self._door is not None:
                given |= {"fd": self._door.fileno()}
                for name in ("host", "port"):
                    given.pop(name, None)
        parts = pack(app, given)
        self._process, reading = spawn([] if self._door is None else [self._door.fileno()])
        threading.Thread(target=self._pass_on, name=f"coserver output {self.name}", daemon=True).start()
        try:
            assert self._process.stdin is not None
            for part in parts:
                self._process.stdin.write(LENGTH.pack(len(part)) + part)
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it reports says why
        told = report(reading)
        if "error" in told:
            self._end()
            raise (CannotListen if "CannotListen" in told["kind"] or "OSError" in told["kind"] else SetupError)(
                f"the process of {self.name!r} did not start: {told['kind']}: {told['error']}"
            )
        self.addresses = tuple(Address(**one) for one in told["addresses"])
        self._client = Client(told["control"])

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
        return self._process.pid

    @property
    def running(self) -> bool:
        """False once its process has ended."""
        return self._process.poll() is None

    @property
    def traces(self) -> RemoteTraces:
        """The exchanges that are over, if they are recorded: ``app.start(isolated=True, record=True)``."""
        return RemoteTraces(self._client, self.name)

    def snapshot(self) -> Snapshot:
        """A frozen picture of connections, exchanges, upstreams and counters. Raises Unreachable once it has ended."""
        return show_snapshot(self._client.snapshot())

    def step(
        self, filter: str | Filter = "", at: str | Iterable[str] = "handler", *, limit: float | None = None
    ) -> RemoteStepper:
        """As Server.step."""
        return RemoteStepper(self._client, self.name, str(filter) if filter else "", at, limit)

    def live(self, filter: str | Filter = "", *, record: bool = True) -> LiveTable:
        """As Server.live."""
        from ...notebook.live import LiveTable

        table = LiveTable(self, filter, proxy_pattern()[0])
        if record and self.running:
            self.traces.start()
        return table

    def stop(self, grace: float | None = None) -> None:
        """Stop accepting, let what runs end within ``grace`` seconds, cancel it; the process ends. Twice is fine."""
        grace = seconds(grace)
        self._stopping = True
        self._close_door()
        if self.running:
            try:
                self._client.drain(grace)
                self._process.wait((self._grace if grace is None else grace) + self._cleanup)
            except (Unreachable, Refused, subprocess.TimeoutExpired):
                pass
        self._end()

    # Its process.

    def _replaced(self) -> None:
        """Another accepts on its socket: it accepts no more when this returns; it drains, and nobody waits for that."""
        self._stopping = True
        until = monotonic() + _LAST_ACCEPT
        try:
            self._client.drain()
            while self._client.ask_about()["state"] == "running" and monotonic() < until:
                sleep(0.005)
        except (Unreachable, Refused):
            pass  # it has ended
        threading.Thread(target=self.stop, name=f"coserver end {self.name}", daemon=True).start()

    def _end(self) -> None:
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass
        try:
            self._process.wait(_AFTER)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._clear()

    def _wait(self) -> None:
        """Until the process has ended; if nobody asked it to, that is said."""
        status = self._process.wait()
        if not self._stopping:
            print(f"coserver: the process of {self.name!r} has ended by itself, {ending(status)}", file=sys.stderr)
        self._end()

    def _pass_on(self) -> None:
        """What it prints, its log and tracebacks among it."""
        out = self._process.stdout
        assert out is not None
        with out:
            for line in out:
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()

    def _close_door(self) -> None:
        if self._door is not None:
            self._door.close()

    def _clear(self) -> None:
        self._close_door()
        shutil.rmtree(self._folder, ignore_errors=True)
        with _lock:
            if _running.get(self.name) is self:
                del _running[self.name]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...notebook.cell import server_bundle

        return server_bundle(self)

    def _ipython_display_(self) -> None:
        from ...notebook.cell import kernel_shell, show_links

        show_links(self)
        if self.running and kernel_shell() is not None:
            self.live().show()


def start(app: App, settings: Settings, options: dict[str, Any]) -> IsolatedServer:
    """Start it in the place of the one of this name. Raises SetupError, OSError."""
    with _lock:
        here = registry.running(app.name)
        if here is not None:
            here.stop()
        server = IsolatedServer(app, settings, options)
        _running[app.name] = server
    if "IPython" in sys.modules:
        from ...notebook.cell import show_at_end, show_links

        show_at_end(server, show_links)
    return server


def give_way(name: str) -> None:
    """A server of this name is to run in this process: the isolated one ends first."""
    server = _running.get(name)
    if server is not None:
        server.stop()


def _door(settings: Settings, before: IsolatedServer | None) -> socket.socket | None:
    """The listening socket that the process inherits: the predecessor's if it is at that place. None for several."""
    if before is not None and before._door is not None and before._door.fileno() != -1:
        host, port = before._door.getsockname()[:2]
        if settings.host == host and settings.port in (0, port):
            return before._door.dup()
    sockets = bind_tcp(settings.host, settings.port)
    if len(sockets) == 1:
        return sockets[0]
    for sock in sockets:
        sock.close()
    return None


@atexit.register
def _stop_all() -> None:
    for server in list(_running.values()):
        server._stopping = True
        server._end()
