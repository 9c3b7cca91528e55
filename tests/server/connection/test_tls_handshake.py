"""TLS before the story of a connection: both kinds of it, every way that a handshake can go wrong, and the ends."""

from __future__ import annotations

import hashlib
import logging
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.streams.tls import TLSAttribute, TLSStream

from coserver import App, Limits, Request, SetupError, Tls, testing
from coserver.lifecycle.events import ConnectionClosed
from coserver.protocol.framing import FRAMINGS
from coserver.server.connection import tls_handshake
from coserver.transport.tls_engine import TlsEngine

from ...certificates import client_context, issue, write, write_authority
from ..clients import PATIENCE, Client, connect, get, post, until

BIG = bytes(range(251)) * 12_000
NO_RECORD = b"\x16\x03\x01\xff\xff" + b"x" * 500


def hello() -> bytes:
    engine = TlsEngine(client_context(), server_hostname="localhost")
    engine.handshake()
    return engine.take()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """What most servers here are made with."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = write(folder)
    return Tls(certfile=certificate, keyfile=key)


def make() -> App:
    app = App()

    @app.get("/")
    async def index(request: Request) -> dict[str, Any]:
        tls = request.tls
        assert tls is not None
        return {
            "scheme": request.scheme, "version": tls.version, "alpn": tls.alpn, "name": tls.server_name,
            "peer": tls.peer_name, "names": tls.peer_names, "resumed": tls.resumed,
        }  # fmt: skip

    @app.get("/big/{size}")
    async def big(size: int) -> bytes:
        return b"x" * size

    @app.post("/echo")
    async def echo(request: Request) -> bytes:
        return request.body

    @app.post("/unread", stream=True)
    async def unread(request: Request) -> str:
        return "enough"

    return app


@asynccontextmanager
async def secured(port: int, context: ssl.SSLContext | None = None, name: str = "localhost") -> AsyncIterator[Client]:
    """A client's connection, its handshake done. It closes as most do: at once, without a close-notify."""
    async with await anyio.connect_tcp("127.0.0.1", port) as plain:
        stream = await TLSStream.wrap(
            plain, hostname=name, ssl_context=context or client_context(), standard_compatible=False
        )
        yield Client(stream)  # type: ignore[arg-type]


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    """As the standard library does it, whose alerts are sent."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        pass


async def test_there_and_back(tls: Tls, codec: str) -> None:
    async with testing.serving(make(), tls=tls, codec=codec) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        async with secured(server.port) as client:
            for _ in range(3):
                answer = await client.ask(get("/"))
                assert answer.status == 200
                assert '"scheme":"https"' in answer.text
                assert '"version":"TLSv1.3"' in answer.text
            assert (await client.ask(post("/echo", b"e" * 200_000))).body == b"e" * 200_000
            assert (await client.ask(get("/big/3000000"))).body == b"x" * 3_000_000


async def test_pipelined_and_large_at_once(tls: Tls) -> None:
    async with testing.serving(make(), tls=tls) as server, secured(server.port) as client:
        await client.send(get("/big/70000") * 20)
        for _ in range(20):
            assert len((await client.answer()).body) == 70_000


async def test_an_orderly_end(tls: Tls) -> None:
    """The response says close: the close-notify comes at once, and the socket closes though nobody answers it."""
    limits = Limits(linger_timeout=0.4)
    async with testing.serving(make(), tls=tls, limits=limits) as server, secured(server.port) as client:
        assert (await client.ask(get("/", "Connection: close"))).status == 200
        with anyio.fail_after(PATIENCE), pytest.raises(anyio.EndOfStream):  # a cut would raise BrokenResourceError
            await client.stream.receive()
        await until(lambda: not server.connections)


@pytest.mark.parametrize("said", ["nothing", "half"])
async def test_a_handshake_has_a_deadline(tls: Tls, said: str, caplog: pytest.LogCaptureFixture) -> None:
    app, ended = make(), []
    app.emitter.add_observer(lambda event: ended.append(event) if isinstance(event, ConnectionClosed) else None)
    caplog.set_level(logging.INFO, "coserver")
    async with testing.serving(app, tls=tls, limits=Limits(handshake_timeout=0.2)) as server:
        async with connect(server.port) as client:
            if said == "half":
                await client.send(hello()[:100])
            started = time.monotonic()
            await client.gone()
            assert 0.1 < time.monotonic() - started < 2
        assert server.breaches == {"handshake_timeout": 1}
        assert "the TLS handshake took longer than 0.2 s" in ended[0].reason


@pytest.mark.parametrize("how", ["at once", "half", "reset", "eof"])
async def test_who_leaves_in_the_handshake(tls: Tls, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "coserver")
    async with testing.serving(make(), tls=tls) as server:
        async with connect(server.port) as client:
            await until(lambda: server.connections)
            if how != "at once":
                await client.send(hello()[: None if how == "reset" else 50])
            if how == "reset":
                await client.stream.receive(1)
                await client.reset()
            elif how == "eof":
                await client.stream.send_eof()
                await client.gone()
        await until(lambda: not server.connections)
        assert not caplog.records  # nobody's mistake
        async with secured(server.port) as client:
            assert (await client.ask(get("/"))).status == 200


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (get("/"), "plain HTTP"),
        (b"SSH-2.0-OpenSSH_9\r\n", "SSH-2.0"),
        (b"\x00" * 500, "something else"),
        (NO_RECORD, ""),
    ],
    ids=["http", "ssh", "zeros", "record"],
)
async def test_what_is_no_hello(tls: Tls, sent: bytes, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """Answered or closed at once, with one line that says whose mistake it was."""
    async with testing.serving(make(), tls=tls) as server, connect(server.port) as client:
        started = time.monotonic()
        await client.send(sent)
        got = await client.rest()
        assert time.monotonic() - started < 1.5
        assert server.breaches == {"tls": 1}
    [line] = [record.getMessage() for record in caplog.records]
    assert "no TLS: " in line
    assert told in line
    if told == "plain HTTP":
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"use https://" in got
    else:
        assert not got.startswith(b"HTTP")


async def test_a_hello_on_a_plain_port(caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(make()) as server, connect(server.port) as client:
        await client.send(hello())
        assert (await client.gone()).startswith(b"HTTP/1.1 400 ")
    [line] = [record.getMessage() for record in caplog.records]
    assert "this is a TLS handshake, and the port speaks plain HTTP" in line


async def test_plain_http_on_a_tcp_listener_that_speaks_tls(tls: Tls) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def echo(connection: Any) -> None:
        raise AssertionError("nobody came")

    async with testing.serving(app, tls=tls) as server, connect(server.port) as client:
        assert server.url == f"tls://127.0.0.1:{server.port}"
        await client.send(get("/"))
        assert await client.rest() == b""


@pytest.mark.parametrize("framing", ["lines", "length", "raw"])
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_tcp(tls: Tls, framing: str, kind: str) -> None:
    app = App()

    async def echo(connection: Any) -> None:
        assert connection.tls.server_name == "localhost"
        async for message in connection:
            await connection.send(message)

    def blocking(connection: Any) -> None:
        assert connection.tls.version == "TLSv1.3"
        for message in connection:
            connection.send(message)

    app.tcp(framing=framing)(echo if kind == "async" else blocking)
    made = FRAMINGS[framing](1 << 20)
    async with testing.serving(app, tls=tls) as server, secured(server.port) as client:
        for message in (b"a", b"b" * 100_000):
            data = made.encode(message)
            await client.send(data)
            got = b""
            while len(got) < len(data):
                got += await client.stream.receive()
            assert got == data


@pytest.mark.parametrize("how", ["orderly", "cut"])
async def test_an_end_is_not_a_cut(tls: Tls, how: str) -> None:
    """Who stands between can close a connection, and not say the close-notify: a handler sees the difference."""
    app, seen = App(), []

    @app.tcp(framing="raw")
    async def listen(connection: Any) -> None:
        try:
            async for message in connection:
                seen.append(message)
                await connection.send(b"yes")
            seen.append("end")
        except anyio.BrokenResourceError as error:
            seen.append(str(error))

    async with testing.serving(app, tls=tls) as server:
        async with secured(server.port) as client:
            await client.send(b"all?")
            assert await client.stream.receive() == b"yes"
            if how == "orderly":
                await client.stream.unwrap()  # type: ignore[attr-defined]
        await until(lambda: len(seen) == 2)
    assert seen[1] == ("end" if how == "orderly" else "the connection was cut: no close-notify came")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_hang_ups_are_noticed(tls: Tls, how: str) -> None:
    app, events = App(), []

    @app.get("/")
    async def wait() -> None:
        events.append("started")
        try:
            await anyio.sleep(60)
        finally:
            events.append("cancelled")

    async with testing.serving(app, tls=tls) as server:
        async with secured(server.port) as client:
            await client.send(get("/"))
            await until(lambda: events)
            if how == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: len(events) == 2, 1)
        await until(lambda: not server.connections)


async def test_a_client_that_does_not_read(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is encrypted ahead of it but a few records, and at last it is cut, with no close-notify."""
    app, sent = App(), []

    @app.get("/")
    async def endless() -> AsyncIterator[bytes]:
        while True:
            sent.append(1)
            yield b"x" * 65536

    async with (
        testing.serving(app, tls=tls, limits=Limits(write_timeout=0.3)) as server,
        secured(server.port) as client,
    ):
        await client.send(get("/"))
        await until(lambda: server.breaches.get("write_timeout"))
        assert len(sent) * 65536 < 16 << 20  # the kernels' buffers, most of it
        with anyio.fail_after(PATIENCE), pytest.raises((anyio.BrokenResourceError, ssl.SSLError)):
            await read_away(client)


async def read_away(client: Client) -> None:
    while True:
        await client.stream.receive()


async def test_a_slow_reader_gets_all(tls: Tls, codec: str) -> None:
    """Every write waits, often in the middle of a record, and nothing is lost or mixed."""
    digest = hashlib.sha256(BIG).hexdigest()
    app = App()
    app.get("/whole")(lambda: BIG)

    @app.get("/stream")
    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(BIG), 100_001):
            yield BIG[start : start + 100_001]

    async with testing.serving(app, tls=tls, codec=codec) as server, secured(server.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        for path in ("/whole", "/stream"):
            answer = await client.ask(get(path))
            assert hashlib.sha256(answer.body).hexdigest() == digest


async def test_a_file(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(BIG)
    (tmp_path / "small").write_bytes(b"small")
    app = App()
    app.static("/", tmp_path)
    async with testing.serving(app, tls=tls) as server, secured(server.port) as client:
        assert (await client.ask(get("/big"))).body == BIG
        assert (await client.ask(get("/small"))).body == b"small"
        assert (await client.ask(get("/big", "Range: bytes=100000-299999"))).body == BIG[100_000:300_000]


async def test_an_upload_that_nobody_reads(tls: Tls) -> None:
    """100 MB against a handler that takes none of it: they stay with the client, and the answer still arrives."""
    async with testing.serving(make(), tls=tls) as server, secured(server.port) as client:
        head = get("/unread", "Content-Length: 100000000", method="POST")
        sent = 0

        async def upload() -> None:
            nonlocal sent
            try:
                await client.send(head)
                while sent < 100_000_000:
                    await client.send(b"u" * 65536)
                    sent += 65536
            except (anyio.BrokenResourceError, ssl.SSLError, OSError):
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(upload)
            answer = await client.answer()
            assert answer.text == "enough"
            assert answer.headers["connection"] == "close"
            tasks.cancel_scope.cancel()
        assert server.snapshot().counters["received"] < 100_000_000


async def test_names(tmp_path: Path) -> None:
    """The certificate that names the host, one for all of a domain, else the first; and the handler sees the name."""
    files = [
        write(tmp_path, "localhost", stem="first"),
        write(tmp_path, "a.example", stem="a"),
        write(tmp_path, "*.all.example", stem="all"),
    ]
    made = Tls(certfile=[cert for cert, _ in files], keyfile=[key for _, key in files])
    lenient = client_context()
    lenient.check_hostname = False
    async with testing.serving(make(), tls=made) as server:
        for name in ("localhost", "a.example", "b.all.example", "A.EXAMPLE"):
            async with secured(server.port, name=name) as client:
                assert f'"name":"{name.lower()}"' in (await client.ask(get("/"))).text.lower()
        for name, shown in (("other.test", "localhost"), ("a.b.all.example", "localhost"), ("127.0.0.1", "localhost")):
            async with secured(server.port, lenient, name) as client:
                certificate = client.stream.extra(TLSAttribute.peer_certificate)
                assert ("DNS", shown) in certificate["subjectAltName"]


async def test_client_certificates(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = write(tmp_path)
    authorities = write_authority(tmp_path)
    strict = Tls(certfile=certificate, keyfile=key, ca_certs=authorities)
    me = issue("me@mail.example", common_name="Ada")
    async with testing.serving(make(), tls=strict) as server:
        async with secured(server.port, client_context(shows=me)) as client:
            text = (await client.ask(get("/"))).text
            assert '"peer":"Ada"' in text
            assert '"names":["me@mail.example"]' in text
        for shows, told in (
            (None, "the peer showed no certificate"),
            (issue("me@mail.example", by="theirs"), "the peer's certificate is refused: "),
            (issue("me@mail.example", days=-2), "the peer's certificate is refused: certificate has expired"),
        ):
            caplog.clear()
            with pytest.raises((ssl.SSLError, anyio.BrokenResourceError)):
                async with secured(server.port, client_context(shows=shows)) as client:
                    await client.stream.receive()  # TLS 1.3: only now does it hear of it
            await until(lambda: not server.connections)
            [line] = [record.getMessage() for record in caplog.records]
            assert told in line
        assert server.breaches == {"tls": 3}
    optional = Tls(certfile=certificate, keyfile=key, ca_certs=authorities, cert_reqs="optional")
    async with testing.serving(make(), tls=optional) as server, secured(server.port) as client:
        assert '"peer":"","names":[]' in (await client.ask(get("/"))).text


async def test_a_client_that_does_not_trust_us(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(make(), tls=tls) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await anyio.to_thread.run_sync(shake_hands, server.port, client_context(trusts="theirs"))
        await until(lambda: not server.connections)
    [line] = [record.getMessage() for record in caplog.records]
    assert "the peer refused our certificate: it does not trust who signed it" in line


async def test_reload_under_load(tmp_path: Path) -> None:
    """New connections get the new certificate, those that stand go on; what cannot be read changes nothing."""
    certificate, key = write(tmp_path)
    stop = False
    served = 0

    async def ask_on(port: int) -> None:
        nonlocal served
        while not stop:
            async with secured(port) as client:
                for _ in range(5):
                    assert (await client.ask(get("/"))).status == 200
                    served += 1

    async with testing.serving(make(), tls=Tls(certfile=certificate, keyfile=key)) as server:
        async with secured(server.port) as old, anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask_on, server.port)
            first = old.stream.extra(TLSAttribute.peer_certificate_binary)
            for days in (40, 50, 60):
                write(tmp_path, days=days)
                await anyio.to_thread.run_sync(server.reload_certificates)
                async with secured(server.port) as new:
                    assert (await new.ask(get("/"))).status == 200
                    second = new.stream.extra(TLSAttribute.peer_certificate_binary)
                assert second != first
                first = second
            Path(key).write_text("half written")  # noqa: ASYNC240
            with pytest.raises(SetupError, match=r"stay in use: .*holds no private key"):
                server.reload_certificates()
            async with secured(server.port) as new:
                assert new.stream.extra(TLSAttribute.peer_certificate_binary) == second
            assert (await old.ask(get("/"))).status == 200
            stop = True
        assert served >= 4


async def test_noticed_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_handshake, "_LOOK", 0.02)
    certificate, key = write(tmp_path)
    async with testing.serving(make(), tls=Tls(certfile=certificate, keyfile=key)) as server:
        before = server._services[0].certificates.loaded  # type: ignore[union-attr]
        write(tmp_path, days=77)
        await until(lambda: server._services[0].certificates.loaded is not before)  # type: ignore[union-attr]
        async with secured(server.port) as client:
            assert (await client.ask(get("/"))).status == 200


async def test_stop_while_hands_are_shaken(tls: Tls) -> None:
    """Nobody waits for a hello that does not come, nor for one that stands still."""
    async with testing.serving(make(), tls=tls) as server, connect(server.port) as silent, connect(server.port) as half:
        await half.send(hello()[:60])
        await until(lambda: server.connections == 2)
        started = time.monotonic()
        server.stop()
        await silent.gone()
        await half.gone()
        assert time.monotonic() - started < 4


async def test_a_drain_says_goodbye(tls: Tls) -> None:
    app, going = App(), anyio.Event()

    @app.get("/")
    async def slow() -> str:
        going.set()
        await anyio.sleep(0.1)
        return "done"

    async with testing.serving(app, tls=tls) as server, secured(server.port) as idle, secured(server.port) as client:
        assert (await idle.ask(get("/"))).status == 200
        await client.send(get("/"))
        await going.wait()
        server.stop()
        answer = await client.answer()
        assert (answer.text, answer.headers["connection"]) == ("done", "close")
        for one in (idle, client):
            with anyio.fail_after(PATIENCE), pytest.raises(anyio.EndOfStream):
                await one.stream.receive()


async def test_plain_beside_secured(tls: Tls) -> None:
    """Every listener speaks TLS unless it says that it does not."""
    app = App()
    app.get("/")(lambda request: request.scheme)
    app.listen(name="plain", port=0, tls=False)
    app.listen(name="other", port=0)
    async with testing.serving(app, tls=tls) as server:
        assert [one.scheme for one in server.addresses] == ["https", "http", "https"]
        async with connect(server.port_of("plain")) as client:
            assert (await client.ask(get("/"))).text == "http"
        async with secured(server.port_of("other")) as client:
            assert (await client.ask(get("/"))).text == "https"


async def test_behind_a_proxy(tls: Tls) -> None:
    """The PROXY header comes first, in plain; then the hello."""
    app = App()
    app.get("/")(lambda request: f"{request.client} {request.scheme}")
    options: Any = {"tls": tls, "trusted_peers": ["127.0.0.1"], "proxy_protocol": True}
    async with testing.serving(app, **options) as server, connect(server.port) as plain:
        await plain.send(b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 443\r\n")
        stream = await TLSStream.wrap(
            plain.stream, hostname="localhost", ssl_context=client_context(), standard_compatible=False
        )
        assert (await Client(stream).ask(get("/"))).text == "192.0.2.9 https"  # type: ignore[arg-type]


async def test_many_at_once(tls: Tls) -> None:
    async with testing.serving(make(), tls=tls) as server, anyio.create_task_group() as tasks:

        async def one() -> None:
            async with secured(server.port) as client:
                assert (await client.ask(get("/big/200000"))).status == 200

        for _ in range(40):
            tasks.start_soon(one)


async def test_a_snapshot_shows_it(tls: Tls) -> None:
    async with testing.serving(make(), tls=tls) as server, secured(server.port) as client:
        assert (await client.ask(get("/"))).status == 200
        [connection] = server.snapshot().connections
        assert connection.tls is not None
        assert connection.tls["version"] == "TLSv1.3"
        assert connection.tls["server_name"] == "localhost"
        async with await anyio.connect_tcp("127.0.0.1", server.port):
            await until(lambda: server.connections == 2)
            assert server.snapshot().connections[1].tls is None  # its handshake has not begun


async def test_one_that_cannot_be_read_keeps_no_other_from_it(tmp_path: Path) -> None:
    first, second = write(tmp_path, stem="first"), write(tmp_path, stem="second")
    app = make()
    app.listen(port=0, name="second", tls=Tls(certfile=second[0], keyfile=second[1]))
    async with testing.serving(app, tls=Tls(certfile=first[0], keyfile=first[1])) as server:
        one, other = (service.certificates for service in server._services)
        before = one.loaded, other.loaded  # type: ignore[union-attr]
        Path(first[1]).write_text("")  # noqa: ASYNC240
        with pytest.raises(SetupError, match=r"first\.key holds no private key"):
            server.reload_certificates()
        assert one.loaded is before[0]  # type: ignore[union-attr]
        assert other.loaded is not before[1]  # type: ignore[union-attr]
