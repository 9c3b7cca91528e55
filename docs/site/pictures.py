"""Draw the pictures of the README and the site from a real server: ``python docs/site/pictures.py``.

The script serves a shop with traffic. The dashboard of ``coserver top`` draws the pictures itself, line by line: the
table with a held request, that request in full, and the moving picture, in which keys are pressed.
"""

from __future__ import annotations

import random
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from film import Film
from rich.console import Console

from coserver import App, Request, Server, gather
from coserver.views.dashboard import screen
from coserver.views.dashboard.keys import press
from coserver.views.dashboard.model import Dashboard

FOLDER = Path(__file__).parents[1] / "pictures"
WIDTH = 104
CLIENTS = 12


def look_up(what: str, id: int) -> dict[str, int]:
    """A slow database."""
    time.sleep(random.choice([0.1, 0.2, 0.4]))
    return {"id": id, what: 30 + id}


async def item(request: Request, id: int) -> dict[str, int]:
    """Ask another server two questions at the same time."""
    stock = request.app.upstreams["stock"]
    price, left = await gather(stock.get(f"/price/{id}"), stock.get(f"/left/{id}"))
    return {**price.json(), **left.json()}


def order(id: int) -> dict[str, int]:
    time.sleep(random.choice([0.2, 0.5, 0.8]))
    return {"order": id}


def shop() -> App:
    """One server with two apps: a shop whose handlers wait, and the stock that the shop asks."""
    for handler in (look_up, item, order):  # otherwise the pictures would show the path of this checkout
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
    """Run clients that send one request after the other."""
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
    """The dashboard's screen as an SVG that loads nothing from other sites."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in screen.lines(board, WIDTH, height):
        console.print(line, overflow="crop", no_wrap=True)
    svg = console.export_svg(title=title, unique_id="shown")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace")
    return re.sub(r"\n\s*\n+", "\n", svg)


def make(folder: Path, seconds: int) -> None:
    """Write the pictures after ``seconds`` of traffic. The sparkline has as many bars."""
    folder.mkdir(exist_ok=True)
    _stills(folder, seconds)
    (folder / "moving.svg").write_text(_moving(seconds))


def _stills(folder: Path, seconds: int) -> None:
    board = Dashboard()
    with shop().start() as server, server.step("~u /items/7$", at="response") as step:
        held = threading.Thread(target=lambda: urllib.request.urlopen(server.url + "/items/7", timeout=60).read())
        held.start()
        step.wait(30)  # before the others begin: the longest wait stands in the first row
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


def _moving(seconds: int) -> str:
    """The dashboard while a person holds a request, changes its status and lets it go."""
    board, film = Dashboard(), Film(WIDTH, 20)
    answers: list[int] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(server.url + "/items/7", timeout=60)
        except urllib.error.HTTPError as error:
            answers.append(error.code)

    def shoot(pause: float, title: str) -> None:
        board.show(server.snapshot())
        film.add(screen.lines(board, film.width, film.height), pause, title)
        time.sleep(min(seconds, pause))

    with shop().start() as server, traffic(server):
        for _ in range(seconds):
            board.show(server.snapshot())
            time.sleep(1)
        for _ in range(3):
            shoot(0.9, "coserver top shows the requests that a server works on")
        press(board, "i")
        for typed in ("", "~u /items/7", "~u /items/7$ @response"):
            _type(board, typed)
            shoot(0.7, "i: choose the requests to hold")
        board.prompt, board.hold = None, "~u /items/7$ @response"
        with server.step("~u /items/7$", at="response") as step:
            client = threading.Thread(target=ask)
            client.start()
            step.wait(30)
            board.show_held([one.as_dict() for one in step.waiting])
            shoot(1.8, "the request is held before its answer goes out; the server serves the others")
            press(board, "enter")
            shoot(2.6, "enter: look at the held request")
            for _ in range(12):
                press(board, "down")
            shoot(1.4, "its answer has not gone out yet")
            press(board, "e")
            for typed in ("", "status=503"):
                _type(board, typed)
                shoot(0.9, "e: change the answer")
            press(board, "enter")
            step.waiting[0].edit(status=503)
            board.show_held([one.as_dict() for one in step.waiting])
            shoot(2.4, "e: change the answer")
            press(board, "a")
            step.waiting[0].resume()
            board.show_held([])
            board.leave()
            client.join()
            shoot(2.4, "a: let it go; its client gets 503")
    assert answers == [503]
    return film.svg()


def _type(board: Dashboard, text: str) -> None:
    """Type a line into the dashboard's prompt, instead of the line that stands there."""
    assert board.prompt is not None
    press(board, "ctrl-u")
    for key in text:
        press(board, key)


def free_port() -> int:
    """A free port. An upstream needs its address before the server starts."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


if __name__ == "__main__":
    make(Path(sys.argv[1]) if sys.argv[1:] else FOLDER, 20)
