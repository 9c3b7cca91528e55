"""JSON both ways: one strictness, whichever library reads, and nothing is read that cannot be written again."""

from __future__ import annotations

import enum
import json
import math
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from functools import cached_property
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coserver import App, Request
from coserver.protocol import jsons
from coserver.protocol.jsons import DEPTH, decode_json, decode_json_slowly, encode_json, encode_json_slowly

from ..clients import connect, get, post, talking

Reader = Callable[[bytes], Any]
Writer = Callable[[Any], bytes]


def slowly(text: bytes) -> Any:
    """As if orjson were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsons, "_decode", decode_json_slowly)
        return decode_json(text)


def encode_slowly(value: Any) -> bytes:
    """As if orjson were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsons, "_encode", encode_json_slowly)
        return encode_json(value)


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
    b"\xff", b'"\xe9"', b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf1", b" \xef\xbb\xbf1",
    b'"\xed\xa0\x80"', '"a"'.encode("utf-16"), b"1\x00", b'"\n"', b"01", b"1.",
    b".5", b"+1", b"True", b'"\\ud800"', b'"\\uDFFF"', b'{"\\ud83d": 1}', b'"\\udead\\ud83d"', b"1 2", b"[1]]",
    b"/**/1", b"1" * 5000, b"[" * 100_000, b'{"a":' * 100_000, b"\\ud800",
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:20]))
def test_what_is_no_json(text: bytes, read: Reader) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each library has its own words
        read(text)


@pytest.mark.parametrize("read", READERS)
def test_a_byte_order_mark_is_ignored(read: Reader) -> None:
    """RFC 8259 §8.1; Windows' editors and Excel write it."""
    assert read(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert read(b"\xef\xbb\xbf[12345678901234567890123]") == [12345678901234567890123]


class Plain(enum.Enum):
    A = "a"
    PAIR = (1, 2)
    AT = datetime(2026, 1, 2)


class Word(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class Tuple(NamedTuple):
    x: int
    y: object


@dataclass
class Point:
    x: int
    y: object
    _hidden: int = 0

    @cached_property
    def far(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Slots:
    a: object


class Real(float):
    pass


class Scalar:
    """As numpy's are, which is not installed everywhere."""

    __module__ = "numpy"

    def __init__(self, plain: object, kind: str = "i") -> None:
        self.plain, self.dtype = plain, SimpleNamespace(kind=kind)

    def tolist(self) -> object:
        return self.plain

    def astype(self, kind: str) -> Scalar:
        assert kind == "datetime64[us]"
        return Scalar(datetime(2026, 1, 2))

    def __hash__(self) -> int:
        return 1


seen = Point(1, 2)
assert seen.far  # an attribute of the instance now, and no field
ODD = timezone(timedelta(minutes=19, seconds=32))
WRITTEN: list[tuple[Any, Any]] = [
    (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006+00:00"),
    (datetime(1, 1, 1, tzinfo=ODD), "0001-01-01T00:00:00+00:19:32"),
    (date(2026, 1, 2), "2026-01-02"),
    (clock(3, 4, 5, 6), "03:04:05.000006"),
    (clock(3, 4, tzinfo=UTC), "03:04:00+00:00"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (Decimal("1.10"), "1.10"),
    (Decimal("NaN"), "NaN"),
    (Plain.A, "a"),
    (Plain.PAIR, [1, 2]),
    (Plain.AT, "2026-01-02T00:00:00"),
    (Word.A, "a"),
    (Number.ONE, 1),
    (Point(1, {"z": Decimal(2)}), {"x": 1, "y": {"z": "2"}}),
    (seen, {"x": 1, "y": 2}),
    (Slots(Point(1, math.nan)), {"a": {"x": 1, "y": None}}),
    (Tuple(1, math.inf), [1, None]),
    ({5}, [5]),
    (frozenset("x"), ["x"]),
    (math.nan, None),
    ([math.inf, -math.inf, 1.5, Real(2.5), Real("nan")], [None, None, 1.5, 2.5, None]),
    (1 << 70, 1 << 70),
    ({"a": [-(1 << 64), math.nan, Decimal(1), {1}]}, {"a": [-(1 << 64), None, "1", [1]]}),
    ({2: 1, -(1 << 70): 2, None: 3, True: 4}, {"2": 1, str(-(1 << 70)): 2, "null": 3, "true": 4}),
    ({False: 0, 1.5: 1, 1e16: 2, math.nan: 3}, {"false": 0, "1.5": 1, "1e+16": 2, "null": 3}),
    ({date(2026, 1, 2): 1, UUID(int=1): 2}, {"2026-01-02": 1, "00000000-0000-0000-0000-000000000001": 2}),
    ({Plain.A: 1, Number.ONE: 2, Decimal("1.5"): 3}, {"a": 1, "1": 2, "1.5": 3}),
    ({Word.A: {1: math.nan}}, {"a": {"1": None}}),
    (OrderedDict(a=defaultdict(list, b=[1])), {"a": {"b": [1]}}),
    ([Scalar(1), Scalar([1.5, math.nan]), Scalar(None, "M")], [1, [1.5, None], "2026-01-02T00:00:00"]),
    ({Scalar(7): Scalar(True)}, {"7": True}),
]
WRITERS = [
    pytest.param(encode_json, id="fast" if find_spec("orjson") else "same"),
    pytest.param(encode_slowly, id="slow"),
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("value", "expected"), WRITTEN, ids=lambda value: type(value).__name__)
def test_one_contract_for_what_is_written(write: Writer, value: Any, expected: Any) -> None:
    for wrapped, right in ((value, expected), ([value], [expected]), ({"a": value}, {"a": expected})):
        assert json.loads(write(wrapped)) == right


circle: list[Any] = []
circle.append(circle)
endless: dict[str, Any] = {}
endless["a"] = [endless]
deep: Any = 1
for _ in range(100_000):
    deep = [deep]
REFUSED: list[tuple[Any, type[Exception]]] = [
    (b"x", TypeError), (bytearray(b"x"), TypeError), (memoryview(b"x"), TypeError), (object(), TypeError),
    (1j, TypeError), (timedelta(1), TypeError), (Point, TypeError), (iter([]), TypeError), ({(1, 2): 1}, TypeError),
    ({b"a": 1}, TypeError), ({frozenset(): 1}, TypeError), (Point(1, b""), TypeError), ({b""}, TypeError),
    (Scalar(b""), TypeError), ("\ud800", ValueError), ({"\udfff": 1}, ValueError), ([{"a": "\ud83d"}], ValueError),
    (circle, ValueError), (endless, ValueError), (deep, ValueError), (10**5000, ValueError),
]  # fmt: skip


@pytest.mark.parametrize(("value", "error"), REFUSED, ids=lambda value: type(value).__name__)
def test_what_is_refused_is_refused_alike(value: Any, error: type[Exception]) -> None:
    said = set()
    for write in (encode_json, encode_slowly):
        for wrapped in (value, {"a": [value]}):
            with pytest.raises(error) as caught:
                write(wrapped)
            said.add((type(caught.value), str(caught.value).partition("position")[0]))
    assert len(said) == 1


def test_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    value = {
        "a": numpy.int64(3), "b": numpy.float32(1.5), "c": numpy.bool_(True), "d": numpy.array([[1, 2], [3, 4]]),
        "e": numpy.float64("nan"), "f": numpy.str_("x"),
        numpy.int8(1): numpy.datetime64("2026-01-02T03:04:05.000000006"),
        "g": numpy.longdouble(2), "h": numpy.uint64((1 << 64) - 1), "i": numpy.array([1.5])[::2],
    }  # fmt: skip
    expected = {
        "a": 3, "b": 1.5, "c": True, "d": [[1, 2], [3, 4]], "e": None, "f": "x", "1": "2026-01-02T03:04:05", "g": 2.0,
        "h": (1 << 64) - 1, "i": [1.5],
    }  # fmt: skip
    for write in (encode_json, encode_slowly):
        assert json.loads(write(value)) == expected
        with pytest.raises(TypeError):
            write([numpy.bytes_(b"x")])


class Frame:
    """As a DataFrame of pandas is, which is not installed everywhere."""

    __module__ = "pandas.core.frame"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return self.rows


Frame.__name__ = "DataFrame"


class Indexed(Frame):
    """GeoDataFrame is such a subclass."""

    __module__ = "elsewhere"


class Missing(datetime):
    """As pandas' NaT is: a datetime whose isoformat is no date."""

    __module__ = "pandas._libs.tslibs.nattype"

    def isoformat(self, *_: Any) -> str:
        return "NaT"


Missing.__name__ = "NaTType"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("kind", [Frame, Indexed])
def test_a_frame_is_its_rows(write: Writer, kind: type[Frame]) -> None:
    frame = kind([{"at": Missing(1, 1, 1), "p": math.nan, 1: Scalar(2)}, {"at": date(2026, 1, 2), "p": 0.5, 1: 3}])
    rows = [{"at": None, "p": None, "1": 2}, {"at": "2026-01-02", "p": 0.5, "1": 3}]
    assert json.loads(write(frame)) == rows
    assert json.loads(write({"a": frame})) == {"a": rows}


@pytest.mark.parametrize("write", WRITERS)
def test_pandas(write: Writer) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({
        "n": [1, 2], "p": [0.5, math.nan], "at": pandas.to_datetime(["2026-01-02", None]),
        "word": ["a", None], "flag": pandas.array([True, None], dtype="boolean"),
    }, index=[7, 9])  # fmt: skip
    assert json.loads(write(frame)) == [
        {"n": 1, "p": 0.5, "at": "2026-01-02T00:00:00", "word": "a", "flag": True},
        {"n": 2, "p": None, "at": None, "word": None, "flag": None},
    ]
    assert json.loads(write([frame.n, frame.index, frame.n.iloc[0]])) == [[1, 2], [7, 9], 1]


@pytest.mark.parametrize("write", WRITERS)
def test_pydantic(write: Writer) -> None:
    pydantic = pytest.importorskip("pydantic")
    part = pydantic.create_model("Part", at=(date, ...), n=(float, 0))
    item_of = pydantic.create_model("Item", parts=(list[part], ...), id=(UUID, UUID(int=1)), word=(Word, Word.A))
    item = item_of(parts=[part(at=date(2026, 1, 2)), part(at=date(2026, 1, 3), n=math.inf)])
    expected = {
        "parts": [{"at": "2026-01-02", "n": 0}, {"at": "2026-01-03", "n": None}],
        "id": "00000000-0000-0000-0000-000000000001",
        "word": "a",
    }
    for wrapped, right in (
        (item, expected),
        ({"a": [item]}, {"a": [expected]}),
        (Point(1, item), {"x": 1, "y": expected}),
    ):
        assert json.loads(write(wrapped)) == right
    numbers = pydantic.RootModel[list[int]]
    assert json.loads(write(numbers([1, 2]))) == [1, 2]


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
