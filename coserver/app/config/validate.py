"""What is wrong with an address, a TLS, a backend, a grace: said before anything is started."""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from typing import Any

from ...server.handler.errors import AppError
from .tls import Tls


def check_tls(tls: Any, what: str, others: tuple[Any, ...]) -> None:
    """A Tls that has what it needs, or one of ``others``. Raises AppError."""
    if isinstance(tls, Tls):
        try:
            tls.check()
        except AppError as error:
            raise AppError(f"{what}{error}") from None
    elif not any(tls is other for other in others):
        raise AppError(f"{what}tls must be a Tls, Tls(certfile='site.pem', keyfile='site.key'); got {tls!r}")


def check_place(host: Any, port: Any, uds: Any, what: str = "") -> None:
    """An address, a port, a UNIX socket's path; None is none of it. ``what`` begins the message. Raises AppError."""
    if host is not None and not isinstance(host, str):
        raise AppError(f"{what}host must be a text, like '127.0.0.1'; got {host!r}")
    if host == "":  # to the system all addresses, to whoever left a variable empty a surprise
        raise AppError(f"{what}host must be an address or a name; 0.0.0.0 or :: is all of them; got ''")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535):
        raise AppError(f"{what}port must be from 0 (take a free one) to 65535; got {port!r}")
    if uds is not None and (not isinstance(uds, str) or not uds or "\0" in uds):
        raise AppError(f"{what}uds must be a socket's path; got {uds!r}")


def check_socket(permissions: Any, fd: Any, uds: Any, what: str = "") -> None:
    """A UNIX socket's permissions, and an inherited descriptor, which excludes ``uds``. Raises AppError."""
    if permissions is not None and not (isinstance(permissions, str) and re.fullmatch("0?[0-7]{3}", permissions)):
        raise AppError(f"{what}uds_permissions must be three octal digits in a text, like '660'; got {permissions!r}")
    if fd is not None and (isinstance(fd, bool) or not isinstance(fd, int) or fd < 0):
        raise AppError(f"{what}fd must be a descriptor, 3 say; got {fd!r}")
    if fd is not None and uds is not None:
        raise AppError(f"{what}a server listens on one of them: give fd, or uds; got fd={fd} and uds={uds!r}")


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
