"""``coserver demo``: serve the shop with a few clients, and print what to try. Ctrl+C stops it."""

from __future__ import annotations

import signal
import socket
import sys

from coserver import Server

from .. import console
from ..serve.serve import INTERRUPTED
from . import shop
from .traffic import CUSTOMERS, Traffic

HTTP_PORT = 8000
TCP_PORT = 9000


def run(port: int | None = None) -> int:
    """Serve on ``port``, else on 8000 or a free port, until a signal arrives; the exit code."""
    tcp_port = _free_port(TCP_PORT)
    shop.app.tcp(port=tcp_port, framing="lines")(shop.counter)
    traffic: list[Traffic] = []

    def on_start(server: Server) -> None:
        _tell(server)
        console.started(server)
        traffic.append(Traffic(server.url))
        traffic[0].start()

    def on_signal(server: Server, count: int) -> None:
        traffic[0].stop()
        console.stopping(server, count)

    wanted = _free_port(HTTP_PORT) if port is None else port
    try:
        number = shop.app.run(port=wanted, on_start=on_start, on_signal=on_signal)
    except OSError as error:
        if traffic:
            raise
        console.error(error.strerror or str(error))
        return 1
    traffic[0].stop()
    traffic[0].join()
    print(f"stopped; the customers got {traffic[0].answered} answers")
    return INTERRUPTED if number == signal.SIGINT else 0


def _free_port(wanted: int) -> int:
    """``wanted`` if it is free, else 0: the system chooses a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            print(f"port {wanted} is taken; using a free one")
            return 0
    return wanted


def _tell(server: Server) -> None:
    """Print what to try next, as lines to paste into another terminal."""
    url, tcp = server.url, server.port_of("counter")
    print(f"""
The shop is open, with {CUSTOMERS} customers; each sends one request a second.
Try, in another terminal:

  coserver top                      the requests that are under way; q quits
  coserver step '~u /orders'        hold an order, look into it; "next" lets it go on
  coserver trace --waterfall        each request when it has ended; Ctrl+C quits

  curl {url}/items/1
  curl -d '{{"item": 1, "count": 2}}' {url}/orders
  curl -N {url}/ticker
  curl -i {url}/items/9
  nc 127.0.0.1 {tcp}

Its code is in {shop.__file__}.
""")
    sys.stdout.flush()
