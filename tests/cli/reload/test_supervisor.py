"""``--reload``: a change is served, no client is refused meanwhile, broken code is waited for."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from ..conftest import TIMEOUT
from .commands import Serve, ask, count, under_way, until, write
from .commands import folder as folder


def test_a_change_is_served_on_the_same_port(serve: Serve, folder: Path, backend: str) -> None:
    running = serve("app", "--reload", "--backend", backend)
    port = running.port
    tcp = int(running.wait_for(r"tcp://\S+:(\d+)")[1])
    assert ask(port) == (200, "one")
    write(folder, "two")
    until(port, 200, "two")
    running.wait_for("^app.py changed: reloading$")
    running.wait_for("^serving shop again$")
    with socket.create_connection(("127.0.0.1", tcp), TIMEOUT) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
    running.signal(signal.SIGINT)
    assert running.ended() == 130
    assert running.lines[-1].startswith("stopping")


def test_no_client_is_refused_between_two_children(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    got: list[tuple[int, str]] = []
    over = threading.Event()

    def customer() -> None:
        while not over.is_set():
            got.append(ask(port))

    thread = threading.Thread(target=customer)
    thread.start()
    try:
        for word in ("two", "three", "four"):
            write(folder, word)
            until(port, 200, word)
    finally:
        over.set()
        thread.join()
    assert {status for status, _ in got} == {200}
    words = [text for _, text in got]
    assert sorted(words, key=["one", "two", "three", "four"].index) == words, "an old child served after a new one"


def test_broken_code_is_waited_out(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    (folder / "app.py").write_text("x = (\n")
    running.wait_for("^nothing is served: waiting for a change$")
    running.wait_for(r"^SyntaxError: '\(' was never closed$")
    status, text = ask(port, "/any/where?x=1")
    assert status == 503
    assert text.startswith("503 Service Unavailable\n")
    assert "never closed" not in text, "only 'dev' shows clients what is wrong"
    write(folder, "two")
    until(port, 200, "two")
    running.signal(signal.SIGTERM)
    assert running.ended() == 0


def test_no_client_is_cut_when_the_code_is_mended(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    for word in ("two", "three", "four"):
        (folder / "app.py").write_text("x = (\n")
        while ask(port)[0] != 503:
            pass
        write(folder, word)
        until(port, 200, word)  # any reset or refusal raises here


def test_dev_shows_clients_what_is_wrong(serve: Serve, folder: Path) -> None:
    running = serve("app", command="dev")
    port = running.port
    (folder / "app.py").write_text("x = '<b>' + 1\n")
    running.wait_for("waiting for a change")
    status, text = ask(port)
    assert status == 503
    assert f'File "{folder}/app.py", line 1, in <module>' in text
    assert "TypeError: can only concatenate str" in text
    page = ask(port, accept="text/html,*/*;q=0.8")[1]
    assert page.startswith("<!doctype html>")
    assert "TypeError: can only concatenate str" in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_it_may_begin_broken(serve: Serve, folder: Path) -> None:
    (folder / "app.py").write_text("x = (\n")
    running = serve("app", "--reload")
    running.wait_for("waiting for a change")
    write(folder, "mended")
    assert ask(running.port) == (200, "mended")


def test_a_crash_at_import_is_no_loop(serve: Serve, folder: Path) -> None:
    with (folder / "app.py").open("a") as file:
        file.write("\nPath('starts').open('a').write('x')\nraise SystemExit(3)\n")
    running = serve("app", "--reload")
    running.wait_for("waiting for a change")
    time.sleep(0.5)
    assert (folder / "starts").read_text() == "x"
    running.signal(signal.SIGINT)
    assert running.ended() == 130


def test_a_child_that_dies_is_told_and_replaced_at_the_next_change(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    os.kill(int(ask(port, "/pid")[1]), signal.SIGKILL)
    running.wait_for(r"^nothing is served \(signal 9\): waiting for a change$")
    assert ask(port)[0] == 503
    write(folder, "two")
    until(port, 200, "two")


def test_a_burst_of_saves_is_one_reload(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    for number in range(20):
        (folder / f"part{number:02}.py").write_text("x = 1\n")
    write(folder, "two")
    until(port, 200, "two")
    time.sleep(0.5)
    assert count(running, "reloading") == 1
    running.wait_for(r"^app.py and 20 more files changed: reloading$")


def test_a_running_request_ends_first(serve: Serve, folder: Path) -> None:
    running = serve("app", "--reload")
    port = running.port
    with under_way(port, folder, "/slow") as answers:
        write(folder, "two")
        running.wait_for("reloading")
        (folder / "go on").touch()
    assert answers == ["finished"]
    until(port, 200, "two")


@pytest.mark.parametrize("path", ["/slow", "/stuck"])
def test_a_hanging_request_is_cut(serve: Serve, folder: Path, path: str) -> None:
    """``/stuck`` blocks the loop for ever: its process is killed."""
    running = serve("app", "--reload")
    port = running.port
    with under_way(port, folder, path) as answers:
        write(folder, "two")
    assert answers == ["cut off"]
    until(port, 200, "two")
