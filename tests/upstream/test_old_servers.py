"""Answers of old or odd members: what is taken, what is a 502, and that the next client gets a clean head."""

from __future__ import annotations

from typing import Any

import pytest

from coserver import App, Request, Upstream, UpstreamProtocolError

from ..server.clients import connect, get
from .peers import Peer, faulty, serving

#: Answers that are taken, with their body and their field X as they are read.
TAKEN: dict[str, tuple[bytes, bytes, str | None]] = {
    "folded": (b"HTTP/1.1 200 OK\r\nX: one\r\n two\r\n\t 3 \r\nContent-Length: 2\r\n\r\nok", b"ok", "one two 3"),
    "folded to nothing": (b"HTTP/1.1 200 OK\r\nX: one \r\n  \r\nContent-Length: 2\r\n\r\nok", b"ok", "one"),
    "blank before the colon": (b"HTTP/1.1 200 OK\r\nX \t: one\r\nContent-Length : 2\r\n\r\nok", b"ok", "one"),
    "padded sizes": (
        b"HTTP/1.1 200 OK\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0003\t\r\nall\r\n0  \r\n\r\n",
        b"okall",
        "1",
    ),
    "zeros before the size": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n000002\r\nok\r\n0000\r\n\r\n", b"ok", None,
    ),
}  # fmt: skip
#: Answers that are none. A bare LF, or a fold of the status line, could be read in two ways by the next hop.
REFUSED: dict[str, bytes] = {
    "a fold of the status line": b"HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 2\r\n\r\nok",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "bare LF in a field": b"HTTP/1.1 200 OK\r\nX: 1\nY: 2\r\nContent-Length: 2\r\n\r\nok",
    "CR in a field": b"HTTP/1.1 200 OK\r\nX: 1\r\r\n 2\r\nContent-Length: 2\r\n\r\nok",
    "bare LF of a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
    "blank before a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\nok\r\n0\r\n\r\n",
    "blank in a name": b"HTTP/1.1 200 OK\r\nX y: 1\r\nContent-Length: 2\r\n\r\nok",
    "two lengths by a blank": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length : 3\r\n\r\nok",
    **{
        f"status {status}": b"HTTP/1.1 %b OK\r\nContent-Length: 2\r\n\r\nok" % status.encode()
        for status in ("000", "099", "20", "2x0", "1000", "-20", "")
    },
}


def sends(answer: bytes, size: int) -> Any:
    async def conversation(peer: Peer) -> None:
        await peer.request()
        for at in range(0, len(answer), size):
            await peer.send(answer[at : at + size])

    return conversation


@pytest.mark.parametrize("size", [1, 1000], ids=["by bytes", "whole"])
@pytest.mark.parametrize("name", TAKEN)
async def test_are_taken(name: str, size: int, codec: str) -> None:
    answer, body, field = TAKEN[name]
    async with faulty(sends(answer, size)) as member, Upstream(member.url, codec=codec) as users:
        response = await users.get("/")
        assert (response.status, response.body, response.headers.get("x")) == (200, body, field)


@pytest.mark.parametrize("name", TAKEN)
async def test_forward_sends_a_clean_head(name: str) -> None:
    answer, body, field = TAKEN[name]
    app = App()
    async with faulty(sends(answer, 1000)) as member:
        back = app.upstream("back", member.url)

        @app.get("/")
        async def passed(request: Request) -> Any:
            return back.forward(request)

        async with serving(app) as server, connect(server.port) as client:
            passed_on = await client.ask(get("/"))
            assert (passed_on.status, passed_on.body) == (200, body)
            if field is not None:
                assert passed_on.headers.get("x") == field


@pytest.mark.parametrize("size", [1, 1000], ids=["by bytes", "whole"])
@pytest.mark.parametrize("name", REFUSED)
async def test_are_refused(name: str, size: int, codec: str) -> None:
    async with faulty(sends(REFUSED[name], size)) as member, Upstream(member.url, codec=codec) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.get("/")


@pytest.mark.parametrize("status", [600, 999])
@pytest.mark.parametrize("how", ["/forwarded", "/answered"])
async def test_a_status_outside_of_all_classes(status: int, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A subrequest has it as it came. Passed on it is a 502: the member's fault, not the handler's."""
    app = App()
    async with faulty(sends(b"HTTP/1.1 %d Denied\r\nContent-Length: 2\r\n\r\nno" % status, 1000)) as member:
        back = app.upstream("back", member.url)

        @app.get("/forwarded")
        async def forwarded(request: Request) -> Any:
            return back.forward(request)

        @app.get("/answered")
        async def answered() -> Any:
            answer = await back.get("/")
            assert answer.status == status
            return answer

        async with serving(app) as server, connect(server.port) as client:
            assert (await client.ask(get(how))).status == 502
    assert f"the member answered with status {status}" in caplog.text
    assert "Traceback" not in caplog.text
