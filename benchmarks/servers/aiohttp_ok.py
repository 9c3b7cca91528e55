"""aiohttp.web on asyncio: `python -m benchmarks.servers.aiohttp_ok PORT`."""

import sys
from pathlib import Path

import orjson
from aiohttp import web

PAGE = Path(__file__).with_name("page.txt")


async def index(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(orjson.loads(await request.read())), content_type="application/json")


async def page(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_post("/json", echo)
    app.router.add_get("/file", page)
    # A backlog of 1024, since all 256 connections of the largest load arrive at once.
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=1024)
