"""Small slow servers in threads: HTTP, SMTP, SSH, and one that collects what a SocketHandler sends.

They stand on plain sockets or the standard library, and block: on threads of their own the hooks change nothing.
"""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paramiko

from .five import WAIT


@contextmanager
def running(server: socketserver.TCPServer) -> Iterator[int]:
    """Its port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Threaded(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64
    daemon_threads = True
    block_on_close = False


class _Slow(http.server.BaseHTTPRequestHandler):
    """Answers after 0.2 s, by saying what it was asked for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(WAIT)
        body = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def slow_http() -> Iterator[str]:
    """Its URL."""
    with running(Threaded(("127.0.0.1", 0), _Slow)) as port:
        yield f"http://127.0.0.1:{port}"


class _Smtp(socketserver.StreamRequestHandler):
    """Takes a message, and thinks for 0.2 s before it says so (RFC 5321)."""

    def handle(self) -> None:
        self._say("220 stub")
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self._say("354 go on")
                while self.rfile.readline() != b".\r\n":
                    pass
                time.sleep(WAIT)
            self._say("221 bye" if verb == b"QUIT" else "250 ok")

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


@contextmanager
def slow_smtp() -> Iterator[int]:
    """Its port."""
    with running(Threaded(("127.0.0.1", 0), _Smtp)) as port:
        yield port


class _Commands(paramiko.ServerInterface):
    """Whoever comes may run a command: after 0.2 s it is said again."""

    def check_auth_password(self, username: str, password: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def answer() -> None:
            time.sleep(WAIT)
            channel.sendall(command)
            channel.send_exit_status(0)
            channel.close()

        threading.Thread(target=answer).start()
        return True


@contextmanager
def slow_ssh() -> Iterator[int]:
    """Its port. One client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transports: list[paramiko.Transport] = []

        def serve() -> None:
            transport = paramiko.Transport(listener.accept()[0])
            transports.append(transport)
            transport.add_server_key(paramiko.ECDSAKey.generate())
            transport.start_server(server=_Commands())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            thread.join()
            for transport in transports:
                transport.close()
                transport.join(5)
