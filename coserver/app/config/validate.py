"""Checks of addresses, TLS settings, backends and times, made before the server starts."""

from __future__ import annotations

import math
import re
from importlib.util import find_spec
from typing import Any

from ...server.handler.errors import SetupError
from .tls import Tls


def check_tls(tls: Any, what: str, others: tuple[Any, ...]) -> None:
    """Check that ``tls`` is a complete Tls, or one of ``others``. ``what`` begins the message. Raises SetupError."""
    if isinstance(tls, Tls):
        try:
            tls.check()
        except SetupError as error:
            raise SetupError(f"{what}{error}") from None
    elif not any(tls is other for other in others):
        raise SetupError(f"{what}tls must be a Tls, Tls(certfile='site.pem', keyfile='site.key'); got {tls!r}")


def check_place(host: Any, port: Any, uds: Any, what: str = "") -> None:
    """Check a host, a port, a UNIX socket's path; None means not given. ``what`` begins the message.

    Raises SetupError.
    """
    if host is not None and not isinstance(host, str):
        raise SetupError(f"{what}host must be a text, like '127.0.0.1'; got {host!r}")
    if host is not None and not all(one.strip() for one in host.split(",")):
        # "" means all addresses to the system, but is often a variable that was left empty
        raise SetupError(
            f"{what}host must be an address or a name, or several with commas between them; 0.0.0.0 means all of IPv4, "
            f":: all; got {host!r}"
        )
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535):
        raise SetupError(f"{what}port must be from 0 (take a free one) to 65535; got {port!r}")
    if uds is not None and (not isinstance(uds, str) or not uds or "\0" in uds):
        raise SetupError(f"{what}uds must be a socket's path; got {uds!r}")


def check_socket(permissions: Any, fd: Any, uds: Any, what: str = "") -> None:
    """Check a UNIX socket's permissions, and an inherited descriptor, which excludes ``uds``. Raises SetupError."""
    if permissions is not None and not (isinstance(permissions, str) and re.fullmatch("0?[0-7]{3}", permissions)):
        raise SetupError(f"{what}uds_permissions must be three octal digits in a text, like '660'; got {permissions!r}")
    if fd is not None and (isinstance(fd, bool) or not isinstance(fd, int) or fd < 0):
        raise SetupError(f"{what}fd must be a descriptor, a number like 3; got {fd!r}")
    if fd is not None and uds is not None:
        raise SetupError(f"{what}a server listens on one address: give fd, or uds; got fd={fd} and uds={uds!r}")


def backend_arguments(backend: str) -> dict[str, Any]:
    """The arguments of ``anyio.run`` for asyncio, uvloop or trio. Raises SetupError for one that is not installed."""
    if backend == "asyncio":
        return {"backend": "asyncio"}
    if backend == "uvloop":
        if not find_spec("uvloop"):
            raise SetupError("backend 'uvloop' is not installed; pip install 'coserver[fast]', or take 'asyncio'")
        return {"backend": "asyncio", "backend_options": {"use_uvloop": True}}
    if backend == "trio":
        if not find_spec("trio"):
            raise SetupError("backend 'trio' is not installed; pip install 'coserver[trio]', or take 'asyncio'")
        return {"backend": "trio"}
    raise SetupError(f"backend must be 'asyncio', 'uvloop' or 'trio'; got {backend!r}")


def seconds(value: float | None) -> float | None:
    """Check a grace period in seconds; None stands for the default. Raises ValueError."""
    if value is not None and (math.isnan(value) or value < 0):
        raise ValueError(f"grace must be 0 seconds or more; got {value!r}")
    return value
