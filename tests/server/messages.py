"""Messages over TCP, as tests frame and read them, and an app that echoes them."""

from __future__ import annotations

import struct
from typing import Any

import anyio

from coserver import App

from .clients import Client


def frame(framing: str, message: bytes) -> bytes:
    if framing == "lines":
        return message + b"\n"
    if framing == "raw":
        return message
    return (b"\xe8\0\0\0" if framing == "coserver" else b"") + struct.pack(">i", len(message)) + message


async def read(client: Client, size: int) -> bytes:
    data = b""
    with anyio.fail_after(10):
        while len(data) < size:
            data += await client.stream.receive(size - len(data))
    return data


def echoing(framing: Any, kind: str) -> App:
    app = App()
    if kind == "def":

        @app.tcp(framing=framing, name="echo")
        def echo_def(connection: Any) -> None:
            for message in connection:
                connection.send(message)

    else:

        @app.tcp(framing=framing, name="echo")
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

    return app
