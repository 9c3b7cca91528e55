"""The standard library's own clients beyond HTTP: smtplib, logging's SocketHandler, subprocess; and paramiko."""

from __future__ import annotations

import logging
import logging.handlers
import smtplib
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import paramiko
import pytest

from .five import WAIT, five
from .stubs import slow_smtp, slow_ssh

#: Bytes: more than such a connection's two buffers hold.
SIZE = 1 << 20

pytestmark = pytest.mark.usefixtures("hooked")


async def test_smtplib() -> None:
    def send(number: int) -> dict[str, Any]:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=10) as client:
            return client.sendmail("me@example.org", ["you@example.org"], f"Subject: {number}\r\n\r\nhello")

    with slow_smtp() as port:
        assert await five("smtplib", send) == [{}] * 5


class Narrow(logging.handlers.SocketHandler):
    """One whose connection holds little: what is not read has to be waited for."""

    def makeSocket(self, timeout: float = 1) -> socket.socket:  # noqa: N802
        sock = super().makeSocket(10 * timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        return sock


async def test_a_socket_handler_whose_reader_is_slow() -> None:
    """Each logger's peer reads nothing for 0.2 s, while more is logged than the sockets hold."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    read: list[int] = []

    def take(sock: socket.socket) -> None:
        time.sleep(WAIT)
        size = 0
        with sock:
            while piece := sock.recv(1 << 20):
                size += len(piece)
        read.append(size)

    def accept() -> None:
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=take, args=(sock,)).start()

    def log(number: int) -> None:
        handler = Narrow("127.0.0.1", listener.getsockname()[1])
        logger = logging.Logger(f"slow-{number}")
        logger.addHandler(handler)
        try:
            logger.warning("x" * SIZE)
        finally:
            handler.close()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        await five("SocketHandler", log)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and getattr(thread, "_target", None) is take:
            thread.join(10)
    assert len(read) >= 5
    assert min(read) > SIZE, "a record was lost"


async def test_subprocess_run() -> None:
    script = f"import time; time.sleep({WAIT}); print(input())"

    def run(number: int) -> str:
        command = [sys.executable, "-SEc", script]
        return subprocess.run(command, input=str(number), capture_output=True, text=True, check=True).stdout

    assert await five("subprocess.run", run) == [f"{number}\n" for number in range(5)]


async def test_paramiko() -> None:
    """Five commands over one connection: its own thread reads, and wakes who waits for an answer."""
    with slow_ssh() as port, paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect("127.0.0.1", port, username="me", password="secret", look_for_keys=False, allow_agent=False)

        def run(number: int) -> str:
            _, out, _ = client.exec_command(f"echo {number}")
            return out.read().decode()

        assert await five("paramiko", run) == [f"echo {number}" for number in range(5)]
