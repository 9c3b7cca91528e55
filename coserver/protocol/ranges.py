"""Range requests without I/O: a Range field to spans of bytes, and the framing of several spans (RFC 9110 §14).

A Range field is a wish: a malformed or unreasonable one is ignored, and the whole representation sent.
"""

from __future__ import annotations

import re

#: The first byte, and the one after the last.
Span = tuple[int, int]

#: The most ranges in one field that are answered one by one; for more, everything is sent. A PDF viewer asks for a
#: dozen. Each range costs a part's head and a seek, and a thousand overlapping ones brought Apache down (CVE-2011-3192;
#: it allows 200 since).
RANGES_MAX = 32
#: About the bytes of a part's own head: spans nearer to each other are sent as one (RFC 9110 §15.3.7.2).
PART_OVERHEAD = 128

# 20 digits are beyond any file (2^63 has 19), so a longer number is not worth an integer.
_match_spec = re.compile(r"([0-9]{0,20})-([0-9]{0,20})").fullmatch


def parse_ranges(value: str, size: int) -> list[Span] | None:
    """The spans of a Range field for ``size`` bytes, in its order; overlapping and neighbouring ones are joined.

    Empty if none of them exists (416). None if the field is to be ignored: it is malformed, has another unit, asks for
    too many ranges, or asks for a part of an empty representation, which has none.
    """
    unit, equals, wanted = value.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes" or not size:
        return None
    specs = [stripped for spec in wanted.split(",", RANGES_MAX * 2) if (stripped := spec.strip(" \t"))]
    if not specs or len(specs) > RANGES_MAX:
        return None
    spans: list[Span] = []
    for spec in specs:
        match = _match_spec(spec)
        if match is None or spec == "-":
            return None
        first, last = match.groups()
        if first and last and int(last) < int(first):
            return None
        start, stop = _span(first, last, size)
        if start < stop:
            spans.append((start, stop))
    return spans if len(spans) < 2 else _coalesce(spans)


def _span(first: str, last: str, size: int) -> Span:
    """One span; empty for a range that does not exist (RFC 9110 §14.1.2)."""
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _coalesce(spans: list[Span]) -> list[Span]:
    """Join spans, so that no byte is sent twice. A joined span takes the place of its first part."""
    joined: list[tuple[int, int, int]] = []
    for at, (start, stop) in sorted(enumerate(spans), key=lambda each: each[1]):
        if joined and start - joined[-1][2] <= PART_OVERHEAD:
            before = joined[-1]
            joined[-1] = (min(before[0], at), before[1], max(before[2], stop))
        else:
            joined.append((at, start, stop))
    return [(start, stop) for _, start, stop in sorted(joined)]


def content_range(span: Span, size: int) -> str:
    """The Content-Range of one span (RFC 9110 §14.4)."""
    return f"bytes {span[0]}-{span[1] - 1}/{size}"


def no_range(size: int) -> str:
    """The Content-Range of a 416 (RFC 9110 §15.5.17)."""
    return f"bytes */{size}"


def frame_parts(spans: list[Span], size: int, content_type: str, boundary: str) -> tuple[list[bytes | Span], int]:
    """A multipart/byteranges body (RFC 9110 §14.6): its framing bytes and spans in turn, and its length.

    ``boundary`` must be a text that cannot occur in the representation.
    """
    pieces: list[bytes | Span] = []
    length = 0
    for span in spans:
        lines = [f"--{boundary}", *([f"content-type: {content_type}"] if content_type else [])]
        head = "\r\n".join([*lines, f"content-range: {content_range(span, size)}", "", ""]).encode("latin-1")
        if pieces:
            head = b"\r\n" + head
        pieces += [head, span]
        length += len(head) + span[1] - span[0]
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    return [*pieces, end], length + len(end)
