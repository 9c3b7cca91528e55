"""Clients of a server with a control: requests in threads, and waiting for what they cause."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


def ask(port: int, path: str, method: str = "GET", body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Asking(threading.Thread):
    """A request in a thread of its own; ``answer`` when it has ended, None if it was cut."""

    def __init__(self, port: int, path: str, method: str = "GET", body: str | None = None) -> None:
        super().__init__()
        self.answer: tuple[int, str] | None = None
        self._given = (port, path, method, body)
        self.start()

    def run(self) -> None:
        try:
            self.answer = ask(*self._given)
        except (OSError, http.client.HTTPException):
            pass

    def done(self) -> tuple[int, str] | None:
        self.join(20)
        assert not self.is_alive()
        return self.answer


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def first(changes: Iterator[list[dict[str, Any]]], phase: str) -> dict[str, Any]:
    """What is held at this phase, as soon as it is."""
    return next(held[0] for held in changes if held and held[0]["phase"] == phase)
