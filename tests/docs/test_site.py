"""The site as it is built: without a warning, whole, light enough, and found to work by a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: A page with everything that comes with it, in bytes.
WEIGHT = 1_500_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def build(configuration: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(configuration), "-d", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_it_asks_nothing_of_other_sites(site: Path) -> None:
    for page in [*site.rglob("*.html"), *site.rglob("*.css")]:
        asked = re.findall(r"""(?:<(?:script|img|link|iframe)[^>]+(?:src|href)=|url\()["']?(https?://[^"')>]+)""",
                           page.read_text())  # fmt: skip
        assert asked == [], page


def test_every_mark_was_filled(site: Path) -> None:
    events = (site / "reference/events.html").read_text()
    assert "ResponseCancelled" in events
    assert "<svg" in events
    assert "--head-timeout" in (site / "reference/cli.html").read_text()
    assert not any(re.search(r"<p>\{\{", page.read_text()) for page in site.rglob("*.html"))


def test_a_function_with_the_name_of_a_module(site: Path) -> None:
    """``coserver.hooks.install`` is a function, and a module that nobody should see."""
    reference = "".join(page.read_text() for page in (site / "reference/api").rglob("*.html"))
    for name in ("install", "offload"):
        assert f'id="coserver.hooks.{name}"' in reference
        assert f'id="coserver.hooks.{name}.' not in reference


#: The last one's page is the reference, in which everybody else is missing.
WRONG = {
    "[nowhere](no-such-page.md)": "index.md",
    "[nowhere](index.md#no-such-anchor)": "index.md",
    "::: coserver.Nobody": "index.md",
    "::: coserver.App": "reference/api/coserver.md",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_fails_the_build(wrong: str, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    text = (ROOT / "mkdocs.yml").read_text()
    head, nav = text.split("nav:\n")
    assert nav
    (tmp_path / "docs/reference/api").mkdir(parents=True)
    (tmp_path / "docs/index.md").write_text("# Here\n")
    (tmp_path / "docs" / WRONG[wrong]).write_text(f"# Here\n\n{wrong}\n")
    head = head.replace("docs/site/", f"{ROOT}/docs/site/").replace("extra_css: [assets/style.css]\n", "")
    (tmp_path / "mkdocs.yml").write_text(head.replace("[., cli]", f"[{ROOT}]"))
    assert build(tmp_path / "mkdocs.yml", tmp_path / "site").returncode != 0


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


#: One of each kind, and those with drawings, pictures or wide tables.
PAGES = ("/", "/tour.html", "/tutorials/01_first_server.html", "/guide/stepping.html", "/reference/api/",
         "/reference/api/coserver.html", "/reference/api/handlers.html", "/reference/api/upstream.html",
         "/reference/api/hooks.html", "/reference/api/observe.html", "/reference/api/control.html",
         "/reference/api/testing.html", "/reference/glossary.html", "/reference/events.html", "/explanation/life.html",
         "/explanation/comparison.html")  # fmt: skip
#: Of these, whatever has colours of its own.
DRAWN = ("/", "/tutorials/01_first_server.html", "/explanation/life.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1400])
def test_a_page_fits_and_is_light(browser: Any, address: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    weight: list[int] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda response: weight.append(len(response.body())))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for path in PAGES if scheme == "light" else DRAWN:
        asked.clear()
        weight.clear()
        page.goto(address + path, wait_until="load")
        assert all(url.startswith((address, "data:")) for url in asked)
        assert sum(weight) < WEIGHT, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} is wider than the window"
        keep(page, f"{path.strip('/').removesuffix('.html').replace('/', '-') or 'index'}-{width}-{scheme}")
    assert wrong == []
    page.close()


def keep(page: Any, name: str) -> None:
    """Screenshots are kept where SCREENSHOTS names a folder: to be looked at."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"site-{name}.png"))


def test_a_reader_finds_their_way(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(address, wait_until="networkidle")
    kinds = page.eval_on_selector_all("nav a.md-tabs__link", "all => all.map(each => each.href)")
    assert len(kinds) == 5
    seen = set()
    for kind in kinds:
        page.goto(kind, wait_until="domcontentloaded")
        assert page.locator("article h1").first.inner_text()
        links = page.eval_on_selector_all("nav a.md-nav__link", "all => all.map(each => each.href)")
        seen |= {link for link in links if "#" not in link}
    for link in seen:
        answer = page.request.get(link)
        assert (answer.status, "<h1" in answer.text()) == (200, True), link
    assert len(seen) > 50
    page.locator("input[name=query]").click()
    page.keyboard.type("PROXY header", delay=10)
    page.locator(".md-search-result__item a").first.wait_for()
    page.locator(".md-search-result__item a").first.click()
    page.wait_for_url("**/deploying.html**")
    page.close()


def test_it_works_without_a_server(browser: Any, site: Path) -> None:
    """Opened as a file, as README says: its links lead to pages, and its search finds them."""
    for page in site.rglob("*.html"):
        for link in re.findall(r'<a [^>]*href="([^":#?]*)[^":]*"', page.read_text()) if page.name != "404.html" else ():
            assert not link or (page.parent / link).resolve().is_file(), f"{page}: {link}"
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(f"{site.as_uri()}/index.html")
    page.get_by_role("link", name="Take the tour").click()
    page.wait_for_url("file://**/tour.html")
    page.locator("input[name=query]").click()
    page.keyboard.type("PROXY header", delay=10)
    page.locator(".md-search-result__item a").first.click()
    page.wait_for_url("file://**/deploying.html**")
    page.close()


def test_the_reference_has_no_private_names(site: Path) -> None:
    for page in (site / "reference/api").glob("*.html"):
        assert re.findall(r'id="coserver\.[\w.]*\._\w+"', page.read_text()) == [], page
