"""The codecs: h11, which is always there and the reference, and httptools if it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from .codec import Codec
from .errors import LocalProtocolError
from .response_codec import ResponseCodec


def _h11() -> type[Codec]:
    from .h11_codec import H11Codec

    return H11Codec


def _httptools() -> type[Codec]:
    from .httptools_codec import HttptoolsCodec

    return HttptoolsCodec


#: Functions that load a codec, so that only the one in use is imported.
CODECS: dict[str, Callable[[], type[Codec]]] = {"h11": _h11}


def _h11_responses() -> type[ResponseCodec]:
    from .h11_responses import H11Responses

    return H11Responses


def _httptools_responses() -> type[ResponseCodec]:
    from .httptools_responses import HttptoolsResponses

    return HttptoolsResponses


#: The same names, for responses.
RESPONSE_CODECS: dict[str, Callable[[], type[ResponseCodec]]] = {"h11": _h11_responses}

if find_spec("httptools"):
    CODECS["httptools"] = _httptools
    RESPONSE_CODECS["httptools"] = _httptools_responses


class Parsers:
    """The source of the codecs for the connections of one loop.

    ``idle`` is a codec that has read a head and no body. Reading a head waits for nothing, so one codec is enough for
    all, and an idle connection keeps none.
    """

    __slots__ = ("idle", "make")

    def __init__(self, codec: str) -> None:
        self.make: Callable[[], Codec] = CODECS[codec]()
        self.idle: Codec | None = None


def choose_codec(name: str) -> str:
    """The row of ``CODECS`` for ``name``: "auto", "h11" or "httptools". Raises LocalProtocolError."""
    if name == "auto":
        return "httptools" if "httptools" in CODECS else "h11"
    if name in CODECS:
        return name
    if name == "httptools":
        raise LocalProtocolError("codec 'httptools' is not installed; pip install 'coserver[fast]', or take 'h11'")
    raise LocalProtocolError(f"codec must be 'auto', 'h11' or 'httptools'; got {name!r}")
