"""Family "dns": only the worker waits for a look-up, and all else is as it was."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import anyio
import pytest

from coserver import run_blocking

from ..side_by_side import both

pytestmark = pytest.mark.usefixtures("hooked")


async def test_look_ups() -> None:
    def look() -> tuple[Any, ...]:
        return (
            socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)[0][4][1],
            socket.getaddrinfo("127.0.0.1", 80)[0][4],
            socket.gethostbyname("localhost"),
            socket.gethostbyname_ex("localhost")[2][:1],
            socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
            isinstance(socket.gethostbyaddr("127.0.0.1")[0], str),
        )

    assert await run_blocking(look) == look()


async def test_a_slow_look_up_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from coserver.hooks.shims import dns

    go_on = threading.Event()
    monkeypatch.setattr(dns, "_getaddrinfo", lambda *args: (go_on.wait(10), args)[1])

    def look() -> Any:
        return socket.getaddrinfo("slow.example", 80, socket.AF_INET)

    def release() -> None:
        time.sleep(0.02)
        go_on.set()

    assert (await both(look, release))[0][:3] == ("slow.example", 80, socket.AF_INET)


async def test_what_has_no_name() -> None:
    def look() -> None:
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("no-such-host.invalid", 80)
        with pytest.raises(socket.gaierror):
            socket.create_connection(("no-such-host.invalid", 80))
        with pytest.raises(TypeError):
            socket.gethostbyname(5)  # type: ignore[arg-type]

    await run_blocking(look)


async def test_a_cancelled_look_up_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    from coserver.hooks.shims import dns

    go_on = threading.Event()
    monkeypatch.setattr(dns, "_gethostbyname", lambda name: go_on.wait(10) and "1.2.3.4")
    with anyio.move_on_after(0.02) as scope:
        await run_blocking(socket.gethostbyname, "slow.example")
    assert scope.cancelled_caught
    go_on.set()
