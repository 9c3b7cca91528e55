"""fastpysgi, a server in C: `python -m benchmarks.servers.fastpysgi_ok asgi|wsgi PORT`."""

import sys
from collections.abc import Callable
from typing import Any

import fastpysgi

from benchmarks.servers.asgi_ok import app as asgi_app

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "2")]


def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [b"ok"]


if __name__ == "__main__":
    kind, port = sys.argv[1:]
    fastpysgi.run({"asgi": asgi_app, "wsgi": wsgi_app}[kind], "127.0.0.1", int(port))
