"""The shop's app: async and blocking handlers, path parameters, JSON, a streamed response, a dialogue over TCP.

``coserver serve coserver_cli.demo.shop:app`` serves it alone; ``coserver demo`` adds clients.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import anyio

from coserver import App, HTTPException, Request, await_

ITEMS: dict[int, dict[str, Any]] = {
    1: {"id": 1, "name": "lamp", "price": 29},
    2: {"id": 2, "name": "kettle", "price": 35},
    3: {"id": 3, "name": "chair", "price": 80},
}

app = App("shop")
orders: dict[int, dict[str, Any]] = {}
_numbers = itertools.count(1)


@app.get("/")
async def index() -> str:
    return "The shop. Try /items, /items/1, /ticker, and POST /orders.\n"


@app.get("/items")
async def items() -> list[dict[str, Any]]:
    return list(ITEMS.values())


@app.get("/items/{id}")
async def item(id: int) -> dict[str, Any]:
    """``id`` is an int because its annotation says so; /items/x is a 404 before this is called."""
    if id not in ITEMS:
        raise HTTPException(404, f"no item {id}; there are {', '.join(map(str, ITEMS))}")
    return ITEMS[id]


@app.post("/orders")
def order(request: Request) -> tuple[dict[str, Any], int, dict[str, str]]:
    """A plain ``def``: it runs in a worker, where ``await_`` suspends only this request."""
    wanted = request.json()
    if not isinstance(wanted, dict) or wanted.get("item") not in ITEMS:
        raise HTTPException(422, 'an order looks like {"item": 1, "count": 2}')
    await_(anyio.sleep(0.05))  # the warehouse thinks
    number = next(_numbers)
    orders[number] = {"order": number, **wanted}
    return orders[number], 201, {"location": f"/orders/{number}"}


@app.get("/orders/{number:int}")
def placed(number: int) -> dict[str, Any]:
    if number not in orders:
        raise HTTPException(404, f"no order {number}")
    return orders[number]


@app.get("/ticker")
async def ticker() -> AsyncIterator[str]:
    """A streamed response: each line goes out when it is yielded."""
    for count in range(5):
        yield f"{count}: {len(orders)} orders so far\n"
        await anyio.sleep(0.5)


async def counter(connection: Any) -> None:
    """Answer each line over TCP. ``coserver demo`` chooses the port, and adds this handler."""
    await connection.send("Welcome. Say something.")
    async for line in connection:
        await connection.send(b"You said: " + line)
