"""JSON both ways: by orjson if it is installed, else by json, under the same rules (RFC 8259).

Read: UTF-8, a byte order mark before it is ignored; no NaN or Infinity, no lone surrogate, every digit of an integer,
and no deeper than ``DEPTH``. Every value that was read can be written again.

Written: ``encode_json_slowly`` defines the text. orjson gets only values of which it writes the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from enum import Enum
from importlib.util import find_spec
from typing import Any

#: The most levels of arrays and objects in a text that is read: as many as orjson writes. .NET reads 64, serde 128.
#: Beyond some hundreds of levels Python's own repr, == and copy would fail.
DEPTH = 254

_BOM = b"\xef\xbb\xbf"
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
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError):  # NaN, a key that is no str, or an error that ``_normal`` raises again
        text = _encoder.encode(_normal(value))
    return text.encode()


def as_plain(value: Any) -> Any:
    """A value of a type that JSON does not have, as one nearer to JSON. Raises TypeError."""
    rule = rule_for(type(value))
    if rule is None:
        raise TypeError(f"JSON has no {type(value).__qualname__}: {value!r:.60}")
    return rule(value)


def rule_for(kind: type) -> Callable[[Any], Any] | None:
    """The function that makes a value of this type one nearer to JSON; None if there is none."""
    if issubclass(kind, Enum):
        return _value_of
    if issubclass(kind, set | frozenset | tuple):
        return list
    if issubclass(kind, float):  # a subclass, which orjson does not take
        return float
    if hasattr(kind, "__dataclass_fields__"):
        return _fields_of
    for base in kind.__mro__:  # the nearest first: pandas' NaT is a datetime too
        package = base.__module__.partition(".")[0]
        if (rule := _RULES.get((package, base.__name__))) is not None:
            return rule
        if package == "numpy" and hasattr(kind, "tolist"):
            return _plain_numpy
    return None


def _value_of(value: Enum) -> Any:
    return value.value


def _fields_of(value: Any) -> dict[str, Any]:
    from dataclasses import fields

    return {field.name: getattr(value, field.name) for field in fields(value) if field.name[:1] != "_"}


def _plain_numpy(value: Any) -> Any:
    if value.dtype.kind == "M":
        value = value.astype("datetime64[us]")  # nanoseconds would become an int
    plain = value.tolist()
    return float(plain) if type(plain).__name__ == "longdouble" else plain


def _plain_model(model: Any) -> Any:
    """A model of pydantic, by its own rules for JSON; of version 1, which has none, by ours."""
    return model.model_dump(mode="json") if hasattr(model, "model_dump") else model.dict()


# By package and name: none of these is loaded for the sake of the table.
_RULES: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("datetime", "datetime"): lambda value: value.isoformat(),
    ("datetime", "date"): lambda value: value.isoformat(),
    ("datetime", "time"): lambda value: value.isoformat(),
    ("decimal", "Decimal"): str,
    ("uuid", "UUID"): str,
    ("pydantic", "BaseModel"): _plain_model,
    ("pandas", "DataFrame"): lambda frame: frame.to_dict("records"),
    ("pandas", "Series"): lambda series: series.tolist(),
    ("pandas", "Index"): lambda index: index.tolist(),
    ("pandas", "NaTType"): lambda _: None,
    ("pandas", "NAType"): lambda _: None,
    ("polars", "DataFrame"): lambda frame: frame.to_dicts(),
    ("polars", "Series"): lambda series: series.to_list(),
}
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=as_plain)


def _normal(value: Any) -> Any:
    """``value`` of JSON's own types alone, keys of str. Raises TypeError, RecursionError."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return _normal(value.value)
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): _normal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(inner) for inner in value]
    return _normal(as_plain(value))


def _key(key: Any) -> str:
    plain = _normal(key)
    if isinstance(plain, str):
        return plain
    if plain is None or isinstance(plain, bool | int | float):
        return _encoder.encode(plain)
    raise TypeError(f"JSON has no key {type(key).__qualname__}: {key!r:.60}")


if find_spec("orjson"):
    import orjson

    # orjson rounds an offset from UTC to minutes, and writes attributes of an instance that are no fields.
    _OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

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
            return orjson.dumps(value, as_plain, _OPTIONS)
        except TypeError:  # an integer of more than 64 bits, a key that is no str, a text with a lone surrogate ...
            return encode_json_slowly(value)
else:
    _decode, _encode = decode_json_slowly, encode_json_slowly


def encode_json(value: Any) -> bytes:
    """``value`` as JSON. Raises TypeError or ValueError for a value that JSON does not have.

    Integers are unlimited; NaN and infinities become null. A datetime, date or time is its isoformat, a UUID and a
    Decimal their str, an Enum its value, a set or tuple an array, a dataclass an object of its fields without those
    that begin with "_", a model of pydantic its ``model_dump(mode="json")``, a value of numpy its ``tolist()``, a
    DataFrame an array of its rows, each an object. The same holds for keys: null, true, false and numbers are written
    as text. TypeError for bytes and any other type, ValueError for lone surrogates and for a value that holds
    itself.
    """
    try:
        return _encode(value)
    except RecursionError:
        raise ValueError("it nests too deep, or holds itself") from None


def decode_json(text: bytes) -> Any:
    """Parse JSON. Raises ValueError for a text that is invalid, or nests deeper than ``DEPTH``.

    Integers keep every digit, up to the 4,300 that Python converts; other numbers are floats. The search for integers
    of more than 64 bits, which take the slower way, costs 0.3 µs and 1 µs for each KB.
    """
    if text.startswith(_BOM):
        text = text[len(_BOM) :]  # RFC 8259 §8.1
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
