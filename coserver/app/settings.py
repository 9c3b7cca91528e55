"""How an app is run: where it listens, on which backend, with which codec. Checked before anything is started."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypedDict

from ..protocol.codecs import choose_codec
from ..protocol.errors import LocalProtocolError
from ..server.errors import AppError
from ..server.limits import Limits


class Options(TypedDict, total=False):
    """The keywords of ``start``, ``serving``, ``serve`` and ``run``; the fields of Settings."""

    host: str
    port: int
    uds: str | None
    backend: str
    codec: str
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``port`` 0 takes a free one; ``uds`` is a UNIX socket's path, instead of host and port. Raises AppError."""

    host: str = "127.0.0.1"
    port: int = 0
    uds: str | None = None
    backend: str = "asyncio"
    codec: str = "auto"
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise AppError(f"port must be from 0 (take a free one) to 65535; got {self.port!r}")
        if not isinstance(self.limits, Limits):
            raise AppError(f"limits must be a Limits; got {self.limits!r}")
        try:
            object.__setattr__(self, "codec", choose_codec(self.codec))
        except LocalProtocolError as error:
            raise AppError(str(error)) from None
        backend_arguments(self.backend)


def backend_arguments(backend: str) -> dict[str, Any]:
    """What ``anyio.run`` takes for a backend of ours: asyncio, uvloop or trio. Raises AppError if it cannot be had."""
    if backend == "asyncio":
        return {"backend": "asyncio"}
    if backend == "uvloop":
        if not find_spec("uvloop"):
            raise AppError("backend 'uvloop' is not installed; pip install 'coserver[fast]', or take 'asyncio'")
        return {"backend": "asyncio", "backend_options": {"use_uvloop": True}}
    if backend == "trio":
        if not find_spec("trio"):
            raise AppError("backend 'trio' is not installed; pip install 'coserver[trio]', or take 'asyncio'")
        return {"backend": "trio"}
    raise AppError(f"backend must be 'asyncio', 'uvloop' or 'trio'; got {backend!r}")


def seconds(value: float | None) -> float | None:
    """A grace in seconds, or None for the default. Raises ValueError."""
    if value is not None and (math.isnan(value) or value < 0):
        raise ValueError(f"grace must be 0 seconds or more; got {value!r}")
    return value
