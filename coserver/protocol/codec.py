"""What a codec is: it reads one request, its head, then its body's bytes as they come.

What reaches it has passed the strict checks (``syntax``, ``chunks``), so that all codecs see only what they agree on.
"""

from __future__ import annotations

from typing import Protocol

from .fields import RawFields

Parts = tuple[str, bytes, int, RawFields]  # method, target, minor version, fields (names in lower case)


class Codec(Protocol):
    """What ``Http1Reader`` asks of a parser. One object reads one request.

    ``reusable``: after a request without a body it may read another's head, of any connection that is to stay open.
    """

    reusable: bool

    def head(self, raw: bytes) -> Parts:
        """Take a whole head apart. Raises RemoteProtocolError."""
        ...

    def body(self, raw: bytes) -> bytes:
        """The data in these bytes of the body, transfer coding undone. Raises RemoteProtocolError."""
        ...

    def trailers(self) -> RawFields:
        """The trailer fields; to be asked once the body has been read to its end. Lets go of the parser."""
        ...
