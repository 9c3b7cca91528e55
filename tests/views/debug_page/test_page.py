"""The debug page: its content, and that no exception breaks it."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import time
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, HTTPException
from coserver.testing import serving
from coserver.views.debug_page.masks import LEAF_SIZE, VALUE_SIZE, Masks
from coserver.views.debug_page.page import prefers_html
from coserver.views.debug_page.traceback import CHAIN, FIRST, LAST, MEMBERS, is_own

from .render import check_markup, raised, shown

HTML = {b"accept": b"text/html,application/xhtml+xml,*/*;q=0.8"}


# Over the wire.


async def test_as_the_client_prefers(codec: str) -> None:
    app = App()

    @app.get("/{kind}")
    async def fail(kind: str) -> str:
        local = "a local"
        if kind == "known":
            raise HTTPException(418, "short and stout")
        raise ValueError(f"<b>{kind}</b> {local}")

    async with serving(app, debug=True, codec=codec) as server, httpx.AsyncClient(base_url=server.url) as client:
        text = await client.get("/plain", headers={"accept": "*/*"})
        assert (text.status_code, text.headers["content-type"]) == (500, "text/plain; charset=utf-8")
        assert text.text.endswith("ValueError: <b>plain</b> a local\n")
        assert "local = 'a local'" in text.text
        page = await client.get("/page", headers={"accept": HTML[b"accept"].decode()})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["cache-control"] == "no-store"
        assert "&lt;b&gt;page&lt;/b&gt; a local" in page.text
        assert "<b>" not in page.text
        check_markup(page.text)
        assert (await client.get("/known")).text == "418 I'm a Teapot\nshort and stout\n"
    async with serving(app, codec=codec) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert (await client.get("/x")).text == "500 Internal Server Error\n"


async def test_a_def_and_a_recursion() -> None:
    app = App()

    @app.get("/")
    def deep() -> int:
        def down(n: int) -> int:
            return down(n + 1)

        return down(0)

    async with serving(app, debug=True) as server, httpx.AsyncClient(base_url=server.url) as client:
        text = (await client.get("/")).text
        assert "more frames ..." in text
        assert text.count('> File "') <= FIRST + LAST
        assert "RecursionError: maximum recursion depth exceeded" in text
        page = (await client.get("/", headers={"accept": "text/html"})).text
        assert "more frames are left out" in page
        assert len(page) < 300_000


async def test_the_server_is_not_held_up_for_long() -> None:
    def nested(depth: int) -> list[Any]:
        return [nested(depth - 1) for _ in range(8)] if depth else ["x" * 1000] * 100

    data = nested(5)

    def fail() -> None:
        _big = data
        raise ValueError

    error = raised(fail)
    started = time.perf_counter()
    shown(error)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", True),
        ("TEXT/HTML;q=0.5, */*", True),
        ("text/html;q=0", False),
        ("text/html;q=0.3, text/plain", False),
        ("text/plain, text/html", True),
        ("application/json", False),
        ("text/html;q=nonsense", False),
        ("text/html; level=1; q=0.4", True),
        (";;,,=;q", False),
    ],
)
def test_which_the_client_prefers(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


@given(st.text())
def test_no_accept_field_is_too_odd(accept: str) -> None:
    assert prefers_html(accept) in (True, False)


# What is shown.


def fail_with_cause() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        error.add_note("a note <of> it")
        raise RuntimeError("outer") from error


def test_causes_and_notes() -> None:
    text, page = shown(raised(fail_with_cause))
    assert text.index("KeyError: 'missing'") < text.index("a note <of> it") < text.index("RuntimeError: outer")
    assert "The above exception was the direct cause of the following exception:" in text
    assert page.index("<h1>RuntimeError") < page.index("caused by</span> KeyError")
    assert "a note &lt;of&gt; it" in page


def test_a_context_and_a_suppressed_one() -> None:
    def handled(quiet: bool) -> None:
        try:
            raise KeyError("first")
        except KeyError:
            if quiet:
                raise ValueError("second") from None
            raise ValueError("second")  # noqa: B904 - that is what is tested

    during = "During handling of the above exception, another exception occurred:"
    assert during in shown(raised(lambda: handled(False)))[0]
    assert "first'" not in shown(raised(lambda: handled(True)))[0].split("Traceback")[-1].replace('"first"', "")


def test_chains_that_are_long_or_circular() -> None:
    errors = [ValueError(f"number {n}") for n in range(30)]
    for one, two in itertools.pairwise(errors):
        one.__cause__ = two
    text, _ = shown(errors[0])
    assert text.count("ValueError: number") == CHAIN
    errors[1].__cause__ = errors[0]
    assert shown(errors[0])[0].count("ValueError: number") == 2


def test_groups() -> None:
    deep: Exception = ValueError("innermost")
    for n in range(10):
        deep = ExceptionGroup(f"level {n}", [deep])
    text, page = shown(deep)
    assert "level 9" in text
    assert "1 more" in text
    many = ExceptionGroup("many", [OSError(n, f"no {n}") for n in range(100)])
    text, page = shown(many)
    assert f"+- {100 - MEMBERS} more" in text
    assert f"{100 - MEMBERS} more in this group" in page


def test_a_syntax_error_shows_where() -> None:
    text, page = shown(raised(lambda: compile("x = 1\ny = (\n", "thing.py", "exec")))
    assert '> File "thing.py", line 2, in cannot be compiled\n    y = (\n' in text
    assert "thing.py</span>" in page or "thing.py:2" in page


class Raises:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class RaisesExit:
    def __repr__(self) -> str:
        raise SystemExit(1)


class Huge:
    def __repr__(self) -> str:
        return "y" * 5_000_000


class Lies:
    """An object that answers every attribute, wrongly."""

    def __getattr__(self, name: str) -> Any:
        raise ValueError(name)

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise ValueError("no class")


def test_odd_variables() -> None:
    def fail() -> None:
        raises, huge, lies = Raises(), Huge(), Lies()  # noqa: F841, RUF100
        endless: list[Any] = []
        endless.append(endless)
        long = "z" * 1_000_000
        many = dict.fromkeys(range(100_000))
        raise ValueError(len(long) + len(many))

    text, page = shown(raised(fail))
    assert "no repr" in text
    assert "y" * (LEAF_SIZE + 1) not in page
    assert "z" * (LEAF_SIZE + 1) not in page
    assert len(page) < 100_000


def test_a_repr_that_wants_to_end_the_process() -> None:
    assert "whose repr raises SystemExit" in Masks(None).value("x", RaisesExit())


class BadMessage(Exception):
    def __str__(self) -> str:
        raise KeyError("x")


def test_odd_exceptions() -> None:
    assert "(its str raises KeyError)" in shown(BadMessage())[0]
    assert "\\udc80" in shown(ValueError("lone \udc80"))[0]
    odd = ValueError("x")
    odd.__notes__ = 7  # type: ignore[assignment]
    assert "ValueError: x" in shown(odd)[0]
    odd.__notes__ = [Raises()]  # type: ignore[list-item]
    assert "ValueError: x" in shown(odd)[0]
    assert len(shown(ValueError("x" * 1_000_000))[1]) < 10 * VALUE_SIZE + 20_000


def test_code_without_source() -> None:
    namespace: dict[str, Any] = {}
    exec(compile("def f():\n    1 / 0\n", "<made up>", "exec"), namespace)
    text, page = shown(raised(namespace["f"]))
    assert "ZeroDivisionError" in text
    assert "its source is not available" in page


def test_whose_code_it_is() -> None:
    assert is_own("/home/ann/shop/app.py")
    assert is_own("<ipython-input-1>")
    assert not is_own(anyio.__file__)
    assert not is_own(dataclasses.__file__)
    assert not is_own(sys.modules["coserver.server.http.http1"].__file__ or "")


def test_it_is_loaded_only_when_an_error_is_shown() -> None:
    code = "import sys, coserver; print([n for n in sys.modules if n.startswith(('rich', 'coserver.views'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_its_own_example() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "coserver.views.debug_page.page"],
        capture_output=True,
        text=True,
        check=True,
    )
    check_markup(done.stdout)
    assert "KeyError" in done.stdout
