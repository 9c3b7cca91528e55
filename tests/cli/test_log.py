"""The command's log: formats that never fail, a writer that never waits, no changes before ``configure``."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver_cli import log_writer
from coserver_cli.log import JsonFormat, TextFormat
from coserver_cli.log_writer import LogHandler, LogWriter

from ..app.get import run_script


def record(message: Any = "hello %s", *args: Any, level: int = logging.WARNING, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("shop.cart", level, __file__, 1, message, args, None)
    made.__dict__.update(extra)
    return made


def failed(error: BaseException, **extra: Any) -> logging.LogRecord:
    made = record("it failed", **extra)
    try:
        raise error
    except BaseException:
        made.exc_info = sys.exc_info()
    return made


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


class Dumb(Exception):
    def __str__(self) -> str:
        raise RuntimeError


# Formats.


def spoken(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormat().format(made)
    assert "\n" not in line
    line.encode()
    found: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return found


def test_json() -> None:
    made = record("hello %s", "w\xf6rld", request_id="abc", status=200, parts=[1, {"a": None}])
    made.created = 1_000_000_000.25
    assert spoken(made) == {
        "time": "2001-09-09T01:46:40.250+00:00",
        "level": "WARNING",
        "logger": "shop.cart",
        "message": "hello w\xf6rld",
        "request_id": "abc",
        "status": 200,
        "parts": [1, {"a": None}],
    }


def test_json_of_an_exception() -> None:
    said = spoken(failed(KeyError("x")))
    assert said["exception"].startswith("Traceback (most recent call last):\n")
    assert said["exception"].endswith("KeyError: 'x'")
    assert "Dumb" in spoken(failed(Dumb()))["exception"]
    stack = record("here")
    stack.stack_info = "Stack (most recent call last):\n  there"
    assert spoken(stack)["exception"] == stack.stack_info


_circle: list[Any] = []
_circle.append(_circle)
_deep: list[Any] = []
for _ in range(100_000):
    _deep = [_deep]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\xff", "b'\\xff'"),
        (Path("/x"), "PosixPath('/x')"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        ({1: 2}, {"1": 2}),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (_circle, "[[...]]"),
        (_deep, "<list, whose repr() raises>"),
        (Unspeakable(), "<Unspeakable, whose repr() raises>"),
        ([Unspeakable()], ["<Unspeakable, whose repr() raises>"]),
        (10**5000, "<int, whose repr() raises>"),
        ("\ud800", "?"),
        ("a\nb\x1b", "a\nb\x1b"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_of_odd_values(value: Any, said: Any) -> None:
    assert spoken(record("odd", thing=value, other=1)) | {"time": ""} == {
        "time": "", "level": "WARNING", "logger": "shop.cart", "message": "odd", "thing": said, "other": 1,
    }  # fmt: skip


def test_json_keeps_attributes_that_take_its_own_names() -> None:
    made = record("x", time="noon", exception="none")
    made.__dict__["level"] = 3
    said = spoken(made)
    assert (said["time_"], said["level_"], said["exception_"]) == ("noon", 3, "none")
    assert said["level"] == "WARNING"


@given(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.floats(), st.binary(), st.integers())))
def test_json_is_a_line_whatever_is_logged(message: str, extra: dict[str, Any]) -> None:
    taken = {"name": "shop.cart", "msg": message, "args": (), "levelname": "INFO", "created": 0.0, "exc_info": None}
    made = logging.makeLogRecord({**extra, **taken, "exc_text": None, "stack_info": None})
    assert spoken(made)["message"] == message.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("form", [TextFormat(), JsonFormat()])
@pytest.mark.parametrize(
    ("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), (Unspeakable(), ()), ("%s", (Unspeakable(),))]
)
def test_a_slip_in_a_log_call_hides_nothing(form: logging.Formatter, message: Any, args: tuple[Any, ...]) -> None:
    said = form.format(record(message, *args))
    assert "in this log call)" in said
    assert ("%" in said) == isinstance(message, str)


def test_text_that_a_terminal_would_obey() -> None:
    """A client may have sent it. Its colours cannot be told from the app's, so only colours pass."""
    said = failed(RuntimeError("no \x1b]0;title\x07 \x1b[2J \x9b2J \r\u202e \x1b[31mred\x1b[0m\tat é 中\nline two"))
    lines = TextFormat().format(said).splitlines()
    assert lines[-2:] == [
        "RuntimeError: no \\x1b]0;title\\x07 \\x1b[2J \\x9b2J \\r\\u202e \x1b[31mred\x1b[0m\tat é 中",
        "line two",
    ]


def test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    made = record("hello %s", "you")
    made.created = 1_000_000_000.25
    assert TextFormat().format(made) == "2001-09-09 01:46:40 WARNING shop.cart: hello you"
    assert TextFormat(terminal=True).format(made) == "01:46:40 WARNING shop.cart: hello you"
    assert TextFormat(terminal=True, colour=True).format(made) == (
        "01:46:40 \x1b[33mWARNING\x1b[0m shop.cart: hello you"
    )
    assert TextFormat().format(failed(KeyError("x"))).endswith("\nKeyError: 'x'")
    made.name = "coserver.access"
    assert TextFormat(terminal=True, colour=True).format(made) == "hello you"


# The writer.


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


def read_all(fd: int) -> bytes:
    with open(fd, "rb") as file:
        return file.read()


def test_what_is_written_comes_in_order(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read_all(reader)))
    thread.start()
    writer = LogWriter(end)
    for number in range(200_000):
        writer.write(f"line {number}, long enough to be one of an access log, with all that belongs there\n")
    assert writer.flush()
    writer.close()
    os.close(end)
    thread.join()
    lines = got[0].decode().splitlines()
    assert [int(line.split()[1].rstrip(",")) for line in lines] == list(range(200_000))
    assert writer.dropped == 0
    assert not [one for one in threading.enumerate() if one.name == "coserver log" and one is writer._thread]


def test_a_reader_that_stands_still(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for it, the queue is bounded, and dropped lines are counted and reported."""
    monkeypatch.setattr(log_writer, "WAITING_MAX", 1_000_000)
    monkeypatch.setattr(log_writer, "FLUSH_PATIENCE", 0.1)
    reader, end = pipe
    writer = LogWriter(end)
    handler = LogHandler(writer, JsonFormat())
    began = time.monotonic()
    for number in range(20_000):
        handler.handle(record("%d " + "x" * 200, number))
    assert time.monotonic() - began < 10
    assert not handler.writer.flush()
    dropped = writer.dropped
    assert 20_000 * 300 > dropped * 300 > 0
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read_all(reader)))
    thread.start()
    monkeypatch.setattr(log_writer, "FLUSH_PATIENCE", 10)
    assert writer.flush()
    handler.handle(record("after it"))
    handler.close()
    os.close(end)
    thread.join()
    messages = [json.loads(line)["message"] for line in got[0].splitlines()]
    told = [message for message in messages if "dropped" in message]
    assert told == [f"log lines dropped, because stderr was not read fast enough: {dropped}"]
    assert messages[-1] == "after it"
    assert len(messages) == 20_000 - dropped + 2
    kept = [int(message.split()[0]) for message in messages if message.endswith("x")]
    assert kept == sorted(kept)


def test_a_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    os.close(reader)
    writer = LogWriter(end)
    for _ in range(1000):
        writer.write("x" * 1000)
    assert writer.flush()
    assert writer.dropped == 0
    writer.close()


def test_a_descriptor_that_does_not_block(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    os.set_blocking(end, False)
    writer = LogWriter(end)
    writer.write("x" * 1_000_000)
    time.sleep(0.05)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read_all(reader)))
    thread.start()
    writer.close()
    os.close(end)
    thread.join()
    assert len(got[0]) == 1_000_000


def test_it_takes_no_lock(pipe: tuple[int, int]) -> None:
    """Formatting a line logs another line, as a worker suspended in the middle would let others do."""
    reader, end = pipe
    writer = LogWriter(end)
    handler = LogHandler(writer, TextFormat())
    inside = threading.Event()
    go_on = threading.Event()

    class Slow:
        def __str__(self) -> str:
            inside.set()
            assert go_on.wait(10)
            return "slow"

    thread = threading.Thread(target=lambda: handler.handle(record(Slow())))
    thread.start()
    assert inside.wait(10)
    handler.handle(record("quick"))  # a lock held by the first would stop it here
    go_on.set()
    thread.join()
    handler.close()
    os.close(end)
    quick, slow = read_all(reader).decode().splitlines()
    assert quick.endswith("quick")
    assert slow.endswith("slow")


def test_a_filter_may_refuse_or_replace(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    handler = LogHandler(LogWriter(end), TextFormat())
    handler.addFilter(lambda made: made.levelno > logging.INFO)
    assert not handler.handle(record("no", level=logging.INFO))
    assert handler.handle(record("yes"))
    handler.close()
    os.close(end)
    assert read_all(reader).count(b"\n") == 1


# Who sets up logging: in separate processes, because logging is global.


EMBEDDED = """
import io, logging, sys, threading
import coserver
from coserver import App

def state():
    loggers = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    return {
        name: (one.level, one.handlers, one.propagate, one.disabled, one.filters)
        for name, one in {**loggers, "root": logging.root}.items() if name == "root" or name.startswith("coserver")
    }

app = App()
@app.get("/")
async def index(): return "ok"
@app.get("/fail")
def fail(): raise KeyError
before, last = state(), logging.lastResort
assert all(one == (0, [], True, False, []) for name, one in before.items() if name != "root"), before
assert before["root"] == (logging.WARNING, [], True, False, [])
import http.client
with app.start(access_log=True) as server:
    for path in ("/", "/fail"):
        client = http.client.HTTPConnection("127.0.0.1", server.port)
        client.request("GET", path)
        client.getresponse().read()
        client.close()
after = state()
assert {name: after[name] for name in before} == before
assert all(one == (0, [], True, False, []) for name, one in after.items() if name != "root"), after
assert logging.lastResort is last
assert "coserver_cli.log" not in sys.modules
assert not [one for one in threading.enumerate() if one.name == "coserver log"]
"""


def test_an_embedded_server_touches_nothing(tmp_path: Path) -> None:
    done = run_script(EMBEDDED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "handler fail failed" in done.stderr  # by logging's own last resort


CONFIGURED = """
import logging, sys
from coserver_cli.log import configure
from coserver.app.config.process_settings import LogSettings
configure(LogSettings(level=sys.argv[1], debug=sys.argv[2].split()))
if len(sys.argv) > 3:
    logging.basicConfig(format="mine %(message)s", level=logging.DEBUG)
for name in ("coserver.server", "coserver.access", "coserver.http", "shop"):
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger(name), level)("of %s.%s", name.rpartition(".")[2], level)
"""


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        (("info", ""), {"server": 2, "access": 2, "http": 2, "shop": 2}),
        (("debug", ""), {"server": 3, "access": 3, "http": 3, "shop": 3}),
        (("warning", "http"), {"server": 1, "access": 1, "http": 3, "shop": 1}),
        (("error", ""), {"server": 0, "access": 0, "http": 0, "shop": 0}),
        # The app configured the root itself: its loggers go where it says, the command's still where the command says.
        (("warning", "", "basicConfig"), {"server": 1, "access": 1, "http": 1, "shop": 3}),
    ],
)
def test_levels(tmp_path: Path, arguments: tuple[str, ...], levels: dict[str, int]) -> None:
    done = run_script(CONFIGURED, tmp_path, *arguments)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert {name: sum(f"of {name}." in line for line in lines) for name in levels} == levels
    assert len(lines) == sum(levels.values())
    assert sum(line.startswith("mine of shop.") for line in lines) == (3 if len(arguments) > 2 else 0)


def test_it_is_written_to_the_last_line_at_the_end(tmp_path: Path) -> None:
    code = CONFIGURED + "for number in range(100_000): logging.getLogger('shop').warning('%d', number)\n"
    done = run_script(code, tmp_path, "error", "")
    assert done.stderr == ""
    done = run_script(code, tmp_path, "warning", "")
    lines = done.stderr.splitlines()
    assert len(lines) == 100_004
    assert lines[-1].endswith("shop: 99999")


def test_without_stderr_no_client_gets_the_log(tmp_path: Path) -> None:
    """Descriptor 2 would be the next opened file or socket."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, socket, sys\n"
        "mine, theirs = socket.socketpair()\n"
        "assert sys.stderr is None and 2 in (mine.fileno(), theirs.fileno())\n"
        "sys.argv = ['', 'info', '']\n" + CONFIGURED + "logging.shutdown()\n"
        "for one in (mine, theirs):\n"
        "    one.setblocking(False)\n"
        "    try:\n        print(one.recv(100))\n"
        "    except BlockingIOError:\n        pass\n"
        "print('end', flush=True)\n"
    )
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -W error {script} 2>&-"], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert done.stdout == b"end\n"


def test_configured_twice_it_writes_once(tmp_path: Path) -> None:
    code = (
        "from coserver_cli import log\nfrom coserver.app.config.process_settings import LogSettings\n"
        "assert log.writer() is None\n"
        "first = log.configure(LogSettings())\nassert log.writer() is first\n"
        "first.write('first\\n')\n"
        "second = log.configure(LogSettings(format='json'))\nassert log.writer() is second\n"
        "import logging\nlogging.getLogger('coserver.x').info('one')\nlogging.getLogger('x').info('two')\n"
    )
    done = run_script(code, tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "first"
    assert [json.loads(line)["message"] for line in lines[1:]] == ["one", "two"]


def test_a_child_process_writes_its_own(tmp_path: Path) -> None:
    code = (
        "import logging, os, warnings\nwarnings.simplefilter('ignore')\n"
        "from coserver_cli import log\nfrom coserver.app.config.process_settings import LogSettings\n"
        "log.configure(LogSettings())\nlog = logging.getLogger('x')\n"
        "log.info('parent')\n"
        "if not os.fork():\n    log.info('child')\n    logging.shutdown()\n    os._exit(0)\n"
        "os.wait()\n"
    )
    done = run_script(code, tmp_path)
    assert sorted(line.rsplit(" ")[-1] for line in done.stderr.splitlines()) == ["child", "parent"]


def test_text_goes_out_in_whatever_encoding_there_is(pipe: tuple[int, int]) -> None:
    reader, end = pipe
    writer = LogWriter(end, "ascii")
    writer.write("caf\xe9 \ud800\n")
    writer.close()
    os.close(end)
    assert read_all(reader) == b"caf\\xe9 \\ud800\n"
