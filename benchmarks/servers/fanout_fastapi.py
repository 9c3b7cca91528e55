"""FastAPI with httpx, under uvicorn."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

URL = f"http://127.0.0.1:{os.environ.get('BENCHMARK_BACKEND', '1')}/x"
clients: list[httpx.AsyncClient] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=400)) as client:
        clients.append(client)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/page", response_class=PlainTextResponse)
async def page() -> str:
    answers = await asyncio.gather(*[clients[0].get(URL) for _ in range(10)])
    return "".join(answer.text for answer in answers)
