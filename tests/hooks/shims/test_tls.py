"""TLS sockets in workers, TLS 1.2 and 1.3: against one another, against plain threads, with timeouts and cancels."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from coserver import hooks, run_blocking

from ...certificates import client_context, server_context
from ..side_by_side import both, ticking

pytestmark = pytest.mark.usefixtures("hooked")

# Made before any thread asks for them: two at once would make two authorities, and neither trusts the other's.
server_context("localhost")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=lambda version: str(version.name))
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return request.param  # type: ignore[no-any-return]


@contextmanager
def plain_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def as_client(sock: socket.socket, version: ssl.TLSVersion = VERSIONS[1], **options: Any) -> ssl.SSLSocket:
    context = client_context()
    context.minimum_version = context.maximum_version = version
    return context.wrap_socket(sock, server_hostname="localhost", **options)


def as_server(sock: socket.socket, **options: Any) -> ssl.SSLSocket:
    return server_context("localhost").wrap_socket(sock, server_side=True, **options)


def flood(tls: ssl.SSLSocket) -> None:
    while True:
        tls.send(b"x" * 100_000)


@pytest.mark.parametrize("limit", [None, 5.0])
async def test_a_conversation(version: ssl.TLSVersion, limit: float | None) -> None:
    with plain_pair() as (one, other):
        one.settimeout(limit)
        other.settimeout(limit)

        def client() -> bytes:
            with as_client(one, version) as tls:
                assert tls.gettimeout() == limit
                assert tls.version() == version.name.replace("_", ".")
                tls.sendall(b"hello")
                got = tls.recv(100)
                buffer = bytearray(100)
                got += bytes(buffer[: tls.recv_into(buffer)])
                plain = tls.unwrap()
                assert plain is tls
                assert tls.gettimeout() == limit
                return got

        def server() -> bytes:
            time.sleep(0.01)
            with as_server(other) as tls:
                data = tls.read(100)
                time.sleep(0.01)
                tls.send(b"one")
                time.sleep(0.01)
                tls.write(b"two")
                assert tls.recv(100) == b""
                tls.unwrap()
                return data

        async with ticking() as turns:
            assert await both(client, server) == [b"onetwo", b"hello"]
        assert len(turns) > 1


async def test_much_both_ways(version: ssl.TLSVersion) -> None:
    size = 2_000_000
    with plain_pair() as (one, other):

        def talk(wrap: Callable[[], ssl.SSLSocket]) -> int:
            with wrap() as tls:
                tls.sendall(bytes(size))
                got = 0
                while got < size:
                    got += len(tls.recv(100_000))
                return got

        def echo(wrap: Callable[[], ssl.SSLSocket]) -> int:
            with wrap() as tls:
                got = 0
                while got < size:
                    got += len(tls.recv(100_000))
                tls.sendall(bytes(size))
                return got

        assert await both(lambda: talk(lambda: as_client(one, version)), lambda: echo(lambda: as_server(other))) == [
            size,
            size,
        ]


@pytest.mark.parametrize("who", ["client", "server"])
async def test_against_a_plain_thread(version: ssl.TLSVersion, who: str) -> None:
    """The same socket objects, with the shims in their places, in a thread that is no worker."""
    with plain_pair() as (one, other):
        got: list[bytes] = []

        def talk(tls: ssl.SSLSocket) -> bytes:
            with tls:
                tls.sendall(b"x" * 100_000)
                whole = b""
                while len(whole) < 100_000:
                    whole += tls.recv(10_000)
                return whole

        def client() -> None:
            got.append(talk(as_client(one, version)))

        def server() -> None:
            got.append(talk(as_server(other)))

        thread = threading.Thread(target=client if who == "server" else server)
        thread.start()
        await run_blocking(server if who == "server" else client)
        while thread.is_alive():  # noqa: ASYNC110
            await anyio.sleep(0.001)
        assert [len(one) for one in got] == [100_000, 100_000]


@pytest.mark.parametrize("limit", [None, 5.0])
async def test_another_thread_sees_the_timeout_as_it_was_set(limit: float | None) -> None:
    with plain_pair() as (one, other):
        seen: set[float | None] = set()
        done = threading.Event()

        def client() -> None:
            with as_client(one) as tls:
                tls.settimeout(limit)

                def look() -> None:
                    while not done.is_set():
                        seen.add(tls.gettimeout())

                thread = threading.Thread(target=look)
                thread.start()
                for _ in range(100):
                    tls.sendall(b"x")
                    assert tls.recv(1) == b"x"
                done.set()
                while thread.is_alive():
                    time.sleep(0.001)

        def server() -> None:
            with as_server(other) as tls:
                for _ in range(100):
                    tls.sendall(tls.recv(1))

        await both(client, server)
        assert seen == {limit}


async def test_timeouts() -> None:
    with plain_pair() as (one, other):

        def client() -> None:
            one.settimeout(0.03)
            with pytest.raises(TimeoutError, match="handshake operation timed out"):
                as_client(one)

        await both(client)
        assert other
    with plain_pair() as (one, other):

        def patient() -> None:
            with as_client(one) as tls:
                tls.settimeout(0.03)
                with pytest.raises(TimeoutError, match="read operation timed out"):
                    tls.recv(1)
                with pytest.raises(TimeoutError, match="write operation timed out"):
                    flood(tls)
                assert tls.gettimeout() == 0.03

        def silent() -> None:
            with as_server(other):
                time.sleep(0.3)

        await both(patient, silent)


async def test_non_blocking_mode_is_left_alone() -> None:
    with plain_pair() as (one, other):

        def client() -> None:
            tls = as_client(one, do_handshake_on_connect=False)
            tls.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            tls.setblocking(True)
            tls.do_handshake()
            tls.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                tls.recv(1)
            with pytest.raises(ssl.SSLWantWriteError):
                flood(tls)
            tls.close()

        def server() -> None:
            with as_server(other):
                time.sleep(0.1)

        await both(client, server)


async def test_cancels() -> None:
    with plain_pair() as (one, other):
        tls = as_client(one, do_handshake_on_connect=False)
        with anyio.move_on_after(0.02) as scope:
            await run_blocking(tls.do_handshake)
        assert scope.cancelled_caught
        tls.close()
        assert other
    with plain_pair() as (one, other):
        tls, its_peer = await both(lambda: as_client(one), lambda: as_server(other))
        with anyio.move_on_after(0.02) as scope:
            await run_blocking(tls.recv, 1)
        assert scope.cancelled_caught
        tls.close()
        its_peer.close()


async def test_a_close_wakes_who_reads() -> None:
    with plain_pair() as (one, other):
        tls, its_peer = await both(lambda: as_client(one), lambda: as_server(other))

        def read() -> None:
            with pytest.raises(OSError, match=r"."):
                tls.recv(1)

        def close() -> None:
            time.sleep(0.01)
            tls.close()

        await both(read, close)
        its_peer.close()


async def test_errors_are_the_originals() -> None:
    with plain_pair() as (one, other):

        def client() -> None:
            context = ssl.create_default_context()
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(one, server_hostname="localhost")
            one.close()

        def server() -> None:
            with pytest.raises(ssl.SSLError):
                as_server(other)

        await both(client, server)
    with plain_pair() as (one, other):
        tls, its_peer = await both(lambda: as_client(one), lambda: as_server(other))
        its_peer.close()

        def ended() -> None:
            assert tls.recv(1) == b""
            tls.close()
            with pytest.raises(OSError, match=r"."):
                tls.recv(1)
            with pytest.raises(ValueError, match="closed or unwrapped"):
                tls.write(b"x")

        await run_blocking(ended)


async def test_wrapped_before_the_install() -> None:
    hooks.uninstall()
    one, other = socket.socketpair()
    context = client_context()
    before = context.wrap_socket(one, server_hostname="localhost", do_handshake_on_connect=False)
    hooks.install()

    def client() -> bytes:
        with before:
            before.do_handshake()
            before.sendall(b"hello")
            return before.recv(10)

    def server() -> bytes:
        time.sleep(0.01)
        with as_server(other) as tls:
            time.sleep(0.01)
            tls.sendall(b"bye")
            return tls.recv(10)

    assert await both(client, server) == [b"bye", b"hello"]


async def test_accepted_and_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            with server_context("localhost").wrap_socket(listener, server_side=True) as tls:
                sock, _ = tls.accept()
                with sock:
                    assert sock.recv(10_000).startswith(b"GET / HTTP/1.1")
                    sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    assert sock.recv(1) == b""

        def ask() -> bytes:
            connection = http.client.HTTPSConnection("localhost", port, context=client_context(), timeout=5)
            connection.request("GET", "/")
            try:
                return connection.getresponse().read()
            finally:
                connection.close()

        assert (await both(serve, ask))[1] == b"ok"


async def test_reading_authorities_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread: another worker goes on, and it is done when that one says so."""
    from coserver.hooks.shims import tls

    go_on = threading.Event()

    def slow(original: Callable[..., None]) -> Callable[..., None]:
        return lambda *args: (go_on.wait(10), original(*args))[1]

    monkeypatch.setattr(tls, "_default_paths", slow(tls._default_paths))
    monkeypatch.setattr(tls, "_locations", slow(tls._locations))

    def read() -> bool:
        context = ssl.create_default_context()
        with pytest.raises(FileNotFoundError):
            context.load_verify_locations("no such file")
        return go_on.is_set()

    def release() -> None:
        time.sleep(0.02)
        go_on.set()

    assert (await both(read, release))[0] is True
    assert not ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=None, cadata=_authority())


def _authority() -> str:
    found = client_context().get_ca_certs(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(found[0])  # type: ignore[arg-type]
