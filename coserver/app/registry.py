"""The servers that run in this process, by name, and their listening sockets, which a successor takes over."""

from __future__ import annotations

import atexit
import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from ..transport.listener import bind_tcp
from ..transport.unix_socket import bind_unix
from .server import Server
from .sockets import BoundListener, CannotListen, ListenerSpec, SystemdSocket, assign_sockets, bound_by_descriptor


class Isolated(Protocol):
    """A server in a process of its own. This process has duplicates of its listening sockets, ``bound``."""

    bound: list[BoundListener]

    @property
    def running(self) -> bool: ...

    def give_way(self) -> None:
        """Accept no client any more; blocks until then, at most a second. The drain goes on in a thread."""
        ...


#: Guards each change: two threads may start apps at once.
lock = threading.RLock()
_servers: dict[str, Server] = {}
_bound: dict[str, list[BoundListener]] = {}
#: Listening sockets, by app, that a reloading parent process keeps and passed to this one. ``bind`` takes duplicates,
#: and the parent removes the files of UNIX sockets. Empty in all other processes.
inherited: dict[str, list[BoundListener]] = {}
#: Listening sockets, by listener, that the process of an isolated server was started with. The next server takes them.
passed: dict[str, BoundListener] = {}
#: Whether another process accepts from the listeners of this one: it says so to an isolated server that it replaces.
taken_over = False
#: Servers in processes of their own, by name.
isolated: dict[str, Isolated] = {}
#: Sockets that systemd passed to this process. The next server that starts takes them.
systemd_sockets: list[SystemdSocket] = []


def running(name: str) -> Server | None:
    """The server that runs under this name."""
    server = _servers.get(name)
    return server if server is not None and server.running else None


def all_running() -> list[Server]:
    """All servers that run in this process."""
    return [server for server in list(_servers.values()) if server.running]


def bind(name: str, specs: list[ListenerSpec]) -> list[BoundListener]:
    """Bind all listeners of an app; take over the sockets of its running predecessor. Raises OSError, SetupError."""
    held = _listening(name)
    bound: list[BoundListener] = []
    made: list[BoundListener] = []
    try:
        if systemd_sockets:
            assigned = assign_sockets(systemd_sockets, [spec.name for spec in specs])
            specs = [replace(spec, fd=assigned.get(spec.name, spec.fd)) for spec in specs]
            systemd_sockets.clear()
        for spec in specs:
            one = _passed(spec) or bound_by_descriptor(spec) or _take_over(spec, held) or _inherit(name, spec)
            if one is None:
                one = _bind(spec)
                made.append(one)
            bound.append(one)
    except BaseException:
        for one in bound:
            if one in made:
                one.close_and_remove()
            else:
                one.close()
        raise
    return bound


def _listening(name: str) -> list[BoundListener]:
    """The listeners of the servers that run under this name, here and in a process of its own."""
    apart = isolated.get(name)
    return [*(_bound.get(name, []) if running(name) else []), *(apart.bound if apart and apart.running else [])]


def _passed(spec: ListenerSpec) -> BoundListener | None:
    """The sockets that the parent process bound for this listener."""
    one = passed.pop(spec.name, None)
    return one and replace(one, protocol=spec.protocol, serves=spec.serves, tls=spec.tls)


def _take_over(spec: ListenerSpec, held: list[BoundListener]) -> BoundListener | None:
    """Duplicates of the predecessor's sockets: the backlog goes over with them, and no client notices the change."""
    for one in held:
        same = spec.same_address(one) or (not spec.port and spec.same_host(one))
        if spec.name == one.name and same and one.reachable:
            return spec.on_duplicates(one)
    return None


def _inherit(name: str, spec: ListenerSpec) -> BoundListener | None:
    """Duplicates of the parent's sockets at this address, whichever app they were for.

    For port 0, which any free port would satisfy, the app and the listener must have the same names as well.
    """
    for owner, listeners in inherited.items():
        for one in listeners:
            by_name = owner == name and spec.name == one.name and not spec.port and spec.same_host(one)
            if (by_name or spec.same_address(one)) and one.reachable:
                return spec.on_duplicates(one)
    return None


def _bind(spec: ListenerSpec) -> BoundListener:
    try:
        if spec.path:
            sock, file = bind_unix(spec.path, spec.permissions)
            return spec.on([sock], file=file)
        return spec.on(bind_tcp(spec.host, spec.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(error.errno, _in_use(spec)) from error
        where = spec.path or f"{spec.host}:{spec.port}"
        why = f"{error.strerror or error}{_way_out(spec, error)}"  # Python's error for a long path has no strerror
        raise CannotListen(error.errno, f"cannot listen on {where} for {spec.name!r}: {why}") from error


def _way_out(spec: ListenerSpec, error: OSError) -> str:
    if spec.path:
        if error.errno == errno.ENOENT:
            return "; make the folder first"
        return "" if error.errno else "; take a shorter path, or one from the current folder"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "; take an address of this machine, or 0.0.0.0 for all"
    if error.errno in (errno.EACCES, errno.EPERM) and spec.port < 1024:
        return "; ports below 1024 may be for root alone: take a higher one"
    return ""


def _in_use(spec: ListenerSpec) -> str:
    where = spec.path or f"{spec.host}:{spec.port}"
    for server in _servers.values():
        if server.running and any((a.port, a.path) == (spec.port, spec.path) for a in server.addresses):
            return (
                f"{where} is taken by server {server.name!r} of this process: stop it, or give both apps the same name "
                f"so that the new one replaces it"
            )
    return f"{where} is taken by another process: end it, or take another port (0 takes a free one)"


@contextmanager
def closed_on_error(name: str, bound: list[BoundListener]) -> Iterator[None]:
    """Close the listeners of an app if the block raises; its server does not run then."""
    try:
        yield
    except BaseException:
        close(name, bound)
        raise


def close(name: str, bound: list[BoundListener]) -> None:
    """Close these listeners of a server, and remove the files of their UNIX sockets.

    The files that a predecessor or a successor of the same name listens on too stay.
    """
    used = {one.file for one in _listening(name) if not any(one is each for each in bound)}
    for one in bound:
        if one.file in used:
            one.close()
        else:
            one.close_and_remove()


def add(server: Server, bound: list[BoundListener]) -> None:
    """Register a server that runs now, with its listeners, for a successor."""
    _servers[server.name] = server
    _bound[server.name] = bound


def keep(server: Server) -> list[BoundListener]:
    """The server's listeners, for another process to keep. From now on that process removes UNIX sockets' files."""
    with lock:
        bound = list(_bound.get(server.name, []))
        for one in bound:
            one.kept = True
        return bound


def replaced(server: Server, bound: list[BoundListener]) -> bool:
    """Whether another server of this name has taken the listeners over, here or in another process."""
    return taken_over or _bound.get(server.name) is not bound or server.name in isolated


def begin_drain(server: Server, bound: list[BoundListener]) -> None:
    """The server drains: it counts as accepting until a successor alone accepts, if there is one."""
    if not replaced(server, bound):
        server.accepting = False


def stop_listening(server: Server, bound: list[BoundListener], some: list[BoundListener]) -> None:
    """Close ``some`` of the server's listeners, ``bound``: new clients are refused at once, instead of waiting for a
    reset. Twice is fine.
    """
    server.accepting = False
    with lock:
        if _bound.get(server.name) is bound and all(one.closed for one in bound if one not in some):
            del _bound[server.name]
        close(server.name, some)


def remove(server: Server, bound: list[BoundListener]) -> None:
    """Unregister a server that has ended."""
    with lock:
        stop_listening(server, bound, bound)
        if _servers.get(server.name) is server:
            del _servers[server.name]


def _after_fork() -> None:
    """Leave the parent's servers to the parent: a forked child closes its copies of their sockets, and has no server.

    The threads of the servers are not in the child.
    """
    global lock
    lock = threading.RLock()  # another thread of the parent may have held it
    for bound in (*_bound.values(), *inherited.values(), list(passed.values())):
        for one in bound:
            one.forget()
    for server in _servers.values():
        server.forget()
    for table in (_servers, _bound, inherited, passed, isolated):
        table.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _stop_all() -> None:
    """Stop the servers that a script left running at its end, so that handlers' ``finally`` blocks still run."""
    for server in list(_servers.values()):
        server.begin_stop(0)
        server._ended.wait(1)
