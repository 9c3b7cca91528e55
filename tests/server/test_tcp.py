"""TCP handlers: messages in and out, by each framing, in both kinds of handler."""

from __future__ import annotations

import logging
import struct
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from coserver import App, AppError, Limits, await_, testing
from coserver.protocol.errors import LocalProtocolError, RemoteProtocolError

from .clients import Client, connect, get, until

FRAMINGS = ["raw", "lines", "length", "coserver"]


def frame(framing: str, message: bytes) -> bytes:
    if framing == "lines":
        return message + b"\n"
    if framing == "raw":
        return message
    return (b"\xe8\0\0\0" if framing == "coserver" else b"") + struct.pack(">i", len(message)) + message


async def read(client: Client, size: int) -> bytes:
    data = b""
    with anyio.fail_after(10):
        while len(data) < size:
            data += await client.stream.receive(size - len(data))
    return data


def echoing(framing: Any, kind: str) -> App:
    app = App()
    if kind == "def":

        @app.tcp(framing=framing, name="echo")
        def echo_def(connection: Any) -> None:
            for message in connection:
                connection.send(message)

    else:

        @app.tcp(framing=framing, name="echo")
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

    return app


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
    with pytest.raises(AppError, match="'raw', 'lines', 'length', 'coserver'"):
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

    with pytest.raises(AppError, match="yield"):
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


# Hang-ups, deadlines, drain.


@pytest.mark.parametrize("kind", ["async", "def"])
@pytest.mark.parametrize("reset", [False, True])
async def test_hang_up_while_the_handler_works(kind: str, reset: bool) -> None:
    app, events = App(), []

    @app.tcp(framing="lines", name="async")
    async def handler(connection: Any) -> None:
        try:
            async for _ in connection:
                events.append("started")
                await anyio.sleep(60)
        finally:
            events.append("finally")

    @app.tcp(framing="lines", name="def")
    def handler_def(connection: Any) -> None:
        try:
            for _ in connection:
                events.append("started")
                await_(anyio.sleep(60))
        finally:
            events.append("finally")

    async with testing.serving(app) as server, connect(server.port_of(kind)) as client:
        await client.send(b"x\n")
        await until(lambda: events)
        if reset:
            await client.reset()
        else:
            await client.stream.aclose()
        await until(lambda: events == ["started", "finally"], 2)
        await until(lambda: not server.connections)


async def test_a_client_that_leaves_while_it_is_sent_to() -> None:
    app, events = App(), []

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        try:
            while True:
                await connection.send(b"x" * 100_000)
        finally:
            events.append("finally")

    async with testing.serving(app) as server:
        async with connect(server.port) as client:
            await client.stream.receive()
        await until(lambda: events)
        await until(lambda: not server.connections)


async def test_a_half_message_has_a_deadline_and_silence_has_none() -> None:
    app = echoing("length", "async")
    async with testing.serving(app, limits=Limits(body_timeout=0.1, head_timeout=0.1, idle_timeout=0.1)) as server:  # noqa: SIM117
        async with connect(server.port) as client, connect(server.port) as silent:
            await client.send(b"\0\0")
            assert await client.gone() == b""
            await silent.send(frame("length", b"still here"))
            assert await read(silent, 14)


async def test_handler_timeout_counts_for_one_message(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.tcp(framing="lines")
    async def handler(connection: Any) -> None:
        async for message in connection:
            await anyio.sleep(float(message))
            await connection.send("done")

    async with testing.serving(app, limits=Limits(handler_timeout=0.5)) as server, connect(server.port) as client:
        for _ in range(3):
            await client.send(b"0.2\n")
            await read(client, 5)
        await client.send(b"60\n")
        assert await client.gone() == b""
    assert "handler_timeout" in caplog.text


async def test_a_reader_that_stalls_is_cut() -> None:
    app, events, reasons = App(), [], []
    app.emitter.add_observer(lambda event: reasons.append(getattr(event, "reason", "")))

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        try:
            await connection.receive()
            await connection.send(b"x" * 30_000_000)
        finally:
            events.append("finally")

    async with testing.serving(app, limits=Limits(write_timeout=0.2)) as server, connect(server.port) as client:
        await client.send(b"go")
        await until(lambda: events, 5)
    assert "write_timeout" in reasons[-1]


async def test_a_slow_reader_is_no_stall() -> None:
    """It takes longer than the write timeout in all, but never that long without taking anything."""
    app = App()

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        await connection.receive()
        await connection.send(b"x" * 12_000_000)

    async with testing.serving(app, limits=Limits(write_timeout=0.3)) as server, connect(server.port) as client:
        await client.send(b"go")
        size = 0
        try:
            while True:
                size += len(await client.stream.receive(200_000))
                await anyio.sleep(0.01)
        except anyio.EndOfStream:
            pass
        assert size == 12_000_000


async def test_a_deadline_of_before_a_send_does_not_come_back() -> None:
    """A message is half there while a long send goes on; when it is whole its deadline is gone for good."""
    app = App()

    @app.tcp(framing="length")
    async def handler(connection: Any) -> None:
        await connection.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say, connection)
            await connection.receive()
            await connection.receive()

    async def say(connection: Any) -> None:
        await anyio.sleep(0.05)
        await connection.send(b"x" * 20_000_000)

    async with testing.serving(app, limits=Limits(body_timeout=0.3)) as server, connect(server.port) as client:
        await client.send(frame("length", b"go") + b"\0\0")
        await anyio.sleep(0.1)
        await client.send(b"\0\1x")
        await read(client, 20_000_004)
        await anyio.sleep(0.5)
        assert server.connections == 1
        await client.send(frame("length", b"end"))
        await client.closed()


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_drain(kind: str) -> None:
    app, go_on = App(), anyio.Event()

    @app.tcp(framing="lines", name="async")
    async def handler(connection: Any) -> None:
        async for message in connection:
            if message == b"wait":
                await go_on.wait()
            await connection.send(message)

    @app.tcp(framing="lines", name="def")
    def handler_def(connection: Any) -> None:
        for message in connection:
            if message == b"wait":
                await_(go_on.wait())
            connection.send(message)

    async with testing.serving(app) as server:
        port = server.port_of(kind)
        async with connect(port) as fresh, connect(port) as idle, connect(port) as busy, connect(port) as sent:
            await idle.send(b"x\n")
            await read(idle, 2)
            await busy.send(b"wait\n")
            await sent.send(b"y\n")
            await read(sent, 2)
            await until(lambda: server.connections == 4)
            await sent.send(b"z\n")
            server.stop()
            await idle.closed()
            await fresh.closed()
            assert await sent.rest() == b"z\n"
            go_on.set()
            assert await busy.rest() == b"wait\n"
            await until(lambda: not server.running)


async def test_a_chat_that_never_ends_is_cancelled_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    app, events = App(), []

    @app.tcp(framing="raw")
    async def handler(connection: Any) -> None:
        try:
            await connection.receive()
            await anyio.sleep(60)
        finally:
            events.append("finally")

    async with testing.serving(app, limits=Limits(grace=0.1)) as server, connect(server.port) as client:
        await client.send(b"x")
        await anyio.sleep(0.02)
        server.stop()
        assert await client.gone() == b""
        await until(lambda: events)
    assert "grace of 0.1 s" in caplog.text


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


@pytest.mark.parametrize("kind", ["async", "def"])
async def test_a_handler_that_never_receives_ends_with_its_client(kind: str) -> None:
    ended = anyio.Event()
    app = App()

    if kind == "async":

        @app.tcp()
        async def clock(connection: object) -> None:
            try:
                await anyio.sleep(60)
            finally:
                ended.set()
    else:

        @app.tcp(name="clock")
        def blocking_clock(connection: object) -> None:
            try:
                await_(anyio.sleep(60))
            finally:
                ended.set()

    async with testing.serving(app) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port_of("clock")):
            await anyio.sleep(0.05)
        with anyio.fail_after(5):
            await ended.wait()


async def test_the_last_message_arrives_though_the_client_sent_more() -> None:
    app = App()

    @app.tcp(framing="lines", name="bye")
    async def bye(connection) -> None:  # type: ignore[no-untyped-def]
        await connection.receive()
        await anyio.sleep(0.05)  # what the client goes on sending is there now, and nobody will read it
        await connection.send("bye")

    async with testing.serving(app) as server, await anyio.connect_tcp("127.0.0.1", server.port_of("bye")) as client:
        await client.send(b"first\n")
        await anyio.sleep(0.02)
        await client.send(b"more\n" * 1000)
        assert await client.receive() == b"bye\n"
        with pytest.raises(anyio.EndOfStream):
            await client.receive()
