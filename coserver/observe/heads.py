"""Fields and heads as text, for filters, tables and exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FieldLines = Sequence[tuple[bytes, bytes]]
Fields = tuple[tuple[str, str], ...]


def decode_fields(fields: FieldLines) -> Fields:
    """Names and values as text: every byte is a character (RFC 9110 §5.5)."""
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])


def field_lines(fields: FieldLines) -> Iterable[str]:
    return [f"{name}: {value}" for name, value in decode_fields(fields)]


def answer_fields(raw: bytes) -> Fields:
    """The fields of a response's bytes, its head first."""
    lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return tuple([(name, value.strip(" \t")) for name, _, value in pairs])


def content_of(raw: bytes) -> bytes:
    """What follows a response's head."""
    return raw.partition(b"\r\n\r\n")[2]
