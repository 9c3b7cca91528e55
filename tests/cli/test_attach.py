"""One way of naming a server, and a filter, for top, step and trace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator

import pytest

from coserver import App
from coserver_cli.attach import Words, WrongWords

from .conftest import COMMAND, TIMEOUT


@pytest.fixture(scope="module")
def socket_of_shop() -> Iterator[str]:
    """Two servers with a control, shop and stock, in a runtime folder of their own."""
    folder = tempfile.mkdtemp(prefix="cs-")
    shop, stock = App("shop"), App("stock")
    shop.get("/items/{id}")(lambda id: id)
    stock.get("/left/{id}")(lambda id: id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        with shop.start(control="auto", record=True) as first, stock.start(control="auto", record=True) as second:
            urllib.request.urlopen(f"{first.url}/items/1", timeout=20).close()
            urllib.request.urlopen(f"{second.url}/left/1", timeout=20).close()
            assert first.control is not None
            yield first.control.path
    shutil.rmtree(folder, ignore_errors=True)


def test_words(socket_of_shop: str) -> None:
    pid = str(os.getpid())
    for words, server, filter, expected in (
        ((), None, "", (None, "")),
        (("shop",), None, "", ("shop", "")),
        ((pid,), None, "", (pid, "")),
        ((socket_of_shop,), None, "", (socket_of_shop, "")),
        (("~u /a",), None, "", (None, "~u /a")),
        (("/items",), None, "", (None, "/items")),  # a bare word is searched in the URL
        (("cart",), None, "", (None, "cart")),
        (("x" * 5000,), None, "", (None, "x" * 5000)),
        (("a\0b",), None, "", (None, "a\0b")),
        (("shop", "~u /a"), None, "", ("shop", "~u /a")),
        (("~u /a", "shop"), None, "", ("shop", "~u /a")),
        (("shop", "cart"), None, "", ("shop", "cart")),
        (("http://127.0.0.1:1", "cart"), None, "", ("http://127.0.0.1:1", "cart")),
        ((), "shop", "", ("shop", "")),
        (("~u /a",), "shop", "", ("shop", "~u /a")),
        (("shop",), "stock", "", ("stock", "shop")),
        (("shop",), None, "~u /a", ("shop", "~u /a")),
        ((), None, "~u /a", (None, "~u /a")),
    ):
        assert Words(words, server, filter).read() == expected, words
        if words not in ((("/items",), ("cart",), ("x" * 5000,), ("a\0b",))):
            assert Words(words, server, filter).read(server_first=True) == expected, words
    assert Words(["cart"]).read(server_first=True) == ("cart", "")
    for words, server, filter in (
        (("~u", "/page", "&"), None, ""), (("shop", "a", "b"), None, ""), (("a", "b"), "shop", ""),
        (("shop", "a"), None, "~u b"), (("a",), "shop", "~u b"),
    ):  # fmt: skip
        with pytest.raises(WrongWords, match="put a filter of several words in quotes"):
            Words(words, server, filter).read()


SAME: list[tuple[str, ...]] = [
    ("shop", "~u /items"), ("-s", "shop", "~u /items"), ("--server", "shop", "~u /items"), ("~u /items", "shop"),
]  # fmt: skip


@pytest.mark.parametrize("words", SAME, ids=" ".join)
def test_the_same_words_for_top_step_and_trace(socket_of_shop: str, words: tuple[str, ...]) -> None:
    runtime = os.path.dirname(os.path.dirname(socket_of_shop))
    environment = {**os.environ, "XDG_RUNTIME_DIR": runtime, "NO_COLOR": "1"}
    running = {
        name: subprocess.Popen([*COMMAND, *arguments], env=environment, text=True, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name, arguments in (
            ("top", ("top", *words, "--json")), ("trace", ("trace", *words, "--once")), ("step", ("step", *words))
        )
    }  # fmt: skip
    said = {name: (*process.communicate(timeout=TIMEOUT), process.returncode) for name, process in running.items()}
    assert [code for _, _, code in said.values()] == [0, 0, 0], said
    assert json.loads(said["top"][0])["server"] == "shop"
    assert said["trace"][0].endswith("GET /items/1\n")


def test_wrong_words(socket_of_shop: str) -> None:
    runtime = os.path.dirname(os.path.dirname(socket_of_shop))
    environment = {**os.environ, "XDG_RUNTIME_DIR": runtime, "NO_COLOR": "1"}
    for arguments, code, message in (
        (("step", "~u", "/page", "&", "~m", "GET"), 2, "put a filter of several words in quotes"),
        (("trace", "~u /items", "--once"), 3, "several servers run: give the name of one; running are"),
        (("trace", "nowhere", "~u /items", "--once"), 3, "no server named 'nowhere' is reachable"),
    ):
        done = subprocess.run([*COMMAND, *arguments], env=environment, text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=TIMEOUT, check=False)  # fmt: skip
        assert (done.returncode, message in done.stderr) == (code, True), done
