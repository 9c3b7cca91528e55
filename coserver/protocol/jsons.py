"""JSON both ways: by orjson if it is installed, else by json, under the same rules (RFC 8259).

UTF-8 without a byte order mark, no NaN or Infinity, no lone surrogate, every digit of an integer, and no deeper than
``DEPTH``. Every value that was read can be written again.
"""

from __future__ import annotations

import json
import math
from importlib.util import find_spec
from typing import Any

#: The most levels of arrays and objects in a text that is read: as many as orjson writes. .NET reads 64, serde 128.
#: Beyond some hundreds of levels Python's own repr, == and copy would fail.
DEPTH = 254

_CONTAINERS = {list, dict}
# Turns digits into zeros, so that a long run of digits is found by a search for zeros, at the speed of memory.
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN, _MINUS_NINETEEN, _TWENTY = b"0" * 19, b"-" + b"0" * 19, b"0" * 20


def decode_json_slowly(text: bytes) -> Any:
    """``decode_json`` by the standard library."""
    value = json.loads(text.decode(), parse_constant=_refuse_constant, parse_float=_finite)
    if _may_nest(text) and _deeper(value):
        raise _too_deep()
    if b"\\ud" in text or b"\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError, for a lone surrogate
    return value


def encode_json_slowly(value: Any) -> bytes:
    """``encode_json`` by the standard library."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


if find_spec("orjson"):
    import orjson

    def _decode(text: bytes) -> Any:
        alike = text.translate(_DIGITS_ALIKE)
        if _NINETEEN in alike and (_TWENTY in alike or _MINUS_NINETEEN in alike):
            return decode_json_slowly(text)  # it might hold an integer beyond 64 bits, which orjson turns into a float
        value = orjson.loads(text)
        if _may_nest(text):
            try:
                orjson.dumps(value)  # a third of the cost of checking each value
            except TypeError:
                raise _too_deep() from None
        return value

    def _encode(value: Any) -> bytes:
        try:
            return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:  # orjson stops at 64-bit integers, JSON does not
            return encode_json_slowly(value)
else:
    _decode, _encode = decode_json_slowly, encode_json_slowly


def encode_json(value: Any) -> bytes:
    """``value`` as JSON. Raises TypeError or ValueError for a value that JSON does not have.

    Integers are unlimited. NaN and infinities become null with orjson, and raise ValueError without it.
    """
    return _encode(value)


def decode_json(text: bytes) -> Any:
    """Parse JSON. Raises ValueError for a text that is invalid, or nests deeper than ``DEPTH``.

    Integers keep every digit, up to the 4,300 that Python converts; other numbers are floats. The search for integers
    of more than 64 bits, which take the slower way, costs 0.3 µs and 1 µs for each KB.
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
