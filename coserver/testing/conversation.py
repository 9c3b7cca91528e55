"""A test's conversation with a TCP handler: messages out, messages in, with the handler's framing."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import anyio

from ..protocol.framing import Framing, Raw
from ..server.tcp import TcpConnection
from ..transport.stream import RECEIVE_SIZE
from .app_host import Link

Raise = Callable[[Link, Exception | None], object]


class Conversation:
    """``await conversation.send(message)``, ``await conversation.receive()``, ``async for message in conversation``.

    With an HTTP listener the messages are bytes: ``receive`` returns whatever has come.
    """

    def __init__(self, link: Link, timeout: float | None, raise_failure: Raise) -> None:
        self._link = link
        # A copy, made before any byte has come: it holds the state of this end's stream.
        theirs = link.accepted
        self._framing: Framing = Raw(RECEIVE_SIZE)
        if isinstance(theirs, TcpConnection):
            self._framing = deepcopy(theirs.framing)
        self._timeout = timeout
        self._raise_failure = raise_failure
        self._buffer = bytearray()

    def __repr__(self) -> str:
        return f"<Conversation with {self._link.accepted!r}>"

    async def send(self, message: bytes | str) -> None:
        """Send one message, framed. Raises anyio.BrokenResourceError when the app has ended the conversation."""
        data = message.encode() if isinstance(message, str) else message
        await self._link.stream.send(self._framing.encode(data))

    async def receive(self) -> bytes:
        """The next whole message. Raises anyio.EndOfStream at the end, the handler's exception, TimeoutError."""
        with anyio.move_on_after(self._timeout):
            while (message := self._framing.decode(self._buffer)) is None:
                try:
                    self._buffer += await self._link.stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
                    self._raise_failure(self._link, error)
                    raise
            return message
        raise TimeoutError(f"{self!r}: no whole message within {self._timeout} s (timeout)")

    async def send_eof(self) -> None:
        """Half-close: no more messages will be sent; the app may still send."""
        await self._link.send_eof()

    def __aiter__(self) -> Conversation:
        """Iterate over the messages of the app."""
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
