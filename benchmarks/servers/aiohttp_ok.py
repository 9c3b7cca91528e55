"""aiohttp.web on asyncio: `python -m benchmarks.servers.aiohttp_ok PORT`."""

import sys

from aiohttp import web


async def index(request: web.Request) -> web.Response:
    return web.Response(text="ok")


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/", index)
    # A backlog of 1024, for all 256 connections of the widest load arrive at once.
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=1024)
