"""TCP handlers: messages in and out, by each framing, in both kinds of handler."""

from __future__ import annotations

import logging
import struct
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from coserver import App, Limits, SetupError, testing
from coserver.protocol.errors import LocalProtocolError, RemoteProtocolError

from .clients import connect, get, until
from .messages import echoing, frame, read

FRAMINGS = ["raw", "lines", "length", "coserver"]


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_echo(framing: str, kind: str) -> None:
    async with testing.serving(echoing(framing, kind)) as server, connect(server.port) as client:
        for message in (b"hello", b"x", b"y" * 100_000):
            data = frame(framing, message)
            await client.send(data)
            assert await read(client, len(data)) == data
        await client.stream.send_eof()
        await client.closed()


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("framing", ["lines", "length", "coserver"])
async def test_pipelined_split_and_empty_frames(framing: str, kind: str) -> None:
    messages = [b"", b"a", b"", b"bc", b"d" * 1000, b""]
    data = b"".join(frame(framing, message) for message in messages)
    async with testing.serving(echoing(framing, kind)) as server, connect(server.port) as client:
        await client.send(data * 20)
        assert await read(client, len(data) * 20) == data * 20
        for at in range(0, len(data), 3):
            await client.send(data[at : at + 3])
            await anyio.lowlevel.checkpoint()
        assert await read(client, len(data)) == data


async def test_lines_drop_a_carriage_return() -> None:
    async with testing.serving(echoing("lines", "async")) as server, connect(server.port) as client:
        await client.send(b"a\r\nb\n\r\n")
        assert await read(client, 5) == b"a\nb\n\n"


@pytest.mark.parametrize(
    ("framing", "bad", "reason"),
    [
        ("length", struct.pack(">i", -1), "must not be negative"),
        ("coserver", b"\xe8\0\0\0" + struct.pack(">i", -1), "must not be negative"),
        ("length", struct.pack(">i", 1001) + b"x" * 1001, "at most 1000 bytes"),
        ("coserver", b"\xe8\0\0\0\x7f\xff\xff\xff", "at most 1000 bytes"),
        ("coserver", b"GET / HT", "must start with the bytes e8 00 00 00"),
        ("lines", b"x" * 1002, "at most 1000 bytes"),
        ("lines", b"x" * 5000 + b"\n", "at most 1000 bytes"),
    ],
)
@pytest.mark.parametrize("kind", ["async", "def"])
async def test_what_breaks_the_framing_is_closed(
    framing: str, bad: bytes, reason: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = echoing(framing, kind)
    reasons: list[str] = []
    app.emitter.add_observer(lambda event: reasons.append(getattr(event, "reason", "")))
    good = frame(framing, b"good")
    async with testing.serving(app, limits=Limits(frame_size=1000)) as server:  # noqa: SIM117
        async with connect(server.port) as client, connect(server.port) as other:
            await client.send(good)
            assert await read(client, len(good)) == good
            await client.send(bad + good)
            assert await client.gone() == b""
            await other.send(good)
            assert await read(other, len(good)) == good
    assert reason in caplog.text
    assert any(reason in each for each in reasons)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_the_largest_frame() -> None:
    async with testing.serving(echoing("length", "async"), limits=Limits(frame_size=1000)) as server:  # noqa: SIM117
        async with connect(server.port) as client:
            data = frame("length", b"x" * 1000)
            await client.send(data)
            assert await read(client, len(data)) == data


async def test_frames_before_a_bad_one_are_served() -> None:
    async with testing.serving(echoing("length", "async")) as server, connect(server.port) as client:
        good = frame("length", b"good")
        await client.send(good * 3 + b"\xff\xff\xff\xff")
        assert await client.gone() == good * 3


async def test_a_handler_may_say_a_last_word_to_a_broken_client() -> None:
    app = App()

    @app.tcp(framing="length")
    async def handler(connection: Any) -> None:
        try:
            await connection.receive()
        except RemoteProtocolError:
            await connection.send(b"bad")
            # It stays broken.
            with pytest.raises(RemoteProtocolError):
                await connection.receive()

    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(b"\xff\xff\xff\xff")
        assert await client.gone() == frame("length", b"bad")


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_part_of_a_frame_at_the_end(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with testing.serving(echoing("length", kind)) as server, connect(server.port) as client:
        await client.send(frame("length", b"whole") + b"\0\0\0\x05abc")
        await read(client, 9)
        await client.stream.send_eof()
        await client.closed()
    assert "left in the middle of a message (7 bytes)" in caplog.text


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_handler_that_raises(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.tcp(framing="lines", name="async")
    async def handler(connection: Any) -> None:
        if await connection.receive() == b"fail":
            raise ValueError("secret")
        await connection.send("fine")

    @app.tcp(framing="lines", name="def")
    def handler_def(connection: Any) -> None:
        if connection.receive() == b"fail":
            raise ValueError("secret")
        connection.send("fine")

    async with testing.serving(app) as server:
        port = server.port_of(kind)
        async with connect(port) as client, connect(port) as other:
            await client.send(b"fail\n")
            assert await client.gone() == b""
            await other.send(b"go on\n")
            assert await other.gone() == b"fine\n"
    assert "ValueError: secret" in caplog.text


@pytest.mark.parametrize("error", ["group", "cancelled", "base", "early"])
async def test_odd_ways_to_fail(error: str, caplog: pytest.LogCaptureFixture, anyio_backend_name: str) -> None:
    app = App()

    class Odd(BaseException):
        pass

    @app.tcp(framing="lines")
    async def handler(connection: Any) -> None:
        if error == "early":
            raise ValueError("before the first message")
        await connection.receive()
        if error == "base":
            raise Odd
        if error == "cancelled" and anyio_backend_name == "asyncio":
            raise anyio.get_cancelled_exc_class()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)

    async def fail() -> None:
        raise OSError("in a child")

    async with testing.serving(app) as server:
        for _ in range(2):
            async with connect(server.port) as client:
                await client.send(b"x\n")
                assert await client.gone() == b""
    assert "failed on <TcpConnection" in caplog.text


async def test_a_server_that_speaks_first() -> None:
    app = App()

    @app.tcp(framing="lines", name="async")
    async def greet(connection: Any) -> None:
        await connection.send("welcome")
        async for message in connection:
            await connection.send(message.upper())

    @app.tcp(framing="lines", name="def")
    def greet_def(connection: Any) -> None:
        connection.send("welcome")
        connection.state["said"] = 1
        for message in connection:
            connection.send(f"{connection.id > 0} {connection.peer[:10]} {connection.state} {message.decode()}")

    async with testing.serving(app) as server:
        async with connect(server.port_of("async")) as client:
            assert await read(client, 8) == b"welcome\n"
            await client.send(b"x\n")
            assert await read(client, 2) == b"X\n"
        async with connect(server.port_of("def")) as client:
            assert await read(client, 8) == b"welcome\n"
            await client.send(b"x\n")
            expected = b"True 127.0.0.1: {'said': 1} x\n"
            assert await read(client, len(expected)) == expected


async def test_the_handler_closes() -> None:
    app = App()

    @app.tcp(framing="lines", name="async")
    async def bye(connection: Any) -> None:
        await connection.send("bye")
        await connection.aclose()

    @app.tcp(framing="lines", name="def")
    def bye_def(connection: Any) -> None:
        assert "blocking" in repr(connection)
        connection.send("bye")
        connection.close()
        connection.receive()

    async with testing.serving(app) as server:
        for name in ("async", "def"):
            async with connect(server.port_of(name)) as client:
                assert await client.rest() == b"bye\n"


async def test_concurrent_sends_never_mix() -> None:
    app = App()

    @app.tcp(framing="length")
    async def handler(connection: Any) -> None:
        async def say(letter: bytes) -> None:
            for _ in range(20):
                await connection.send(letter * 100_000)

        await connection.receive()
        async with anyio.create_task_group() as tasks:
            for letter in (b"a", b"b", b"c", b"d"):
                tasks.start_soon(say, letter)

    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(frame("length", b"go"))
        for n in range(80):
            assert await read(client, 4) == struct.pack(">i", 100_000)
            message = await read(client, 100_000)
            assert message == message[:1] * 100_000
            if n == 3:
                await anyio.sleep(0.05)
        assert await client.gone() == b""


async def test_answers_from_tasks_while_the_next_messages_come() -> None:
    """The exchange that a task answers may be over when it does; every event still names the one it belongs to."""
    app = App()

    @app.tcp(framing="lines")
    async def handler(connection: Any) -> None:
        async def answer(message: bytes) -> None:
            await anyio.sleep(0.001 * (len(message) % 7))
            await connection.send(message * 20_000)

        async with anyio.create_task_group() as tasks:
            async for message in connection:
                tasks.start_soon(answer, message)

    async with testing.serving(app) as server, connect(server.port) as client:
        expected = sum(20_000 * n + 1 for n in range(1, 40))
        for n in range(1, 40):
            await client.send(b"x" * n + b"\n")
        await anyio.sleep(0.05)  # until the socket is full
        assert len(await read(client, expected)) == expected


async def test_a_cancelled_send_is_not_followed_by_another() -> None:
    """A part of a message stands on the wire: whatever came next would be taken for its rest."""
    app = App()
    outcome: list[str] = []

    @app.tcp(framing="length")
    async def handler(connection: Any) -> None:
        await connection.receive()
        with anyio.move_on_after(0.05):
            await connection.send(b"x" * 20_000_000)
        try:
            await connection.send(b"next")
            outcome.append("sent")
        except anyio.BrokenResourceError:
            outcome.append("broken")
            raise

    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(frame("length", b"go"))
        await until(lambda: outcome)
        data = await client.gone()
        assert b"next" not in data
    assert outcome == ["broken"]


async def test_a_custom_framing() -> None:
    class Pairs:
        """Two bytes a message."""

        def __init__(self, size_max: int) -> None:
            self.size_max = size_max

        def decode(self, buffer: bytearray) -> bytes | None:
            if len(buffer) < 2:
                return None
            message = bytes(buffer[:2])
            del buffer[:2]
            return message

        def encode(self, message: bytes) -> bytes:
            if len(message) != 2:
                raise LocalProtocolError("two bytes")
            return message

    async with testing.serving(echoing(Pairs, "def")) as server, connect(server.port) as client:
        await client.send(b"abcde")
        assert await read(client, 4) == b"abcd"
        await client.send(b"f")
        assert await read(client, 2) == b"ef"


async def test_what_the_framing_cannot_carry(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def handler(connection: Any) -> None:
        await connection.receive()
        await connection.send("two\nlines")

    async with testing.serving(app) as server, connect(server.port) as client:
        await client.send(b"x\n")
        assert await client.gone() == b""
    assert "must not hold a newline" in caplog.text


def test_unknown_framing() -> None:
    with pytest.raises(SetupError, match="'raw', 'lines', 'length', 'coserver'"):
        App().tcp(framing="json")


@pytest.mark.parametrize("kind", ["generator", "async generator"])
async def test_a_generator_is_no_tcp_handler(kind: str) -> None:
    app = App()
    if kind == "generator":

        @app.tcp()
        def generator(connection: Any) -> Any:
            yield

    else:

        @app.tcp()
        async def agenerator(connection: Any) -> Any:
            yield

    with pytest.raises(SetupError, match="yield"):
        async with app.serving():
            pass


async def test_a_def_that_hides_an_async_def(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    async def hidden(connection: Any) -> None:
        await connection.send("found")

    app.tcp(framing="lines", name="hidden")(lambda connection: hidden(connection))  # noqa: PLW0108
    async with testing.serving(app) as server, connect(server.port) as client:
        await client.closed()
    assert "make it an async def" in caplog.text


async def test_http_and_tcp_side_by_side() -> None:
    app = echoing("lines", "async")

    @app.get("/")
    async def index() -> str:
        return "ok"

    async with testing.serving(app) as server:
        async with connect(server.port) as http, connect(server.port_of("echo")) as tcp:
            assert (await http.ask(get())).body == b"ok"
            await tcp.send(b"x\n")
            assert await read(tcp, 2) == b"x\n"
        with pytest.raises(KeyError, match="echo"):
            server.port_of("none")


async def test_peer_and_repr() -> None:
    app, seen = App(), []

    @app.tcp(framing="lines")
    async def handler(connection: Any) -> None:
        seen.append(connection.peer)
        await connection.receive()
        seen.append(repr(connection))

    async with testing.serving(app) as server, connect(server.port) as client:
        host, port = client.stream.extra(SocketAttribute.local_address)[:2]
        await client.send(b"\n")
        await client.gone()
        assert seen[0] == f"{host}:{port}"
        assert f"{host}:{port} handler, 0 served" in seen[1]
