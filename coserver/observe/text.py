"""Fields, heads and bodies made readable, for filters, tables and exports."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from ..protocol.head import RequestHead

FieldLines = Sequence[tuple[bytes, bytes]]
Fields = tuple[tuple[str, str], ...]

#: Bytes that a body under a Content-Encoding may become: a bomb of 64 KB would be 64 MB.
UNPACKED_MAX = 4 << 20


def decode_fields(fields: FieldLines) -> Fields:
    """Decode names and values as Latin-1, a character for each byte (RFC 9110 §5.5)."""
    return tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields])


def field_lines(fields: FieldLines) -> Iterable[str]:
    return [f"{name}: {value}" for name, value in decode_fields(fields)]


def read_request(raw: bytes) -> RequestHead | None:
    """Read a request's head that passed the server's checks: no field has two lines (RFC 9112 §5.2). None for b""."""
    if not raw:
        return None
    line, *lines = raw[: raw.find(b"\r\n\r\n")].split(b"\r\n")
    method, target, version = line.split(b" ")
    parts = (line.partition(b":") for line in lines)
    fields = [(name.lower(), value.strip(b" \t")) for name, _, value in parts]
    return RequestHead(method.decode("ascii"), target, version[-1] - ord("0"), fields)


def answer_fields(raw: bytes) -> Fields:
    """The fields of a response that is given as bytes from its head on."""
    lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return tuple([(name, value.strip(" \t")) for name, _, value in pairs])


def content_of(raw: bytes) -> bytes:
    """The body of a response that is given as bytes from its head on."""
    return raw.partition(b"\r\n\r\n")[2]


def unpack(content: bytes, coding: str) -> tuple[bytes, bool]:
    """Decode a body under ``coding`` (gzip, x-gzip, deflate), up to UNPACKED_MAX bytes; true if more was left.

    Another coding, and bytes that do not decode, return the content as it is.
    """
    if coding not in ("gzip", "x-gzip", "deflate") or not content:
        return content, False
    for bits in (16 + zlib.MAX_WBITS,) if coding != "deflate" else (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        inflater = zlib.decompressobj(bits)
        try:
            return inflater.decompress(content, UNPACKED_MAX), bool(inflater.unconsumed_tail)
        except zlib.error:
            continue
    return content, False
