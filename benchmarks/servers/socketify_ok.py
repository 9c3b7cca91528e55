"""socketify, on uWebSockets in C++: `python -m benchmarks.servers.socketify_ok PORT`."""

import sys
from typing import Any

from socketify import App

app = App()


def home(response: Any, request: Any) -> None:
    response.write_header("Content-Type", "text/plain; charset=utf-8")
    response.end("ok")


if __name__ == "__main__":
    app.get("/", home)
    app.listen({"host": "127.0.0.1", "port": int(sys.argv[1])}, lambda config: None)
    app.run()
