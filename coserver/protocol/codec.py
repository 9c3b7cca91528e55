"""The interface of a codec: it parses one request, first its head, then the bytes of its body.

Its input has passed the strict checks (``syntax``, ``chunks``), so that all codecs see only input on which they agree.
"""

from __future__ import annotations

from typing import Protocol

from .fields import RawFields

Parts = tuple[str, bytes, int, RawFields]  # method, target, minor version, fields (names in lower case)


class Codec(Protocol):
    """The methods that ``Http1Reader`` calls. One object reads one request.

    ``reusable``: after a request without a body it may read another head, of any connection that stays open.
    """

    reusable: bool

    def head(self, raw: bytes) -> Parts:
        """Parse a whole head. Raises RemoteProtocolError."""
        ...

    def body(self, raw: bytes) -> bytes:
        """The data in these bytes of the body, without the transfer coding. Raises RemoteProtocolError."""
        ...

    def trailers(self) -> RawFields:
        """The trailer fields; call it at the end of the body. Frees the parser."""
        ...
