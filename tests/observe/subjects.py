"""An exchange to be matched, made of plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Plain:
    server: str = "shop"
    protocol: str = "http"
    method: str = "GET"
    url: str = "http://t.example/items/1?a=1&b=2"
    host: str = "t.example"
    status: int = 200
    src: str = "127.0.0.1:5000"
    dst: str = "127.0.0.1:8000"
    phase: str = "handler"
    seconds: float = 0.25
    error: str = ""
    marked: bool = False
    upstreams: tuple[str, ...] = ()
    request: tuple[str, ...] = ("host: t.example", "accept: text/html", "content-type: application/json")
    response: tuple[str, ...] = ("content-type: text/plain", "server: x")
    sent: bytes = b'{"name": "Ann"}'
    answered: bytes = b"hello\nworld"

    def request_lines(self) -> tuple[str, ...]:
        return self.request

    def response_lines(self) -> tuple[str, ...]:
        return self.response

    def request_content(self) -> bytes:
        return self.sent

    def response_content(self) -> bytes:
        return self.answered
