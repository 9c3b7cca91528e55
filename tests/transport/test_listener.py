"""Listeners: binding, accepting, and what happens when descriptors run out."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from coserver.transport import listener
from coserver.transport.listener import Listener, bind_tcp
from coserver.transport.loop import Loop
from coserver.transport.peer import show_address
from coserver.transport.unix_socket import bind_unix
from tests.ipv6 import needs_ipv6


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_a_free_port() -> None:
    sockets = bind_tcp("127.0.0.1", 0)
    try:
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1"]
        assert sockets[0].getsockname()[1] > 0
        assert not sockets[0].getblocking()
    finally:
        close(sockets)


@needs_ipv6
@pytest.mark.parametrize("host", ["", "localhost"])
def test_every_address_on_one_port(host: str) -> None:
    sockets = bind_tcp(host, 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        families = {sock.family for sock in sockets}
        assert socket.AF_INET in families
    finally:
        close(sockets)


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "", "0.0.0.0, ::", "::,0.0.0.0", "::,127.0.0.1", "::1, 0.0.0.0,::"])
def test_all_addresses_are_those_of_both_families(host: str) -> None:
    sockets = bind_tcp(host, 0)
    try:
        (port,) = {sock.getsockname()[1] for sock in sockets}
        assert sorted(sock.getsockname()[0] for sock in sockets) == ["0.0.0.0", "::"]
        for place in ("127.0.0.1", "::1"):
            with socket.create_connection((place, port), 5) as client:
                accepting = sockets[[sock.family for sock in sockets].index(client.family)]
                accepting.setblocking(True)
                accepted, address = accepting.accept()
                accepted.close()
                assert address[0] == place  # not ::ffff:127.0.0.1
        with pytest.raises(OSError, match="in use"):
            bind_tcp("127.0.0.1", port)
    finally:
        close(sockets)


def test_several_hosts() -> None:
    sockets = bind_tcp("127.0.0.1, 127.0.0.2,127.0.0.1", 0)
    try:
        assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2"]
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        close(sockets)
    with pytest.raises(OSError, match=r"."):
        bind_tcp("127.0.0.1,192.0.2.1", 0)  # each that is listed must be of this machine
    with pytest.raises(OSError, match=r"."):
        bind_tcp("127.0.0.1,no-such-host.invalid", 0)


def test_all_addresses_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    real = listener._bind_one

    def bind(family: int, address: tuple[Any, ...]) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6 here")
        return real(family, address)

    monkeypatch.setattr(listener, "_bind_one", bind)
    sockets = bind_tcp("::", 0)
    try:
        assert [sock.getsockname()[0] for sock in sockets] == ["0.0.0.0"]
    finally:
        close(sockets)


def test_a_free_port_must_be_free_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    real, taken = listener._bind_one, [1, 2]

    def bind(family: int, address: tuple[Any, ...]) -> socket.socket:
        if address[0] == "127.0.0.2" and taken:
            taken.pop()
            raise OSError(errno.EADDRINUSE, "in use")
        return real(family, address)

    monkeypatch.setattr(listener, "_bind_one", bind)
    sockets = bind_tcp("127.0.0.1,127.0.0.2", 0)
    try:
        assert len(sockets) == 2
        assert not taken
    finally:
        close(sockets)


def test_a_port_that_is_taken() -> None:
    sockets = bind_tcp("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="in use") as caught:
            bind_tcp("127.0.0.1", sockets[0].getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
    finally:
        close(sockets)


def test_hosts_that_are_none() -> None:
    with pytest.raises(OSError, match=r"."):
        bind_tcp("no-such-host.invalid", 0)
    with pytest.raises(OSError, match=r"."):
        bind_tcp("192.0.2.1", 0)  # reserved for documents: no machine has it


def _resolve(monkeypatch: pytest.MonkeyPatch, *found: tuple[int, tuple[Any, ...]]) -> None:
    rows = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)


def test_a_second_address_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without IPv6 still resolves localhost to ::1; and families nobody speaks are left out."""
    rows = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_UNIX, ("x", 0)), (socket.AF_INET, ("192.0.2.1", 0))]
    _resolve(monkeypatch, *rows)
    sockets = bind_tcp("some-host", 0)
    try:
        assert len(sockets) == 1
    finally:
        close(sockets)
    _resolve(monkeypatch, *reversed(rows))
    with pytest.raises(OSError, match=r"."):
        bind_tcp("some-host", 0)


def test_the_second_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve(
        monkeypatch,
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET, ("0.0.0.0", 0)),
    )
    with pytest.raises(OSError, match="in use"):
        bind_tcp("some-host", 0)


def test_unix(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sock, _ = bind_unix(path)
    with pytest.raises(OSError, match="in use") as caught:
        bind_unix(path)
    assert caught.value.errno == errno.EADDRINUSE
    sock.close()
    # Nobody listens there any more: the file is a leftover.
    bind_unix(path)[0].close()
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        bind_unix(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(OSError, match=r"."):
        bind_unix(str(tmp_path / "none" / "s"))
    with pytest.raises(OSError, match="too long"):
        bind_unix(str(tmp_path / ("x" * 200)))


class Door:
    """A listener that keeps what it accepts."""

    def __init__(self, sock: socket.socket) -> None:
        self.accepted: list[tuple[Any, Any]] = []
        self.listener = Listener(sock, Loop.current())
        self.full: anyio.Event | None = None
        self.exhaustions: list[tuple[int | None, bool]] = []

    def take(self, sock: Any, address: Any) -> None:
        self.accepted.append((sock, address))

    async def run(self) -> None:
        await self.listener.run(self.take, self)

    def check(self, listener: Listener) -> Any:
        return None if self.full is None else self._wait()

    async def exhausted(self, listener: Listener, error: OSError, first: bool) -> None:
        self.exhaustions.append((error.errno, first))
        await anyio.lowlevel.checkpoint()

    async def _wait(self) -> None:
        assert self.full is not None
        await self.full.wait()
        self.full = None

    def close(self) -> None:
        self.listener.close()
        self.listener.close()
        for sock, _ in self.accepted:
            sock.close()


async def until(condition: Any) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def test_accepting() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    port = sock.getsockname()[1]
    door = Door(sock)
    assert "<Listener" in repr(door.listener)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.run)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(70)]
        await until(lambda: len(door.accepted) == 70)
        accepted, address = door.accepted[0]
        assert accepted.gettimeout() == 0
        assert address[0] == "127.0.0.1"
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        door.full = anyio.Event()
        clients.append(socket.create_connection(("127.0.0.1", port)))
        clients.append(socket.create_connection(("127.0.0.1", port)))
        await anyio.sleep(0.05)
        # It was waiting for a client already when the door filled up.
        assert len(door.accepted) <= 71
        door.full.set()
        await until(lambda: len(door.accepted) == 72)
        tasks.cancel_scope.cancel()
    door.close()
    close(clients)


async def test_what_waits_is_accepted_at_the_end() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    door = Door(sock)
    clients = [socket.create_connection(sock.getsockname()) for _ in range(5)]
    door.listener.accept_waiting(door.take)
    assert len(door.accepted) == 5
    door.close()
    door.listener.accept_waiting(door.take)  # closed: nobody waits
    close(clients)


class Failing:
    """A listening socket whose accept fails as told."""

    family = socket.AF_INET

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._sock = sock
        self.errors = [*errors]

    def _accept(self) -> Any:
        if self.errors:
            raise OSError(self.errors[0], os.strerror(self.errors.pop(0)))
        return self._sock._accept()  # type: ignore[attr-defined]

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener asks the system by the C type's own accept, which knows no Failing."""
    original = listener._accept
    monkeypatch.setattr(
        listener, "_accept", lambda sock: sock._accept() if isinstance(sock, Failing) else original(sock)
    )


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EIO])
async def test_out_of_descriptors_it_asks_when_to_go_on(number: int) -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    door = Door(Failing(sock, number, number))  # type: ignore[arg-type]
    client = socket.create_connection(sock.getsockname())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.run)
        await until(lambda: door.accepted)
        tasks.cancel_scope.cancel()
    door.close()
    client.close()
    assert door.exhaustions == [(number, True), (number, False)]


async def test_how_many_wait() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    listener = Listener(sock, Loop.current())
    clients = [socket.create_connection(sock.getsockname()) for _ in range(7)]
    with anyio.fail_after(5):
        assert await listener.wait()
    assert listener.waiting() == (7 if sys.platform == "linux" else 1)
    async with anyio.create_task_group() as tasks:
        listener.accept_waiting(lambda accepted, address: accepted.close())
        assert listener.waiting() == 1  # only asked while one waits
        tasks.start_soon(_until_closed, listener)
        await anyio.sleep(0.01)
        listener.close()
    assert listener.waiting() == 1
    for client in clients:
        client.close()


async def _until_closed(listener: Listener) -> None:
    with anyio.fail_after(5):
        assert not await listener.wait()


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EPERM])
async def test_one_clients_error_is_not_the_listeners(number: int) -> None:
    """accept(2) hands over errors of the connection that was to be accepted: the next one may be sound."""
    (sock,) = bind_tcp("127.0.0.1", 0)
    door = Door(Failing(sock, number))  # type: ignore[arg-type]
    client = socket.create_connection(sock.getsockname())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.run)
        await until(lambda: door.accepted)
        tasks.cancel_scope.cancel()
    door.close()
    client.close()


@pytest.mark.usefixtures("failing")
async def test_a_real_fault_is_raised() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    door = Door(Failing(sock, errno.EBADF))  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file"):
        await door.run()
    door.close()


async def test_unix_connections(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    sock, _ = bind_unix(path)
    door = Door(sock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(door.run)
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        await until(lambda: door.accepted)
        tasks.cancel_scope.cancel()
    assert show_address(door.accepted[0][1]) == "unix"
    door.close()
    client.close()


@needs_ipv6
async def test_ipv6() -> None:
    (sock,) = bind_tcp("::1", 0)
    door = Door(sock)
    client = socket.create_connection(sock.getsockname()[:2])
    door.listener.accept_waiting(door.take)
    await until(lambda: door.accepted)
    assert show_address(door.accepted[0][1]).startswith("[::1]:")
    door.close()
    client.close()


def test_addresses_as_text() -> None:
    assert show_address(("127.0.0.1", 5)) == "127.0.0.1:5"
    assert show_address(("::1", 5, 0, 0)) == "[::1]:5"
    assert show_address("") == "unix"


async def test_closed_while_it_waits_for_room() -> None:
    """A full server stops: whoever is woken by the room that is left must not accept on what is closed by now."""
    listener = Listener(bind_tcp("127.0.0.1", 0)[0], Loop.current())

    class Full:
        def check(self, listener: Listener) -> Any:
            return self.until_closed()

        async def until_closed(self) -> None:
            listener.close()

        async def exhausted(self, listener: Listener, error: OSError, first: bool) -> None:
            raise error

    with anyio.fail_after(5):
        await listener.run(lambda sock, address: sock.close(), Full())
