"""gevent's pywsgi: `python -m benchmarks.servers.gevent_ok PORT`."""

import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [b"ok"]


if __name__ == "__main__":
    # A backlog of 1024, for all 256 connections of the widest load arrive at once.
    server = WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None, backlog=1024)
    server.init_socket()
    # Head and body leave in two writes; without this, inherited by every connection, each answer waits 40 ms for the
    # load's delayed ACK. The others set it themselves.
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.serve_forever()
