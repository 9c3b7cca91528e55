"""Bodies under a Content-Encoding, unpacked to be looked at; never more than a screen or a file can use."""

from __future__ import annotations

import zlib

#: Bytes that a packed body may become; a bomb of 64 KB would be 64 MB.
MOST = 4 << 20


def unpack(content: bytes, coding: str) -> tuple[bytes, bool]:
    """The content unpacked as far as MOST bytes, and whether more was left; as it is, if that cannot be done."""
    if coding not in ("gzip", "x-gzip", "deflate") or not content:
        return content, False
    for bits in (16 + zlib.MAX_WBITS,) if coding != "deflate" else (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        inflater = zlib.decompressobj(bits)
        try:
            return inflater.decompress(content, MOST), bool(inflater.unconsumed_tail)
        except zlib.error:
            continue
    return content, False
