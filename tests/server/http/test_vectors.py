"""Raw requests, sound and hostile, against a live server: whole, byte by byte, and cut in two.

Each vector says what a strict server does with it: ``accept`` (exactly ``n`` final answers), ``reject`` (a 4xx, 501 or
505, or a close; nothing is served), or ``either``. Nothing may ever serve /SMUGGLED.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Limits, Request, testing

from ..clients import answers, connect

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors" / "http11.json").read_text())
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# A client that half-closes and then reads needs no time to linger: it has left as soon as it has been answered.
LIMITS = Limits(linger_timeout=1.0)


class Target:
    """An app that takes everything and remembers what it was asked for."""

    def __init__(self) -> None:
        self.app = App(limits=LIMITS)
        self.served: list[str] = []
        self.app.route("/{path:path}", methods=METHODS)(self.take)

    async def take(self, request: Request, path: str) -> dict[str, Any]:
        self.served.append(request.target)
        digest = hashlib.sha1(request.body).hexdigest()[:8]
        return {"method": request.method, "len": len(request.body), "sha": digest}


async def say(port: int, pieces: Iterable[bytes]) -> bytes:
    """Send the pieces, half-close, and read all that comes."""
    async with connect(port) as client:
        try:
            for piece in pieces:
                await client.send(piece)
                await anyio.lowlevel.checkpoint()
            await client.stream.send_eof()
        except (anyio.BrokenResourceError, OSError):
            pass  # refused in the middle
        return await client.gone()


def judge(vector: dict[str, Any], raw: bytes, served: list[str]) -> None:
    """Hold what came back against what the vector expects."""
    name = vector["id"]
    assert not any("SMUGGLED" in target for target in served), f"{name}: served {served}"
    found = answers(raw, vector.get("method") or "GET") if raw else []
    final = [answer.status for answer in found]
    if vector["expect"] == "reject":
        assert len(found) <= 1, f"{name}: {final}"
        assert all(400 <= status < 500 or status in (501, 505) for status in final), f"{name}: {final}"
        assert not served, f"{name}: served {served}"
    elif vector["expect"] == "accept":
        assert len(found) == vector["n"], f"{name}: {final}"
        assert all(200 <= status < 300 or status in (405, 501) for status in final), f"{name}: {final}"
        if vector.get("body"):
            facts = json.loads(found[0].body)
            assert facts == {"method": vector.get("method") or "POST", **vector["body"]}, name
    else:
        assert 500 not in final, f"{name}: {final}"


def ids(vectors: list[dict[str, Any]]) -> list[str]:
    return [vector["id"].removeprefix("o:") for vector in vectors]


@pytest.fixture(autouse=True)
def calm(caplog: pytest.LogCaptureFixture) -> Any:
    """A refusal is logged as a warning; an error would be a bug of the server's."""
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def run(target: Target, port: int, vector: dict[str, Any], pieces: Iterable[bytes]) -> None:
    target.served.clear()
    judge(vector, await say(port, pieces), target.served)


async def test_whole(codec: str) -> None:
    target = Target()
    async with testing.serving(target.app, codec=codec) as server:
        for vector in VECTORS:
            await run(target, server.port, vector, [base64.b64decode(vector["raw"])])


async def test_byte_by_byte(codec: str) -> None:
    target = Target()
    async with testing.serving(target.app, codec=codec) as server:
        for vector in VECTORS:
            raw = base64.b64decode(vector["raw"])
            if len(raw) <= 400:
                await run(target, server.port, vector, (raw[at : at + 1] for at in range(len(raw))))


CHOICE = [
    vector
    for vector in VECTORS
    if vector["id"][2:]
    in {
        "get", "post-chunked", "chunked-pipeline", "get-with-body", "pipeline-close", "expect-100", "cl.te",
        "chunk-ext-lf-smuggle", "cl-dup-diff", "lf-hides-te", "reject-then-get", "chunked-trailer",
    }
]  # fmt: skip


@pytest.mark.parametrize("vector", CHOICE, ids=ids(CHOICE))
async def test_split_in_two_anywhere(codec: str, vector: dict[str, Any]) -> None:
    target = Target()
    raw = base64.b64decode(vector["raw"])
    async with testing.serving(target.app, codec=codec) as server:
        for at in range(1, len(raw)):
            await run(target, server.port, vector, [raw[:at], raw[at:]])


async def test_observed_vectors_keep_the_order(codec: str) -> None:
    """Each refusal is told as one: the order check of ``serving`` sees every event."""
    target = Target()
    seen: list[str] = []
    target.app.emitter.add_observer(lambda event: seen.append(type(event).__name__))
    async with testing.serving(target.app, codec=codec) as server:
        for vector in VECTORS:
            if vector["expect"] == "reject":
                await run(target, server.port, vector, [base64.b64decode(vector["raw"])])
    assert seen.count("RequestRefused") > 100
    assert seen.count("ResponseStarted") == seen.count("ResponseFinished")
