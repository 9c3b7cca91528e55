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
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
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
#: Answers with lines that end with LF alone, taken if asked for: their body and their field X.
BARE_LF: dict[str, tuple[bytes, bytes, str | None]] = {
    "all of a head": (b"HTTP/1.1 200 OK\nX: 1\nContent-Length: 2\n\nok", b"ok", "1"),
    "one field": (b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 2\r\n\r\nok", b"ok", "1"),
    "the empty line": (b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 2\r\n\nok", b"ok", "1"),
    "the last field": (b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 2\n\r\nok", b"ok", "1"),
    "a fold": (b"HTTP/1.1 200 OK\nX: one\n two\nContent-Length : 2\n\nok", b"ok", "one two"),
    "a body of line ends": (b"HTTP/1.1 200 OK\nContent-Length: 6\n\n\n\r\n\r\n\n", b"\n\r\n\r\n\n", None),
    "an interim response": (
        b"HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 2\r\n\r\nok", b"ok", "1",
    ),
    "until the close": (b"HTTP/1.1 200 OK\nX: 1\n\no\nk", b"o\nk", "1"),
    "a size": (CHUNKED + b"2\nok\r\n3 \nall\r\n0\r\n\r\n", b"okall", None),
    "data": (CHUNKED + b"2;a=b\r\nok\n0\r\n\r\n", b"ok", None),
    "all of the chunks": (CHUNKED + b"2\nok\n3\t\n\n\r\n\n0\n\n", b"ok\n\r\n", None),
    "a trailer": (CHUNKED + b"2\r\nok\r\n0\r\nT: 1\nU: 2\r\n\n", b"ok", None),
}  # fmt: skip
#: Answers that are none, with the switch too: each could hide something.
SMUGGLED: dict[str, bytes] = {
    "two lengths": b"HTTP/1.1 200 OK\r\nX: 1\nContent-Length: 0\r\nContent-Length: 2\r\n\r\nok",
    "a length and chunks": b"HTTP/1.1 200 OK\r\nX: 1\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok",
    "CR in a field": b"HTTP/1.1 200 OK\nX: 1\rY: 2\nContent-Length: 2\n\nok",
    "two CR": b"HTTP/1.1 200 OK\nX: 1\r\r\nContent-Length: 2\n\nok",
    "NUL": b"HTTP/1.1 200 OK\nX: \x001\nContent-Length: 2\n\nok",
    "a line before": b"\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "a fold of the status line": b"HTTP/1.1 200 OK\n X: 1\nContent-Length: 2\n\nok",
    "behind an extension": CHUNKED + b"2;a=b\nok\r\n0\r\n\r\n",
    "in an extension": CHUNKED + b"2;a\nok\r\n0\r\n\r\n",
    "in a quoted extension": CHUNKED + b'2;a="\nok\r\n0\r\n\r\n"\r\n',
    "no size": CHUNKED + b"\n2\nok\n0\n\n",
    "CR of a size": CHUNKED + b"2\r\r\nok\n0\n\n",
    "data too long": CHUNKED + b"2\nokX\n0\n\n",
    "a length in the trailer": CHUNKED + b"2\nok\n0\nContent-Length: 3\n\n",
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


@pytest.mark.parametrize("size", [1, 1000], ids=["by bytes", "whole"])
@pytest.mark.parametrize("name", BARE_LF)
async def test_bare_lf_is_taken_if_asked_for(name: str, size: int, codec: str) -> None:
    """Such an answer ends its connection: no byte behind it can be read as another one."""
    answer, body, field = BARE_LF[name]

    talk = sends(answer, size)

    async def conversation(peer: Peer) -> None:
        await talk(peer)
        if name != "until the close":
            await peer.request()

    async with faulty(conversation) as member, Upstream(member.url, codec=codec, accept_bare_lf=True) as users:
        for _ in range(2):
            response = await users.get("/")
            assert (response.status, response.body, response.headers.get("x")) == (200, body, field)
        assert member.accepted == 2


@pytest.mark.parametrize("name", BARE_LF)
async def test_bare_lf_is_passed_on_as_crlf(name: str) -> None:
    answer, body, field = BARE_LF[name]
    app = App()
    async with faulty(sends(answer, 1000)) as member:
        back = app.upstream("back", member.url, accept_bare_lf=True)

        @app.get("/")
        async def passed(request: Request) -> Any:
            return back.forward(request)

        async with serving(app) as server, connect(server.port) as client:
            await client.send(get("/").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            raw = await client.rest()
    head, _, rest = raw[raw.rindex(b"HTTP/1.1 200") :].partition(b"\r\n\r\n")
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert field is None or f"x: {field}".encode() in head.lower()
    assert body in rest


@pytest.mark.parametrize("size", [1, 1000], ids=["by bytes", "whole"])
@pytest.mark.parametrize("name", SMUGGLED)
async def test_with_bare_lf_nothing_is_smuggled(name: str, size: int, codec: str) -> None:
    talk = sends(SMUGGLED[name], size)
    async with faulty(talk) as member, Upstream(member.url, codec=codec, accept_bare_lf=True) as users:
        with pytest.raises(UpstreamProtocolError):
            await users.get("/")


async def test_an_answer_hidden_behind_one_with_bare_lf_answers_nobody(codec: str) -> None:
    async def conversation(peer: Peer) -> None:
        await peer.request()
        first = b"HTTP/1.1 200 OK\nContent-Length: 5\n\nfirst"
        await peer.send(first + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhidden" * (peer.number == 1))

    async with faulty(conversation) as member, Upstream(member.url, codec=codec, accept_bare_lf=True) as users:
        assert [(await users.get("/")).body for _ in range(2)] == [b"first", b"first"]
