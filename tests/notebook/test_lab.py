"""The live table and the stepper in a real JupyterLab in Chromium, also while cells block.

One JupyterLab and one notebook for the file. All tests use the server of the first cell, and are independent.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from .lab import CHROMIUM, PATIENCE, TOKEN, Page, listens, running_lab, wait_until

for module in ("jupyterlab", "anywidget", "playwright"):
    pytest.importorskip(module, reason=f"{module} is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

SERVER, LIVE, STEP, POST, SLOW, PORTS, SHORT, STOP = range(8)
CELLS = [
    """
import threading
import requests
from coserver import App

app, go = App("lab"), threading.Event()

@app.get("/items/{id}")
def item(id: int):
    return {"id": id, "name": "lamp"}

@app.post("/items")
def add(request):
    return {"added": request.json(), "tag": request.headers.get("x-tag")}

@app.get("/slow")
def slow():
    go.wait(60)
    go.clear()
    return "late"

@app.get("/go")
def free():
    go.set()

server = app.start()
print("port", server.port)
""",
    "server",
    "step = server.step('~m POST')\nstep",
    "print(requests.post(server.url + '/items?token=abcdef', json={'name': 'kettle'}, timeout=60).text)",
    "print(requests.get(server.url + '/slow', timeout=60).text)",
    "from coserver.notebook.clicks import questions\nprint('page_port', questions.page_port.port, 'port', server.port)",
    "short = App('short').start()\nshort.live().show()",
    "short.stop()",
]


class Lab:
    """The notebook, its cells, and the port of its server."""

    def __init__(self, page: Page, url: str, work: Path, browser: Any) -> None:
        self.page, self.url, self.work, self.browser = page, url, work, browser
        page.open("lab", CELLS)
        self.port = int(page.run(SERVER).split("port", 1)[1].split()[0])
        page.run(LIVE)
        self.live = page.page.locator(".coserver.live")
        self.live.wait_for()

    def get(self, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as response:
            return str(response.read().decode())

    def row(self, words: str) -> Any:
        return self.live.locator(".space .row", has_text=words)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("lab")
    with running_lab(folder) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield Lab(Page(browser, url, folder / "work"), url, folder / "work", browser)
        finally:
            browser.close()


@pytest.fixture(autouse=True)
def _no_error(lab: Lab) -> Iterator[None]:
    yield
    assert lab.page.errors == []


def test_the_table_moves_and_opens_rows_while_a_cell_blocks(lab: Lab) -> None:
    lab.page.start_cell(SLOW)
    lab.row("/slow").filter(has_text="suspend").first.wait_for()
    assert json.loads(lab.get("/items/7?token=abcdef")) == {"id": 7, "name": "lamp"}
    lab.row("/items/7").first.wait_for()  # it came to be, and was shown, while the cell waits
    assert int(lab.live.get_attribute("data-lag")) < 1250
    lab.row("/items/7").first.click()
    detail = lab.live.locator(".detail")
    detail.locator("svg").wait_for()
    said = detail.inner_text()
    for words in ("GET /items/7?token=***", "item on /items/{id}", '"name": "lamp"', "content-type: application/json"):
        assert words in said
    assert lab.live.locator(".way").inner_text() in ("clicks: control port", "clicks: subshell")
    lab.row("/slow").filter(has_text="suspend").first.click()
    detail.locator(".told", has_text="waits in").wait_for()
    lab.page.keep("live-light")
    lab.get("/go")
    lab.page.wait_for_end(SLOW)
    detail.locator("svg").wait_for()  # the one that was open is over, and has its waterfall
    assert "late" in lab.page.cell(SLOW).locator(".jp-OutputArea").inner_text()


def test_the_table_is_filtered_sorted_and_paused(lab: Lab) -> None:
    for number in (11, 12, 13):
        lab.get(f"/items/{number}")
    box = lab.live.locator("input.filter")
    box.fill("~u items/1 & ~c (")
    box.press("Enter")
    wrong = lab.live.locator(".wrong")
    wrong.wait_for()
    assert "column" in wrong.inner_text()
    box.fill("~u items/1")
    box.press("Enter")
    wrong.wait_for(state="hidden")
    rows = lab.live.locator(".space .row")
    lab.row("/items/7").or_(lab.row("/slow")).first.wait_for(state="detached")
    assert rows.count() == 3
    assert "/items/13" in rows.first.inner_text()
    lab.live.locator(".head .cell", has_text="id").click()
    assert "/items/11" in rows.first.inner_text()
    pause = lab.live.locator("[data-do=pause]")
    pause.click()
    lab.get("/items/14")
    lab.live.locator("[data-do=pause]", has_text="•").wait_for()
    assert rows.count() == 3
    pause.click()
    lab.row("/items/14").wait_for()
    box.fill("")
    box.press("Enter")
    lab.page.page.keyboard.type("ddx")  # commands of the notebook's, if it heard them
    assert lab.page.page.locator(".jp-Cell").count() == len(CELLS)
    box.fill("")
    box.press("Enter")


def test_a_request_is_stepped_by_clicks_while_its_cell_blocks(lab: Lab) -> None:
    lab.page.run(STEP)
    step = lab.page.page.locator(".coserver.step").last
    step.wait_for()
    assert step.locator("[data-do=next]").is_disabled()
    lab.page.start_cell(POST)
    held = lab.page.page.locator(".coserver.step[data-phase=handler]")
    held.wait_for()
    assert "POST /items?token=***" in step.locator(".what").inner_text()
    step.locator("[data-do=edit]").click()
    line = step.locator("input.filter")
    line.fill("nonsense")
    line.press("Enter")
    step.locator(".wrong", has_text="changes nothing").wait_for()
    line.fill("X-Tag:clicked")
    line.press("Enter")
    step.locator(".cos-changed", has_text="x-tag: clicked").wait_for()
    lab.page.keep("step-light")
    step.locator("[data-do=next]").click()
    lab.page.page.locator(".coserver.step[data-phase=response]").wait_for()
    step.locator(".cos-changed", has_text="200").wait_for()
    assert step.locator(".way").inner_text() in ("clicks: control port", "clicks: subshell")
    step.locator("[data-do=resume]").click()
    lab.page.wait_for_end(POST)
    said = lab.page.cell(POST).locator(".jp-OutputArea").inner_text()
    assert json.loads(said) == {"added": {"name": "kettle"}, "tag": "clicked"}


def test_a_request_is_stepped_while_the_kernel_is_idle(lab: Lab) -> None:
    lab.page.run(STEP)
    step = lab.page.page.locator(".coserver.step").last
    answers: list[bytes] = []

    def post() -> None:
        request = Request(f"http://127.0.0.1:{lab.port}/items", b"{}", {"content-type": "application/json"})
        with urlopen(request, timeout=PATIENCE) as response:
            answers.append(response.read())

    client = threading.Thread(target=post)
    client.start()
    lab.page.page.locator(".coserver.step[data-phase=handler]").wait_for()
    step.locator("[data-do=respond]").click()
    step.locator("input.filter").fill("200 'answered here'")
    step.locator("input.filter").press("Enter")
    client.join()
    assert answers == [b"answered here"]
    assert step.locator(".way").inner_text() in ("clicks: kernel", "clicks: subshell")
    step.locator("[data-do=close]").click()
    step.wait_for(state="detached")  # the frozen table is there instead
    assert "closed" in lab.page.cell(STEP).locator(".jp-OutputArea").inner_text()


def test_a_saved_notebook_shows_its_table_without_a_kernel(lab: Lab) -> None:
    lab.get("/items/21")
    lab.row("/items/21").wait_for()
    shown = lab.page.cell(LIVE).locator(".jp-RenderedHTML").last

    def frozen() -> bool:
        return "/items/21" in str(shown.evaluate("each => each.textContent"))  # what lies under the live one

    wait_until(frozen)
    lab.page.save()
    wait_until(lambda: "/items/21" in json.dumps(lab.page.saved("lab")["cells"][LIVE]))
    kept = lab.page.saved("lab")
    outputs = kept["cells"][LIVE]["outputs"]
    assert all("text/html" in one["data"] for one in outputs)
    kept["metadata"] = {}  # it names no kernel
    (lab.work / "kept.ipynb").write_text(json.dumps(kept))  # signed by nobody: its HTML is sanitized
    other = Page(lab.browser, lab.url, lab.work)
    other.open_file("kept")
    other.page.locator(".jp-Dialog .jp-mod-reject").click()  # "Select Kernel": none
    table = other.cell(LIVE).locator("table", has_text="/items/21")
    table.wait_for()
    assert table.is_visible()
    assert "Error" not in other.cell(LIVE).inner_text()
    assert "Loading" not in other.cell(LIVE).inner_text()
    table.scroll_into_view_if_needed()
    other.keep("saved")
    other.page.close()


def test_a_page_that_is_loaded_again_is_live_again(lab: Lab) -> None:
    lab.page.save()
    wait_until(lambda: lab.page.saved("lab")["cells"][LIVE]["outputs"])
    lab.page.page.reload()
    lab.live.wait_for()
    lab.get("/items/31")
    lab.row("/items/31").wait_for()


def test_a_server_that_stops_leaves_its_table(lab: Lab) -> None:
    lab.page.run(SHORT)
    output = lab.page.cell(SHORT).locator(".jp-OutputArea")
    output.locator(".coserver.live", has_text="short").wait_for()
    lab.page.run(STOP)
    output.locator(".coserver.live").wait_for(state="detached")
    output.get_by_text("short: stopped").wait_for()
    assert lab.live.is_visible()


def test_in_the_dark(lab: Lab) -> None:
    lab.page.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    lab.page.page.locator(".coserver.live.dark").wait_for()
    lab.page.page.evaluate("document.body.dataset.jpThemeLight = 'true'")
    lab.page.page.locator(".coserver.live:not(.dark)").wait_for()


def test_a_restarted_kernel_leaves_no_listener(lab: Lab) -> None:
    said = lab.page.run(PORTS).split()
    ports = [int(said[said.index("page_port") + 1]), lab.port]
    assert all(listens(port) for port in ports)
    with urlopen(f"{lab.url}/api/kernels?token={TOKEN}", timeout=PATIENCE) as response:
        (kernel,) = json.loads(response.read())
    restart = Request(
        f"{lab.url}/api/kernels/{kernel['id']}/restart", b"", {"Authorization": f"token {TOKEN}"}, method="POST"
    )
    urlopen(restart, timeout=PATIENCE).close()
    wait_until(lambda: not any(listens(port) for port in ports))
    lab.page.keep("restarted")
