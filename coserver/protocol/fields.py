"""Header fields as handlers see them: a mapping that ignores case, keeps the order and repetitions (RFC 9110 §5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .values import decode_octets

RawFields = list[tuple[bytes, bytes]]

#: Fields whose specification says UTF-8: the HTML standard, §9.2.4. All others are ISO-8859-1 (RFC 9110 §5.5).
_UTF8 = frozenset({b"last-event-id"})


def decode_value(name: bytes, value: bytes) -> str:
    """A value as text; ``name`` is in lower case. ``encode_value`` gives the same bytes, whatever they are."""
    return value.decode("utf-8", "surrogateescape") if name in _UTF8 else value.decode("latin-1")


def encode_value(name: bytes, value: str) -> bytes:
    """Text as a value; ``name`` is in lower case. Raises UnicodeEncodeError for what ISO-8859-1 does not have."""
    return value.encode("utf-8", "surrogateescape") if name in _UTF8 else value.encode("latin-1")


class Headers(Mapping[str, str]):
    """The fields of a message.

    ``headers["accept"]`` joins repeated ones with ", " (RFC 9110 §5.2); ``get_all`` keeps them apart.
    """

    __slots__ = ("_pairs",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        # ISO-8859-1 never fails and loses nothing: it can be turned back into the bytes (RFC 9110 §5.5).
        self._pairs = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1") if value.isascii() else _as_text(name, value))
            for name, value in fields
        )

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(key == name.lower() for key, _ in self._pairs)

    def __repr__(self) -> str:
        return f"Headers({list(self._pairs)!r})"

    def get_all(self, name: str) -> list[str]:
        """Every value of ``name``, in order; empty if there is none."""
        name = name.lower()
        return [value for key, value in self._pairs if key == name]

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All fields in order, names in lower case, repeated ones apart."""
        return self._pairs


def _as_text(name: bytes, value: bytes) -> str:
    return decode_octets(value) if name.lower() in _UTF8 else value.decode("latin-1")
