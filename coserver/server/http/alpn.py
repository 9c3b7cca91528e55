"""The protocols of an HTTP listener by their names in ALPN (RFC 7301), best first. Without ALPN the last is used."""

from __future__ import annotations

from ..connection.base import Connection
from .http1 import HttpConnection

PROTOCOLS: dict[str, type[Connection]] = {HttpConnection.protocol: HttpConnection}
