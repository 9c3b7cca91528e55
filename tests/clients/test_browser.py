"""A browser: its EventSource, which comes again by itself, and its forms and downloads. Chromium, without a screen."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import App, Request, Response, Server, ServerSentEvent
from coserver.testing import leak_check, order_check

from .asking import BIG

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

#: Milliseconds that no step needs, unless something hangs.
PATIENCE = 30_000

PAGE = """<!doctype html><meta charset="utf-8"><title>events</title>
<script>
  const log = [];
  const source = new EventSource("/events" + location.search);
  source.onopen = () => log.push("open");
  source.onerror = () => log.push("error " + source.readyState);
  source.onmessage = event => log.push("message " + event.lastEventId + " " + event.data);
  source.addEventListener("tick", event => log.push("tick " + event.data));
</script>"""

FORM = """<!doctype html><meta charset="utf-8"><title>form</title>
<form action="/upload" method="post" enctype="multipart/form-data">
  <input name="name"><input name="file" type="file"><button>send</button>
</form>
<a href="/files/report.txt" download>report</a>"""


class Site:
    """What the browser is shown, and what the server saw of it."""

    def __init__(self, folder: Path) -> None:
        self.app = App()
        self.last_ids: list[str | None] = []
        self.closed = threading.Event()
        self.uploads: list[tuple[str, bytes]] = []
        self.app.static("/files", folder)
        self._pages()
        self._events()

    def _pages(self) -> None:
        @self.app.get("/")
        async def page() -> Response:
            return Response(PAGE, content_type="text/html; charset=utf-8")

        @self.app.get("/form")
        async def form() -> Response:
            return Response(FORM, content_type="text/html; charset=utf-8")

        @self.app.post("/upload")
        def upload(request: Request) -> Response:
            self.uploads.append((request.headers["content-type"], request.body))
            return Response.redirect("/form?done", 303)

    def _events(self) -> None:
        @self.app.get("/events")
        async def events(request: Request) -> Response:
            last = request.headers.get("last-event-id")
            self.last_ids.append(last)
            if request.query_string == "silent":
                return Response.events(self.silent(), heartbeat=0.2)
            return Response.events(self.numbers(int(last or 0)))

    async def numbers(self, last: int) -> AsyncIterator[ServerSentEvent]:
        """Two, the second of which is odd in every way; then the server has had enough."""
        yield ServerSentEvent({"n": last + 1}, id=str(last + 1), retry=100)
        yield ServerSentEvent(" two\r\nlines\n", id=str(last + 2))
        yield ServerSentEvent("tock", event="tick")

    async def silent(self) -> AsyncIterator[str]:
        try:
            await anyio.sleep_forever()
            yield "never"
        finally:
            self.closed.set()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "report.txt").write_text("a report")
    (tmp_path / "page.html").write_text("<!doctype html><title>t</title><video src=film.webm></video>")
    return Site(tmp_path)


@pytest.fixture(params=["asyncio", "trio"])
def server(request: pytest.FixtureRequest, site: Site) -> Iterator[Server]:
    with leak_check(), order_check(site.app), site.app.start(backend=request.param) as server:
        yield server


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()


def test_events_and_coming_again(server: Server, site: Site, page: Any) -> None:
    page.goto(server.url)
    page.wait_for_function("log.filter(line => line == 'open').length >= 3")
    log = page.evaluate("log")
    one = ["open", 'message 1 {"n":1}', "message 2  two\nlines\n", "tick tock", "error 0"]
    two = ["open", 'message 3 {"n":3}', "message 4  two\nlines\n", "tick tock", "error 0"]
    assert log[:10] == one + two
    assert site.last_ids[:3] == [None, "2", "4"]
    page.evaluate("source.close()")


def test_open_fires_though_nothing_is_said(server: Server, site: Site, page: Any) -> None:
    page.goto(f"{server.url}/?silent")
    page.wait_for_function("log.length > 0")
    page.wait_for_timeout(700)  # heartbeats come, and no listener sees them
    assert page.evaluate("log") == ["open"]
    assert page.evaluate("source.readyState") == 1
    page.goto("about:blank")
    assert site.closed.wait(PATIENCE / 1000), "the source goes on though the page has been left"


def test_a_server_that_stops_and_comes_again(site: Site, page: Any) -> None:
    """A cell run again: the page finds the new server by itself."""
    with site.app.start() as first:
        page.goto(f"{first.url}/?silent")
        page.wait_for_function("log.includes('open')")
        port = first.port
        first.stop(grace=30)
        assert site.closed.is_set()
    page.wait_for_function("log.some(line => line.startsWith('error'))")
    with site.app.start(port=port):
        page.wait_for_function("log.filter(line => line == 'open').length == 2")


def test_an_upload(server: Server, site: Site, page: Any, tmp_path: Path) -> None:
    (tmp_path / "ü.bin").write_bytes(BIG)
    page.goto(f"{server.url}/form")
    page.fill("input[name=name]", "Zoë")
    page.set_input_files("input[name=file]", tmp_path / "ü.bin")
    page.click("button")
    page.wait_for_url("**/form?done")
    [(content_type, body)] = site.uploads
    assert content_type.startswith("multipart/form-data; boundary=")
    boundary = content_type.partition("boundary=")[2].encode()
    assert body.count(boundary) == 3
    assert BIG in body
    assert "Zoë".encode() in body


def test_a_download(server: Server, page: Any, tmp_path: Path) -> None:
    page.goto(f"{server.url}/form")
    with page.expect_download() as expected:
        page.click("a")
    expected.value.save_as(tmp_path / "got")
    assert expected.value.suggested_filename == "report.txt"
    assert (tmp_path / "got").read_text() == "a report"


def test_a_page_is_asked_for_again(server: Server, page: Any) -> None:
    """The browser keeps it and asks whether it has changed: 304."""
    statuses = []
    page.on("response", lambda response: statuses.append(response.status) if "page.html" in response.url else None)
    for _ in itertools.repeat(None, 2):
        page.goto(f"{server.url}/files/page.html")
    page.reload()
    assert statuses[0] == 200
    assert set(statuses) <= {200, 304}
    assert page.title() == "t"
