"""Names with values, of which one name may have several: queries and forms, and their urlencoded text.

The first value counts if one is asked for. A missing name is a KeyError here, a 400 on the server's layer.
"""

from __future__ import annotations

import codecs
import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar, overload

from .errors import RemoteProtocolError

T = TypeVar("T")
D = TypeVar("D")

# Runs of escapes, not single ones: text in other scripts consists of them, and a run costs one call.
_escapes = re.compile(rb"(?:%[0-9A-Fa-f]{2})+").sub
# Codecs of Python that are no charsets: some of them make surrogates, which UTF-8 cannot encode.
_NO_CHARSETS = {"unicode-escape", "raw-unicode-escape", "utf-7", "idna", "punycode", "undefined"}


class Values(Mapping[str, T], Generic[T]):
    """A mapping that keeps order and repeated names: ``values["a"]`` is the first, ``get_all("a")`` are all."""

    __slots__ = ("_lists", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, T]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._lists: dict[str, list[T]] = {}
        for name, value in self._pairs:
            self._lists.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> T:
        found = self._lists.get(name)
        if found is None:
            raise self._missing(name)
        return found[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)

    def __contains__(self, name: object) -> bool:
        return name in self._lists

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._pairs)!r})"

    @overload
    def get(self, name: str, /) -> T | None: ...
    @overload
    def get(self, name: str, /, default: T | D) -> T | D: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """The first value of ``name``."""
        found = self._lists.get(name)
        return default if found is None else found[0]

    def get_all(self, name: str) -> list[T]:
        """Every value of ``name``, in order; empty if there is none."""
        return list(self._lists.get(name, ()))

    def pairs(self) -> tuple[tuple[str, T], ...]:
        """All names and values in order, repeated ones apart."""
        return self._pairs

    def _missing(self, name: str) -> Exception:
        return KeyError(name)


def parse_urlencoded(text: bytes, most: int) -> list[tuple[str, str]]:
    """Names and values of an application/x-www-form-urlencoded text (WHATWG URL §5.1).

    UTF-8, with U+FFFD for invalid bytes. "+" is a blank; a "%" that begins no escape stays. Raises RemoteProtocolError
    for more than ``most`` pairs, where empty ones between two "&" count too.
    """
    if not text:
        return []
    count = text.count(b"&") + 1
    if count > most:
        raise RemoteProtocolError(f"at most {most} names with values are accepted; got {count}")
    pairs = []
    for pair in text.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def _decode(text: bytes) -> str:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    if b"%" in text:
        text = _escapes(lambda run: unhexlify(run[0].replace(b"%", b"")), text)
    return text.decode("utf-8", "replace")


def decode_text(octets: bytes, charset: str, errors: str = "strict") -> str:
    """``octets`` as text in any charset that Python knows. Raises ValueError, also for an unknown charset."""
    try:
        if codecs.lookup(charset).name in _NO_CHARSETS:
            raise LookupError(f"no charset: {charset}")
        return octets.decode(charset, errors)
    except LookupError as error:
        raise ValueError(str(error)) from error


def decode_octets(octets: bytes) -> str:
    """Text of unknown charset: UTF-8, else ISO-8859-1, so that no octet is lost."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")
