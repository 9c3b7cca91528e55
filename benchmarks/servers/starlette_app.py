"""Starlette under uvicorn and granian: the usual way to serve JSON and files from an ASGI server.

JSON goes through orjson, as in coserver and aiohttp. Starlette's own JSONResponse uses the slower json.
"""

from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

PAGE = Path(__file__).with_name("page.txt")


async def echo(request: Request) -> Response:
    return Response(orjson.dumps(orjson.loads(await request.body())), media_type="application/json")


async def page(request: Request) -> FileResponse:
    return FileResponse(PAGE)


app = Starlette(routes=[Route("/json", echo, methods=["POST"]), Route("/file", page)])
