"""Protocol errors: the peer's fault (Remote...), or this side's and the handler's (Local...)."""

from __future__ import annotations


class ProtocolError(Exception):
    """A message breaks the rules of its protocol. Only the two subclasses are raised."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; its later bytes cannot be trusted.

    ``status`` is the HTTP status of the answer, if one can still be sent (RFC 9110 §15.5). ``limit`` names the limit
    that was exceeded, "" if a rule of the protocol was broken.
    """

    def __init__(self, reason: str, status: int = 400, limit: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.limit = limit


class LocalProtocolError(ProtocolError):
    """This side was about to break the protocol: a bug in a handler, never the peer's fault."""
