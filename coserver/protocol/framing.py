"""Framings: where a message ends in a TCP byte stream. Bytes in, whole messages out; no I/O.

A new framing is a class with ``decode`` and ``encode`` and a row in ``FRAMINGS``. ``decode`` takes one message off the
front of the buffer, or returns None when it needs more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .errors import LocalProtocolError, RemoteProtocolError


class Framing(Protocol):
    """Cuts messages out of bytes. One object serves one connection; only ``decode`` may change ``buffer``."""

    def decode(self, buffer: bytearray) -> bytes | None:
        """Take the first whole message off ``buffer``; None if there is none yet. Raises RemoteProtocolError."""
        ...

    def encode(self, message: bytes) -> bytes:
        """The bytes that carry ``message``. Raises LocalProtocolError for a message that cannot be framed."""
        ...


class Raw:
    """No framing: the bytes that have arrived are a message, at most ``size_max`` bytes at a time."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max

    def decode(self, buffer: bytearray) -> bytes | None:
        """The bytes that have come, ``size_max`` at most; None if there are none."""
        if not buffer:
            return None
        message = bytes(buffer[: self.size_max])
        del buffer[: self.size_max]
        return message

    def encode(self, message: bytes) -> bytes:
        return message


class Lines:
    """One message per line. LF ends it, a CR before the LF is dropped. An empty line is a message."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._searched = 0  # an unfinished line is searched once, however slowly it comes

    def decode(self, buffer: bytearray) -> bytes | None:
        """The next line without its end. Raises RemoteProtocolError for more than ``size_max`` bytes, ended or not."""
        end = buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(buffer)
        # One byte more than the line: its CR.
        if (end if end >= 0 else len(buffer)) > self.size_max + 1:
            raise _too_long("a line", self.size_max)
        if end < 0:
            return None
        line = bytes(buffer[:end]).removesuffix(b"\r")
        if len(line) > self.size_max:
            raise _too_long("a line", self.size_max, f"; this one has {len(line)}")
        del buffer[: end + 1]
        self._searched = 0
        return line

    def encode(self, message: bytes) -> bytes:
        """The message as a line. Raises LocalProtocolError for a message that holds an LF."""
        if b"\n" in message:
            raise LocalProtocolError("a message of framing 'lines' must not hold a newline; send it as several")
        # A CR at the end of the message must not be the one that the other end drops.
        return message + (b"\r\n" if message.endswith(b"\r") else b"\n")


class Length:
    """A prefix, a 4-byte big-endian length, then as many bytes. An empty message is a message."""

    def __init__(self, size_max: int, prefix: bytes = b"") -> None:
        self.size_max = size_max
        self.prefix = prefix
        self._head = len(prefix) + 4

    def decode(self, buffer: bytearray) -> bytes | None:
        """The next message. Raises RemoteProtocolError for another prefix, a length below 0 or over ``size_max``."""
        prefix = self.prefix
        if prefix and not buffer.startswith(prefix[: len(buffer)]):
            got = bytes(buffer[: len(prefix)]).hex(" ")
            raise RemoteProtocolError(f"a message must start with the bytes {prefix.hex(' ')}; got {got}")
        if len(buffer) < self._head:
            return None
        size = int.from_bytes(buffer[len(prefix) : self._head], "big", signed=True)
        if size < 0:
            raise RemoteProtocolError(f"a message's length must not be negative; got {size}")
        if size > self.size_max:
            raise _too_long("a message", self.size_max, f"; this one says {size}")
        end = self._head + size
        if len(buffer) < end:
            return None
        message = bytes(buffer[self._head : end])
        del buffer[:end]
        return message

    def encode(self, message: bytes) -> bytes:
        """Prefix, length, message. Raises LocalProtocolError from 2 GiB on."""
        if len(message) > 0x7FFF_FFFF:
            raise LocalProtocolError(f"a message must be shorter than 2 GiB; got {len(message)} bytes")
        return b"%b%b%b" % (self.prefix, len(message).to_bytes(4, "big"), message)


def _too_long(what: str, size_max: int, rest: str = "") -> RemoteProtocolError:
    return RemoteProtocolError(f"{what} must be at most {size_max} bytes long{rest}", 413, "frame_size")


def _coserver(size_max: int) -> Framing:
    return Length(size_max, prefix=b"\xe8\x00\x00\x00")


FRAMINGS: dict[str, Callable[[int], Framing]] = {"raw": Raw, "lines": Lines, "length": Length, "coserver": _coserver}
