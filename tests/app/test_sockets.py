"""Sockets that the process is started with, and the UNIX sockets that it makes: permissions, abstract names."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from coserver import App, SetupError, testing
from coserver.app import registry
from coserver.app.config.settings import ListenerSettings
from coserver.app.sockets import CannotListen, SystemdSocket, assign_sockets, from_systemd

from .get import get


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def make() -> App:
    app = App()
    app.get("/")(lambda: "ok")
    return app


def test_a_descriptor(listening: socket.socket, backend: str) -> None:
    app = make()
    with testing.leak_check():
        for _ in range(2):  # it stays its owner's: it can be listened on again
            with app.start(fd=listening.fileno(), backend=backend) as server:
                assert server.url == f"http://127.0.0.1:{listening.getsockname()[1]}"
                assert get(server) == (200, "ok")


def test_a_descriptor_of_a_unix_socket_keeps_its_file(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        with make().start(fd=sock.fileno()) as server:
            assert server.address.path == path
        assert os.path.exists(path)


def test_one_for_each_listener(listening: socket.socket) -> None:
    app = make()
    with app.start(listeners=[ListenerSettings(name="one", fd=listening.fileno()), ListenerSettings(port=0)]) as server:
        assert server.port_of("one") == listening.getsockname()[1]
        assert len(server.addresses) == 2


def test_what_is_none(tmp_path: Path) -> None:
    app = make()
    with open(tmp_path / "file", "w") as file, pytest.raises(CannotListen, match="is not a socket; pass"):
        app.start(fd=file.fileno())
    with pytest.raises(CannotListen, match="descriptor 987: it is not open; the parent process must let"):
        app.start(fd=987)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(CannotListen, match=r"does not listen; call listen\(\) on it first"):
            app.start(fd=sock.fileno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(CannotListen, match="a stream socket"):
        app.start(fd=sock.fileno())
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as sock, pytest.raises(CannotListen, match="of family"):
        app.start(fd=sock.fileno())
    with pytest.raises(SetupError, match="fd must be a descriptor, a number like 3; got -1"):
        app.start(fd=-1)
    with pytest.raises(SetupError, match="give fd, or uds; got fd=3 and uds='s'"):
        app.start(fd=3, uds="s")


@pytest.mark.parametrize("permissions", ["600", "660", "0666"])
async def test_permissions(tmp_path: Path, permissions: str) -> None:
    path = str(tmp_path / "s")
    async with testing.serving(make(), uds=path, uds_permissions=permissions):
        assert stat.S_IMODE(os.stat(path).st_mode) == int(permissions, 8)
        async with await anyio.connect_unix(path) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive()).endswith(b"ok")
    assert not Path(path).exists()  # noqa: ASYNC240


@pytest.mark.parametrize("permissions", ["", "rw", "888", "66", 0o660, "17777"])
def test_permissions_that_are_none(permissions: str) -> None:
    with pytest.raises(SetupError, match="uds_permissions must be three octal digits in a text, like '660'; got"):
        make().start(uds="s", uds_permissions=permissions)


async def test_an_abstract_name() -> None:
    name = f"@coserver-test-{os.getpid()}"
    async with testing.serving(make(), uds=name) as server:
        assert server.url == f"http+unix:{name}"
        async with await anyio.connect_unix(f"\0{name[1:]}") as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive()).endswith(b"ok")


def test_what_systemd_hands_over() -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "OTHER": "x"}
    with socket.socket() as sock:
        free = sock.fileno()
    try:
        os.fstat(3)
    except OSError:
        pytest.skip(f"descriptor 3 is not open here (the next is {free})")
    inheritable = os.get_inheritable(3)
    try:
        assert from_systemd(environ) == [SystemdSocket("http", 3)]
    finally:
        os.set_inheritable(3, inheritable)
    assert environ == {"OTHER": "x"}  # or a child would think that they are its own
    for pid, count in [("1", "1"), ("", ""), ("", "1")]:
        assert from_systemd({"LISTEN_PID": pid, "LISTEN_FDS": count}) == []
    for count in ("", "none", "0", "-1", "99999", "\xb2"):
        with pytest.raises(SetupError, match="LISTEN_FDS must be the number of sockets"):
            from_systemd({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count})


def test_who_takes_which() -> None:
    three, four = SystemdSocket("web", 3), SystemdSocket("echo", 4)
    assert assign_sockets([three, four], ["echo", "web"]) == {"echo": 4, "web": 3}
    assert assign_sockets([three], ["http"]) == {"http": 3}
    assert assign_sockets([three, four], ["http", "echo"]) == {"http": 3, "echo": 4}
    assert assign_sockets([three], ["http", "web"]) == {"web": 3}
    assert assign_sockets([], ["http"]) == {}
    message = r"passes 2 sockets, and there are 1 listeners \(http\); no listener takes echo"
    with pytest.raises(SetupError, match=message):
        assign_sockets([three, four], ["http"])


def test_the_next_server_takes_them(listening: socket.socket) -> None:
    registry.systemd_sockets.append(SystemdSocket("http", listening.fileno()))
    with make().start(port=0) as server:
        assert server.port == listening.getsockname()[1]
    with make().start(port=0) as server:
        assert server.port != listening.getsockname()[1]
