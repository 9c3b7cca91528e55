"""A TCP exchange: one message, and what the handler makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..lifecycle import phases
from ..protocol.edits import as_bytes, check_names
from ..protocol.errors import LocalProtocolError
from ..protocol.fields import RawFields

if TYPE_CHECKING:
    from ..upstream.subrequest import Subrequest
    from .tcp import TcpConnection

#: What can be changed, by phase.
_EDITABLE = dict.fromkeys((phases.BODY, phases.HANDLER, phases.RESPONSE), ("body",))


@dataclass(slots=True)
class Message:
    """A TCP exchange: the message that opened it, until the next one is asked for. ``started`` is monotonic seconds."""

    id: int
    connection: TcpConnection
    message: bytes
    started: float
    watched: bool = False
    children: list[Subrequest] | None = None
    waiting: int = 0
    waited_from: str = ""
    handed_on: bytes = b""
    received: RawFields = field(default_factory=list)  # a message has no fields
    answer: bytes | None = None  # what is about to be sent, while somebody observes

    # For whoever holds it at a gate.

    def edit(self, phase: str, given: Mapping[str, Any]) -> None:
        """Change its bytes, or those of what answers it. Raises ValueError."""
        check_names(phase, given, _EDITABLE.get(phase, ()))
        if "body" in given:
            body = self.make_answer(0, given["body"], None)
            if phase == phases.RESPONSE:
                self.answer = body
            else:
                self.message = body

    def make_answer(self, status: int, body: Any, headers: Any) -> bytes:
        """A message that its framing can carry. Raises ValueError."""
        if headers:
            raise ValueError("a TCP message has no headers; give its body alone")
        message = as_bytes(body)
        try:
            self.connection.framing.encode(message)
        except LocalProtocolError as error:
            raise ValueError(str(error)) from None
        return message
