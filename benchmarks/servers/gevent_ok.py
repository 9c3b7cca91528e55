"""gevent's pywsgi: `python -m benchmarks.servers.gevent_ok PORT [sleep]`. With `sleep` the handler sleeps for 0.1 s."""

import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from gevent import monkey
from gevent.pywsgi import WSGIServer

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [b"ok"]


def sleeping(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    time.sleep(0.1)
    return app(environ, start_response)


if __name__ == "__main__":
    monkey.patch_time()
    # A backlog of 1024, since all connections of a load arrive at once.
    handler = sleeping if "sleep" in sys.argv else app
    server = WSGIServer(("127.0.0.1", int(sys.argv[1])), handler, log=None, backlog=1024)
    server.init_socket()
    # Head and body are two writes. Without this option, which every connection inherits, each answer waits 40 ms for
    # the load's delayed ACK. The other servers set it themselves.
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.serve_forever()
