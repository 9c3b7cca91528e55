"""The server of coserver: `python -m benchmarks.servers.coserver_http BACKEND CODEC KIND PORT [CERTIFICATE KEY]`.

KIND is `async` for an `async def` handler that answers "ok", `def` for a plain one, `json` for an echo of JSON, `file`
for a file of 10 KB, `sleep-async` and `sleep-def` for a handler that sleeps for 0.1 s; `recorded`, `measured` and
`watched` are `async` with the recorder on, with metrics counted, or with a snapshot twice a second as `top` takes it.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import anyio

import coserver
from coserver import App

PAGE = Path(__file__).with_name("page.txt")


def build(kind: str) -> App:
    app = App(name="bench")
    if kind in ("async", "recorded", "measured", "watched"):

        @app.get("/")
        async def index() -> str:
            return "ok"

    elif kind == "def":

        @app.get("/")
        def plain_index() -> str:
            return "ok"

    elif kind == "json":

        @app.post("/json")
        async def echo(request: coserver.Request) -> object:
            return request.json()

    elif kind == "file":

        @app.get("/file")
        async def page() -> coserver.Response:
            return coserver.Response.file(PAGE)

    elif kind == "sleep-async":

        @app.get("/sleep")
        async def sleep() -> str:
            await anyio.sleep(0.1)
            return "ok"

    elif kind == "sleep-def":

        @app.get("/sleep")
        def blocking_sleep() -> str:
            time.sleep(0.1)
            return "ok"

    else:
        raise SystemExit(f"KIND is async, def, json, file, sleep-async, sleep-def, recorded, measured or watched, "
                         f"not {kind!r}")
    return app


def look(path: str) -> None:
    """Take a snapshot twice a second, in a thread of this process, so that the client's cost is counted too."""
    from coserver.control.client import Client, Unreachable

    while True:
        time.sleep(0.5)
        try:
            Client(path).snapshot()
        except Unreachable:
            continue  # the server has not started yet, or has stopped


def check_tree() -> None:
    """Raise SystemExit for the wrong checkout: a checkout compared with itself would show no change."""
    wanted = os.environ.get("BENCHMARK_TREE")
    found = Path(coserver.__file__).parent.parent
    if wanted and found != Path(wanted).resolve():
        raise SystemExit(f"coserver must come from {wanted}, but comes from {found}")


if __name__ == "__main__":
    backend, codec, kind, port, *files = sys.argv[1:]
    check_tree()
    options: dict[str, object] = {"tls": coserver.Tls(certfile=files[0], keyfile=files[1])} if files else {}
    app = build(kind)
    app.measured = kind == "measured"
    if kind == "recorded":  # an older checkout may not know this option
        options["record"] = True
    if kind == "watched":
        options["control"] = str(Path(tempfile.mkdtemp()) / "control.sock")
        threading.Thread(target=look, args=(options["control"],), daemon=True).start()
    app.run(host="127.0.0.1", port=int(port), backend=backend, codec=codec, **options)
