"""Whose fault it was: the peer's (Remote...) or ours and the handler's (Local...)."""

from __future__ import annotations


class ProtocolError(Exception):
    """A message breaks the rules of its protocol. Never raised itself: one of the two below says whose fault it was."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol; nothing that it sends after this can be trusted.

    ``status`` is the HTTP status to answer with, where an answer can still be sent (RFC 9110 §15.5). ``limit`` names
    the limit that it went beyond, "" if it broke a rule of the protocol itself.
    """

    def __init__(self, reason: str, status: int = 400, limit: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.limit = limit


class LocalProtocolError(ProtocolError):
    """This side was about to send something that the protocol forbids: a bug in a handler, never the peer's fault."""
