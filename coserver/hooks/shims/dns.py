"""Family "dns": the look-ups of names and addresses in ``socket``. The C library does them, and waits.

Each look-up runs in a thread. An address needs no look-up, and no thread.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from greenlet import getcurrent

from ..offload import in_thread
from ..patch import Shim
from ..workers import Worker

_getaddrinfo, _getnameinfo = socket.getaddrinfo, socket.getnameinfo
_gethostbyname, _gethostbyname_ex = socket.gethostbyname, socket.gethostbyname_ex
_gethostbyaddr = socket.gethostbyaddr


def is_address(host: Any) -> bool:
    """Whether ``host`` is an IPv4 or IPv6 address, or empty."""
    if not host:
        return True
    if isinstance(host, bytes | bytearray):
        host = host.decode("latin-1")
    if not isinstance(host, str):
        return True  # a wrong type, for which the original raises
    host = host.partition("%")[0]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
    worker = getcurrent()
    if worker.__class__ is not Worker or is_address(host):
        return _getaddrinfo(host, port, family, type, proto, flags)
    look = partial(_getaddrinfo, host, port, family, type, proto, flags)
    return in_thread(worker, "getaddrinfo", str(host), look)


def gethostbyname(hostname: Any, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker or is_address(hostname):
        return _gethostbyname(hostname)
    return in_thread(worker, "gethostbyname", str(hostname), partial(_gethostbyname, hostname))


def gethostbyname_ex(hostname: Any, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _gethostbyname_ex(hostname)
    return in_thread(worker, "gethostbyname_ex", str(hostname), partial(_gethostbyname_ex, hostname))


def gethostbyaddr(ip_address: Any, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _gethostbyaddr(ip_address)
    return in_thread(worker, "gethostbyaddr", str(ip_address), partial(_gethostbyaddr, ip_address))


def getnameinfo(sockaddr: Any, flags: int, /) -> Any:
    worker = getcurrent()
    if type(worker) is not Worker:
        return _getnameinfo(sockaddr, flags)
    return in_thread(worker, "getnameinfo", str(sockaddr), partial(_getnameinfo, sockaddr, flags))


ROWS = (
    Shim("socket", "getaddrinfo", getaddrinfo),
    Shim("socket", "gethostbyname", gethostbyname),
    Shim("socket", "gethostbyname_ex", gethostbyname_ex),
    Shim("socket", "gethostbyaddr", gethostbyaddr),
    Shim("socket", "getnameinfo", getnameinfo),
)
