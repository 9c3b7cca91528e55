"""Events as bytes, read back by a parser after the letter of the standard."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import ServerSentEvent
from coserver.protocol.sse import HEARTBEAT, encode_event


def read(stream: bytes) -> list[dict[str, Any]]:
    """The HTML standard's algorithm (§9.2.6), line by line."""
    found: list[dict[str, Any]] = []
    buffer: list[str] = []
    kind, last_id, retry = "", "", None
    text = stream.decode()
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if buffer:
                found.append({"data": "\n".join(buffer), "event": kind, "id": last_id, "retry": retry})
            buffer, kind = [], ""
        elif not name and colon:
            continue
        elif name == "data":
            buffer.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            last_id = value if "\0" not in value else last_id
        elif name == "retry":
            retry = int(value)
    return found


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (("x",), b"data: x\n\n"),
        (("",), b"data: \n\n"),
        (("a\nb",), b"data: a\ndata: b\n\n"),
        (("a\r\nb\rc\n",), b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        ((" a",), b"data:  a\n\n"),
        (("é",), b"data: \xc3\xa9\n\n"),
        (("x", "tick", "7", 1000), b"event: tick\nid: 7\nretry: 1000\ndata: x\n\n"),
        ((None, None, None, 0), b"retry: 0\n\n"),
        (("x", "", ""), b"event: \nid: \ndata: x\n\n"),  # an empty id forgets the last one
    ],
)
def test_bytes(event: tuple[Any, ...], data: bytes) -> None:
    assert encode_event(*event) == data


@given(st.text(), st.text(), st.text())
def test_no_text_breaks_out_of_its_field(data: str, kind: str, id: str) -> None:
    bad = "\r\n\0"
    if any(char in bad for char in kind + id):
        with pytest.raises(ValueError, match="must not hold"):
            ServerSentEvent(data, kind, id)
        return
    written = encode_event(data, kind, id) + HEARTBEAT + encode_event("next")
    lines = "\n".join(data.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    assert [each["data"] for each in read(written)] == [lines, "next"]
    assert read(written)[0]["event"] == kind
    assert read(written)[0]["id"] == id


@pytest.mark.parametrize("char", ["\u2028", "\x0b", "\x0c", "\x85", "\x1c"])
def test_other_line_ends_are_ordinary_characters(char: str) -> None:
    assert encode_event(f"a{char}b") == f"data: a{char}b\n\n".encode()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"event": "a\nb"}, ValueError),
        ({"id": "a\rb"}, ValueError),
        ({"id": "a\0b"}, ValueError),
        ({"event": "a\0b"}, ValueError),
        ({"id": 7}, TypeError),
        ({"event": b"x"}, TypeError),
        ({"retry": -1}, ValueError),
        ({"retry": 1.5}, TypeError),
        ({"retry": True}, TypeError),
        ({"retry": "1"}, TypeError),
    ],
)
def test_what_cannot_be_said(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"an event's"):
        ServerSentEvent("x", **wrong)


def test_an_event_is_a_value() -> None:
    assert ServerSentEvent("x", id="1") == ServerSentEvent("x", None, "1")
    assert repr(ServerSentEvent("x")) == "ServerSentEvent(data='x', event=None, id=None, retry=None)"
