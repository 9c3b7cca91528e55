"""What an HTTP listener speaks, by its name in ALPN (RFC 7301), the best first; who names none gets the last."""

from __future__ import annotations

from ..connection.base import Connection
from .http1 import HttpConnection

PROTOCOLS: dict[str, type[Connection]] = {HttpConnection.protocol: HttpConnection}
