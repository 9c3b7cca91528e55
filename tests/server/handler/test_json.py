"""JSON both ways: one strictness, whichever library reads, and nothing is read that cannot be written again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coserver import App, Request
from coserver.protocol import jsons
from coserver.protocol.jsons import DEPTH, decode_json, decode_json_slowly, encode_json, encode_json_slowly

from ..clients import connect, get, post, talking

Reader = Callable[[bytes], Any]


def slowly(text: bytes) -> Any:
    """As if orjson were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsons, "_decode", decode_json_slowly)
        return decode_json(text)


READERS = [pytest.param(decode_json, id="fast" if find_spec("orjson") else "same"), pytest.param(slowly, id="slow")]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
WRONG = [
    b"", b" ", b"{", b"[1,]", b"{'a': 1}", b"NaN", b"Infinity", b"[-Infinity]", b"1e400", b"-1e400", b"[1e999]",
    b"\xff", b'"\xe9"', b"\xef\xbb\xbf1", b'"\xed\xa0\x80"', '"a"'.encode("utf-16"), b"1\x00", b'"\n"', b"01", b"1.",
    b".5", b"+1", b"True", b'"\\ud800"', b'"\\uDFFF"', b'{"\\ud83d": 1}', b'"\\udead\\ud83d"', b"1 2", b"[1]]",
    b"/**/1", b"1" * 5000, b"[" * 100_000, b'{"a":' * 100_000, b"\\ud800",
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:20]))
def test_what_is_no_json(text: bytes, read: Reader) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each library has its own words
        read(text)


@pytest.mark.parametrize("read", READERS)
def test_every_digit_is_kept(read: Reader) -> None:
    for number in (
        1 << 63,
        (1 << 63) - 1,
        -(1 << 63),
        -(1 << 63) - 1,
        (1 << 64) - 1,
        1 << 64,
        10**19,
        -(10**18),
        10**400,
    ):
        assert read(b"[%d]" % number) == [number]
        assert type(read(b"%d" % number)) is int
    # Long runs of digits that are no integers.
    assert read(b'{"12345678901234567890": 1.2345678901234567890123, "a": 1e-400}') == {
        "12345678901234567890": 1.2345678901234567,
        "a": 0.0,
    }


@pytest.mark.parametrize("read", READERS)
def test_surrogates_in_pairs_are_characters(read: Reader) -> None:
    assert read(b'"\\ud83d\\ude00 \\\\ud800"') == "\U0001f600 \\ud800"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[[],{"b":', b"}]")])
def test_depth(read: Reader, begin: bytes, end: bytes) -> None:
    levels = begin.count(b"{") + begin.startswith(b"[")
    allowed = DEPTH // levels
    deep = read(begin * allowed + b"1" + end * allowed)
    assert json.loads(encode_json(deep)) == json.loads(encode_json_slowly(deep)) == deep
    assert json.loads(encode_json({"the same": [deep]})) == {"the same": [deep]}
    with pytest.raises(ValueError, match=f"deeper than {DEPTH} levels"):
        read(begin * (allowed + 1) + b"1" + end * (allowed + 1))


@pytest.mark.parametrize("read", READERS)
def test_wide_is_not_deep(read: Reader) -> None:
    wide = [[{"a": []}] * 10] * 100
    assert read(json.dumps(wide).encode()) == wide


@given(values)
@example([10**25, {"a": -(10**19)}])
def test_round_trip(value: Any) -> None:
    assert decode_json(encode_json(value)) == value
    assert slowly(encode_json_slowly(value)) == value


@given(st.text(st.sampled_from('[]{}:,"\\ud8019.e-+NaIfnity tru\x00é'), max_size=30) | values.map(json.dumps))
@example('"\\ud800"')
def test_both_libraries_judge_alike(text: str) -> None:
    outcomes = []
    for read in (decode_json, slowly):
        try:
            outcomes.append(repr(read(text.encode())))
        except ValueError:
            outcomes.append("no JSON")
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=60))
def test_any_octets(text: bytes) -> None:
    for read in (decode_json, slowly):
        try:
            value = read(text)
        except ValueError:
            continue
        encode_json(value)
        encode_json_slowly(value)


def echo() -> App:
    app = App()

    @app.post("/def")
    def plain(request: Request) -> Any:
        return {"got": request.json()}

    @app.post("/async")
    async def on_the_loop(request: Request) -> Any:
        return {"got": request.json()}

    return app


@pytest.mark.parametrize("path", ["/def", "/async"])
async def test_an_echo_is_never_a_500(path: str) -> None:
    async with talking(echo()) as (_, client):
        for body in WRONG:
            answer = await client.ask(post(path, body))
            assert answer.status == 400, body[:50]
            assert answer.text.startswith("400 Bad Request\nThe body is not JSON: ")
        deep = b"[" * DEPTH + b"]" * DEPTH
        for body in (b"18446744073709551616", b'"\\ud83d\\ude00"', b"null", b"-0.0", deep, b'{"":{"a":[1.5]}}'):
            answer = await client.ask(post(path, body))
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert json.loads(answer.body) == {"got": json.loads(body)}


async def test_an_empty_body_is_said_to_be_empty() -> None:
    async with talking(echo()) as (server, client):
        assert (await client.ask(post("/def", b""))).text == "400 Bad Request\nThe body is not JSON: it is empty\n"
        async with connect(server.port) as other:
            assert (await other.ask(get("/def", method="POST"))).status == 400


def test_without_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module as it is made where orjson is not installed."""
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "orjson" else real(name, *rest))
    spec = real("coserver.protocol.jsons")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._decode is module.decode_json_slowly
    assert module.encode_json({"a": [1 << 70]}) == b'{"a":[1180591620717411303424]}'
    assert sys.modules["coserver.protocol.jsons"] is jsons
