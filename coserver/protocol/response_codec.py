"""What a codec of responses is: it reads one response after another, their heads and then their bodies' bytes.

As with requests, what reaches it has passed the strict checks (``syntax``, ``chunks``).
"""

from __future__ import annotations

from typing import Protocol

from .fields import RawFields
from .response_head import ResponseHead


class ResponseCodec(Protocol):
    """What ``ResponseReader`` asks of a parser. ``reusable``: after a whole response it may read the next one's head.

    ``keep_alive``: what the parser itself thinks of the connection once the response is whole.
    """

    reusable: bool
    keep_alive: bool

    def head(self, raw: bytes, head: ResponseHead, method: str) -> None:
        """Take a whole head, ``raw``, found sound and judged, of a response to ``method``; bytes of a body of known
        length may follow it. Raises RemoteProtocolError.
        """
        ...

    def body(self, raw: bytes) -> bytes:
        """The data in these bytes of the body, transfer coding undone. Raises RemoteProtocolError."""
        ...

    def trailers(self) -> RawFields:
        """The trailer fields; to be asked once the body has been read to its end."""
        ...

    def close(self) -> None:
        """Let go of the parser."""
        ...
