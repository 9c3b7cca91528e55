"""JSON both ways: by orjson where it is installed, else by json, which are held to the same rules (RFC 8259).

UTF-8 without a byte order mark, no NaN or Infinity, no half of a surrogate pair, every digit of an integer, and no
deeper than ``DEPTH``. Whatever was read can be written again.
"""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from typing import Any

#: Levels of arrays and objects in a text that is read: as many as orjson writes. .NET reads 64, serde 128. Beyond some
#: hundreds Python's own repr, == and copy would fail on it.
DEPTH = 254

_CONTAINERS = {list, dict}
# A run of digits becomes a run of zeros, which a search for so many finds at the speed of memory.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN, _MINUS_NINETEEN, _TWENTY = b"0" * 19, b"-" + b"0" * 19, b"0" * 20


def decode_json_slowly(text: bytes) -> Any:
    """As ``decode_json``, by the standard library."""
    value = json.loads(text.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    if _may_nest(text) and _deeper(value):
        raise _too_deep()
    if b"\\ud" in text or b"\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for half a pair
    return value


def encode_json_slowly(value: Any) -> bytes:
    """As ``encode_json``, by the standard library."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


if find_spec("orjson"):
    import orjson

    def _decode(text: bytes) -> Any:
        alike = text.translate(_DIGITS_ALIKE)
        if _NINETEEN in alike and (_TWENTY in alike or _MINUS_NINETEEN in alike):
            return decode_json_slowly(text)  # it might hold an integer beyond 64 bits, which orjson makes a float
        value = orjson.loads(text)
        if _may_nest(text):
            try:
                orjson.dumps(value)  # a third of what a look at each value costs
            except TypeError:
                raise _too_deep() from None
        return value

    def _encode(value: Any) -> bytes:
        try:
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # it stops at 64-bit integers, which JSON does not
            return encode_json_slowly(value)
else:
    _decode, _encode = decode_json_slowly, encode_json_slowly


def encode_json(value: Any) -> bytes:
    """``value`` as JSON. Raises TypeError or ValueError for what JSON cannot say.

    Integers have no bounds. NaN and infinities are null to orjson, and a ValueError without it.
    """
    return _encode(value)


def decode_json(text: bytes) -> Any:
    """The value that ``text`` says. Raises ValueError for what is no JSON, or nests deeper than ``DEPTH``.

    Integers keep every digit, up to the 4,300 that Python converts; other numbers are floats. Looking for integers of
    more than 64 bits, which go the slower way, costs 0.3 µs and 1 for each KB.
    """
    if not text:
        raise ValueError("it is empty")
    try:
        return _decode(text)
    except RecursionError:
        raise _too_deep() from None


def _may_nest(text: bytes) -> bool:
    return len(text) > 2 * DEPTH and text.count(b"[") + text.count(b"{") > DEPTH


def _too_deep() -> ValueError:
    return ValueError(f"it nests deeper than {DEPTH} levels")


def _deeper(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is too large a number")
    return number
