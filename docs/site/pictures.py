"""The two pictures of README and site, of a real server: ``python docs/site/pictures.py`` makes them anew.

A shop with traffic is served; what ``coserver top`` shows of it is drawn by the dashboard itself, line by line: the
table with a request that is held, and that request in full. Nothing in them is written by hand.
"""

from __future__ import annotations

import random
import re
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from coserver.views.keys import press
from rich.console import Console

from coserver import App, Request, Server, gather
from coserver.views import screen
from coserver.views.dashboard import Dashboard

FOLDER = Path(__file__).parents[1] / "pictures"
WIDTH = 104
CLIENTS = 12


def look_up(what: str, id: int) -> dict[str, int]:
    """A database that takes its time."""
    time.sleep(random.choice([0.1, 0.2, 0.4]))
    return {"id": id, what: 30 + id}


async def item(request: Request, id: int) -> dict[str, int]:
    """Asks another server twice at once."""
    stock = request.app.upstreams["stock"]
    price, left = await gather(stock.get(f"/price/{id}"), stock.get(f"/left/{id}"))
    return {**price.json(), **left.json()}


def order(id: int) -> dict[str, int]:
    time.sleep(random.choice([0.2, 0.5, 0.8]))
    return {"order": id}


def shop() -> App:
    """A shop whose handlers wait, and the stock that it asks, in one server."""
    for handler in (look_up, item, order):  # else the pictures told where this checkout lies
        handler.__code__ = handler.__code__.replace(co_filename="shop.py")
    app, stock, port = App("shop"), App("stock"), free_port()
    stock.get("/{what}/{id}")(look_up)
    app.get("/items/{id}")(item)
    app.get("/orders/{id}")(order)
    app.listen(name="stock", port=port, app=stock)
    app.upstream("stock", f"http://127.0.0.1:{port}")
    return app


@contextmanager
def traffic(server: Server) -> Iterator[None]:
    """Clients that ask for one thing after the other."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            path = random.choice(["/items/{}", "/items/{}", "/orders/{}"]).format(random.randint(8, 40))
            try:
                urllib.request.urlopen(server.url + path, timeout=30).read()
            except OSError:
                over.wait(0.2)  # the server stops

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def draw(board: Dashboard, height: int, title: str) -> str:
    """The dashboard's screen as an SVG that asks nothing of other sites."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in screen.lines(board, WIDTH, height):
        console.print(line, overflow="crop", no_wrap=True)
    svg = console.export_svg(title=title, unique_id="shown")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace")
    return re.sub(r"\n\s*\n+", "\n", svg)


def make(folder: Path, seconds: int) -> None:
    """Both pictures, after ``seconds`` of traffic: as many bars has the sparkline."""
    board = Dashboard()
    folder.mkdir(exist_ok=True)
    with shop().start() as server, server.step("~u /items/7$", at="response") as step:
        held = threading.Thread(target=lambda: urllib.request.urlopen(server.url + "/items/7", timeout=60).read())
        held.start()
        step.wait(30)  # before the others come: so it is what has waited longest, and stands in the first row
        with traffic(server):
            for _ in range(seconds):
                board.show(server.snapshot())
                time.sleep(1)
            board.hold = "~u /items/7$ @response"
            board.show(server.snapshot())
            board.show_held([one.as_dict() for one in step.waiting])
            (folder / "top.svg").write_text(draw(board, 18, "coserver top"))
            press(board, "enter")
            (folder / "held.svg").write_text(draw(board, 21, "coserver top: a request held before its answer goes out"))
            step.close()
        held.join()


def free_port() -> int:
    """An upstream's address is said before the server starts."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


if __name__ == "__main__":
    make(Path(sys.argv[1]) if sys.argv[1:] else FOLDER, 20)
