"""What the tests of the reader share: the vectors, and reading bytes cut into pieces to the end as a server would."""

from __future__ import annotations

import base64
import copy
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from coserver.protocol.codecs import CODECS, Parsers
from coserver.protocol.errors import RemoteProtocolError
from coserver.protocol.http1 import HeadLimits, Http1Reader

CODEC_NAMES = sorted(CODECS)
DEFAULT = HeadLimits()
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "http11.json").read_text())
for _vector in VECTORS:
    _vector["raw"] = base64.b64decode(_vector["raw"])

# COSERVER_EXAMPLES=20 searches twenty times as long, each time elsewhere; a plain run is the same every time.
EXAMPLES = int(os.environ.get("COSERVER_EXAMPLES", "1"))


def examples(count: int) -> settings:
    return settings(
        max_examples=count * EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@dataclass
class Message:
    """One request as it was read. ``trailers`` stays None until the body has ended."""

    method: str
    target: str
    minor: int
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] | None = None
    meaning: Any = field(default=None, compare=False)  # what else the head says

    @property
    def whole(self) -> bool:
        return self.trailers is not None


@dataclass
class Reading:
    """All that was read, up to the error if there was one."""

    messages: list[Message] = field(default_factory=list)
    error: RemoteProtocolError | None = None
    buffered: int = 0  # the most that waited in the reader after a piece

    @property
    def status(self) -> int | None:
        return self.error.status if self.error else None

    def seen(self) -> Any:
        """What must not depend on how the bytes came: whole messages, the head of an unfinished one, the error.

        Of a body that is refused on the way, more or less may have been handed out before.
        """
        last = self.messages[-1] if self.messages else None
        if last and not last.whole and self.error:
            last = Message(last.method, last.target, last.minor, last.fields)
        return self.messages[:-1], last, self.status

    def take(self, reader: Http1Reader) -> bool:
        """Read as far as the received bytes go; whether they were refused."""
        try:
            self._take(reader)
        except RemoteProtocolError as error:
            self.error = error
        return self.error is not None

    def _take(self, reader: Http1Reader) -> None:
        while True:
            if reader.body_done:
                head = reader.read_head()
                if head is None:
                    return
                message = Message(head.method, head.target, head.minor, head.fields)
                message.meaning = (
                    head.path, head.query, head.host, head.length, head.keep_alive, head.expect_continue, head.raw,
                )  # fmt: skip
                self.messages.append(message)
            else:
                data = reader.read_body()
                self.messages[-1].body += data
                if not data and not reader.body_done:
                    return
            if reader.body_done:
                self.messages[-1].trailers = list(reader.trailers)


class ParsingReader(Http1Reader):
    """A reader that parses every head, usual ones too."""

    __slots__ = ()
    _read_usual = staticmethod(lambda raw: None)  # type: ignore[assignment]


def read(codec: str | Parsers, pieces: Iterable[bytes], limits: HeadLimits = DEFAULT) -> Reading:
    """Read all that ``pieces`` hold. Lets every exception through but RemoteProtocolError.

    Reads all twice: a usual head is accepted by one pattern, and must be read as the parser reads it.
    """
    pieces = list(pieces)
    other = codec
    if isinstance(codec, Parsers):
        other = copy.copy(codec)
        other.idle = None
    quick = _read(Http1Reader(other, limits), pieces)
    parsed = _read(ParsingReader(codec, limits), pieces)
    assert quick.messages == parsed.messages
    assert [each.meaning for each in quick.messages] == [each.meaning for each in parsed.messages]
    assert quick.buffered == parsed.buffered
    errors = [error and (error.reason, error.status, error.limit) for error in (quick.error, parsed.error)]
    assert errors[0] == errors[1]
    return parsed


def _read(reader: Http1Reader, pieces: list[bytes]) -> Reading:
    reading = Reading()
    for piece in pieces:
        reader.receive(piece)
        if reading.take(reader):
            break
        reading.buffered = max(reading.buffered, reader.buffered)
    return reading


def served(reading: Reading) -> list[str]:
    """The targets that a server would have answered."""
    return [message.target for message in reading.messages if message.whole]


def pieces_of(raw: bytes, size: int) -> list[bytes]:
    """``raw`` in pieces of ``size`` bytes."""
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def cut(raw: bytes, places: Iterable[int]) -> list[bytes]:
    """``raw`` cut at ``places`` (taken modulo its length)."""
    edges = sorted({0, len(raw), *(place % (len(raw) + 1) for place in places)})
    return [raw[start:end] for start, end in pairwise(edges)]


def request(*fields: str, line: str = "GET / HTTP/1.1", body: bytes = b"", host: bool = True) -> bytes:
    """A request from its lines: what a test is about, and nothing else."""
    lines = [line, *(["Host: t.example"] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(body: bytes, *fields: str) -> bytes:
    """A chunked POST with ``body`` as it stands on the wire."""
    return request("Transfer-Encoding: chunked", *fields, line="POST /p HTTP/1.1", body=body)
