"""coserver's side: `python -m benchmarks.servers.coserver_http BACKEND CODEC KIND PORT`.

KIND is `async` for an `async def` handler, `def` for a plain one.
"""

import sys

from coserver import App


def build(kind: str) -> App:
    app = App(name="bench")
    if kind == "async":

        @app.get("/")
        async def index() -> str:
            return "ok"

    elif kind == "def":

        @app.get("/")
        def plain_index() -> str:
            return "ok"

    else:
        raise SystemExit(f"KIND is async or def, not {kind!r}")
    return app


if __name__ == "__main__":
    backend, codec, kind, port = sys.argv[1:]
    build(kind).run(host="127.0.0.1", port=int(port), backend=backend, codec=codec)
