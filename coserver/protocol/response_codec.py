"""The interface of a response codec: it parses one response after another, first the head, then the bytes of the body.

As for requests, its input has passed the strict checks (``syntax``, ``chunks``).
"""

from __future__ import annotations

from typing import Protocol

from .fields import RawFields
from .response_head import ResponseHead


class ResponseCodec(Protocol):
    """The methods that ``ResponseReader`` calls. ``reusable``: after a whole response it may read the next head.

    ``keep_alive``: the parser's own opinion about the connection, once the response is whole.
    """

    reusable: bool
    keep_alive: bool

    def head(self, raw: bytes, head: ResponseHead, method: str) -> None:
        """Parse the whole, checked head ``raw`` of a response to ``method``. Bytes of a body of known length may follow
        it.

        Raises RemoteProtocolError.
        """
        ...

    def body(self, raw: bytes) -> bytes:
        """The data in these bytes of the body, without the transfer coding. Raises RemoteProtocolError."""
        ...

    def trailers(self) -> RawFields:
        """The trailer fields; call it at the end of the body."""
        ...

    def close(self) -> None:
        """Free the parser."""
        ...
