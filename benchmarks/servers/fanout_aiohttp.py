"""aiohttp.web with aiohttp's own client: `python -m benchmarks.servers.fanout_aiohttp LOOP PORT`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, TCPConnector, web

URL = f"http://127.0.0.1:{os.environ.get('BENCHMARK_BACKEND', '1')}/x"
SESSION = web.AppKey("session", ClientSession)


async def session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(connector=TCPConnector(limit=400)) as app[SESSION]:
        yield


async def page(request: web.Request) -> web.Response:
    client = request.app[SESSION]

    async def ask() -> str:
        async with client.get(URL) as answer:
            return await answer.text()

    return web.Response(text="".join(await asyncio.gather(*[ask() for _ in range(10)])))


if __name__ == "__main__":
    loop, port = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_get("/page", page)
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None, backlog=1024)
