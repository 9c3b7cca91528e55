"""HAR files: ours hold against the schema and are read back whole; a browser's is read; nonsense is told its place."""

from __future__ import annotations

import gzip
import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from coserver import App, Response
from coserver.observe.export.chrome import to_chrome
from coserver.observe.export.har import to_har
from coserver.observe.export.har_reader import HarError, read_har
from coserver.observe.export.otel import to_otel
from coserver.observe.export.replay import ReplayError, as_curl
from coserver.observe.trace.trace import Trace
from coserver.views import exchange
from coserver.views.samples import all_samples, page
from coserver.views.svg.waterfall import waterfall_svg

from ...server.clients import chunked, get, post, talking
from ..trace.test_recorder import shop

SCHEMA = json.loads(Path(__file__).with_name("har-1.2.schema.json").read_text())
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def check(har: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(har)))


async def test_what_a_server_recorded_is_valid_and_read_back_whole() -> None:
    app = shop()

    @app.get("/packed")
    async def packed() -> Response:
        return Response(gzip.compress(b"hello " * 100), content_type="text/plain", headers={"Content-Encoding": "gzip"})

    @app.get("/picture")
    async def picture() -> Response:
        return Response(b"\x89PNG\xff", content_type="image/png")

    async with talking(app, record=True) as (server, client):
        await client.ask(get("/items/1?a=1&b=%20x&token=abc", "Cookie: sid=12345; t=1", "Authorization: Bearer abc"))
        await client.ask(post("/echo", b'{"a": 1}', "Content-Type: application/json"))
        await client.ask(post("/echo", b"\xff\x00binary"))
        await client.ask(chunked("/stream", b"abc", b"def"))
        await client.ask(get("/packed"))
        await client.ask(get("/picture"))
        await client.ask(get("/big"))
        await client.ask(get("/boom"))
        await client.ask(get("/secret"))
        await client.ask(get("/"), "GET")
        har = server.traces.har()
        check(har)
        text = json.dumps(har)
        assert "abc" not in text.replace("abcdef", "").replace("ABCDEF", "")
        assert "12345" not in text
        entries = {entry["request"]["url"].partition("example")[2]: entry for entry in har["log"]["entries"]}
        assert entries["/packed"]["response"]["content"]["text"] == "hello " * 100
        assert entries["/picture"]["response"]["content"]["encoding"] == "base64"
        assert "the first 65536 of 300000" in entries["/big"]["response"]["content"]["comment"]
        assert entries["/boom"]["comment"] == "ValueError: no such thing"
        query = entries["/items/1?a=1&b=%20x&token=***"]["request"]["queryString"]
        assert query == [{"name": "a", "value": "1"}, {"name": "b", "value": " x"}, {"name": "token", "value": "***"}]
        bare = json.dumps(server.traces.har("~u items", secrets=True))
        assert "Bearer abc" in bare
        assert "12345" in bare
        for before, after in zip(server.traces, read_har(json.dumps(server.traces.har(secrets=True))), strict=True):
            same(before, after)
        assert server.traces.har("~m DELETE")["log"]["entries"] == []


def same(before: Trace, after: Trace) -> None:
    for name in ("id", "connection", "server", "src", "dst", "seconds", "method", "url", "status", "handler", "route",
                 "phase", "error", "version"):  # fmt: skip
        assert getattr(before, name) == getattr(after, name), name
    assert [span.kind for span in before.walk()] == [span.kind for span in after.walk()]
    assert before.request == after.request
    assert before.response.unmasked == after.response.unmasked
    assert abs(before.at - after.at) < 1e-3
    if before.response.get("content-encoding") != "gzip":
        assert before.response.body == after.response.body


def test_every_sample_is_valid() -> None:
    har = to_har(all_samples())
    check(har)
    assert [entry["response"]["status"] for entry in har["log"]["entries"]] == [200, 500, 0, 200]
    timings = har["log"]["entries"][0]["timings"]
    assert timings["send"] + timings["wait"] + timings["receive"] == pytest.approx(124.3)


def test_the_schema_finds_what_is_wrong() -> None:
    har = to_har([page()])
    del har["log"]["entries"][0]["timings"]["wait"]
    with pytest.raises(jsonschema.ValidationError, match="wait"):
        check(har)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_one_that_chromium_has_written(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    app = App(name="shop")

    @app.get("/")
    async def index() -> Response:
        script = "fetch('/data', {method: 'POST', body: '{\"a\": 1}'}).then(read)"
        script = f"const read = answer => answer.text().then(() => document.title = answer.status); {script}"
        page = f"<link rel=icon href=/icon.png><h1>hello</h1><script>{script}</script>"
        return Response(page, content_type="text/html")

    @app.post("/data")
    async def data() -> dict[str, int]:
        return {"b": 2}

    @app.get("/icon.png")
    async def icon() -> Response:
        return Response(b"\x89PNG\r\n\x1a\n\xff", content_type="image/png")

    path = tmp_path / "chromium.har"
    with app.start() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_context(record_har_path=path)
        opened = tab.new_page()
        opened.goto(server.url)
        opened.wait_for_function("document.title === '200'")
        tab.close()
        browser.close()
    traces = read_har(path.read_bytes())
    by_path = {trace.target: trace for trace in traces}
    assert by_path["/"].status == 200
    assert b"<h1>hello</h1>" in by_path["/"].response.body.content
    assert (by_path["/data"].method, by_path["/data"].request.body.content) == ("POST", b'{"a": 1}')
    assert by_path["/data"].response.body.content == b'{"b":2}'
    assert {span.name for span in by_path["/"].spans} & {"wait", "receive"}
    assert all(0 <= span.start <= span.end <= trace.seconds for trace in traces for span in trace.spans)
    assert waterfall_svg(by_path["/"]).startswith("<svg")
    check(to_har(traces))


def entry(**changes: Any) -> dict[str, Any]:
    har = to_har([page()])
    har["log"]["entries"][0].update(changes)
    return har


@pytest.mark.parametrize(
    ("har", "says"),
    [
        ("", "this is not"),
        ("[]", "a HAR must be an object; got list"),
        ("{}", "log is missing"),
        ('{"log": 3}', "log must be an object; got int"),
        ('{"log": {}}', "log.entries must be a list; got NoneType"),
        ('{"log": {"entries": [3]}}', r"log.entries\[0\] must be an object"),
        ('{"log": {"entries": [{}]}}', r"log.entries\[0\].request is missing"),
        (
            entry(startedDateTime="yesterday"),
            r"entries\[0\].startedDateTime must be a date of ISO 8601; got 'yesterday'",
        ),
        (entry(startedDateTime=3), "startedDateTime must be a text; got int"),
        (entry(time="long"), "time must be a number, 1e.15 at most; got 'long'"),
        (entry(time=float("nan")), "time must be a number"),
        (entry(request={"method": 3, "url": "http://x/"}), "method must be a text"),
        (entry(request={"method": "GET"}), "url must be a text; got NoneType"),
        (entry(request={"method": "GET", "url": "http://[/"}), "url must be a URL"),
        (entry(request={"method": "GET", "url": "http://x/", "headers": [{"name": 1}]}), r"headers\[0\].name must be"),
        (entry(response={"content": {"text": "?", "encoding": "base64"}}), "content.text must be base64"),
        (entry(startedDateTime="0001-01-01T00:00:00+23:59"), "startedDateTime must be a date"),
        (entry(time=10**400), "time must be a number, 1e.15 at most"),
        (entry(response={"status": 10_000}), "response.status must have three digits"),
        (entry(_coserver={"seconds": 1e300}), "seconds must be a number, 1e.15 at most"),
        (entry(_coserver={"spans": [{"kind": "handler", "start": 2, "end": 1}]}), r"spans\[0\].end must not be before"),
        (b"\xff", "this is not"),
    ],
)
def test_what_is_none_is_told_where(har: Any, says: str) -> None:
    with pytest.raises(HarError, match=says):
        read_har(har)


def test_what_is_unknown_or_missing_is_passed_over() -> None:
    minimal = {"startedDateTime": "2026-11-24T10:00:00Z", "request": {"method": "GET", "url": "https://x.example/a?b"},
               "response": {"status": 200}, "_more": [1]}  # fmt: skip
    (trace,) = read_har(b"\xef\xbb\xbf" + json.dumps({"log": {"entries": [minimal]}, "x": 1}).encode())
    assert (trace.url, trace.status, trace.spans, trace.host) == ("https://x.example/a?b", 200, (), "x.example")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "url", "text"]), inner),
    max_leaves=5,
)


@settings(deadline=None)  # a busy machine
@given(st.data())
def test_nothing_but_a_har_error_is_raised(data: st.DataObject) -> None:
    har = to_har([page()])
    place: Any = har
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        if data.draw(st.booleans()) or not isinstance(place[key], dict | list):
            place[key] = data.draw(JSON)
            break
        place = place[key]
    try:
        traces = read_har(har)
    except HarError:
        return
    for trace in traces:
        waterfall_svg(trace)
        console = Console(file=StringIO(), width=80)
        console.print(exchange.render(trace))
        json.dumps([to_har([trace]), to_chrome([trace])], allow_nan=False)
        to_otel([trace])
        try:
            as_curl(trace)
        except ReplayError:
            pass
