"""coserver's fan-out: `python -m benchmarks.servers.fanout_coserver BACKEND CODEC PORT`."""

import os
import sys

from coserver import App, UpstreamLimits, gather

URL = f"http://127.0.0.1:{os.environ.get('BENCHMARK_BACKEND', '1')}"


def build(codec: str) -> App:
    app = App(name="fanout")
    back = app.upstream("back", URL, codec=codec, limits=UpstreamLimits(max_connections=400))

    @app.get("/page")
    async def page() -> str:
        answers = await gather(*[back.get("/x") for _ in range(10)])
        return "".join([answer.text() for answer in answers])

    return app


if __name__ == "__main__":
    backend, codec, port = sys.argv[1:]
    build(codec).run(host="127.0.0.1", port=int(port), backend=backend, codec=codec)
