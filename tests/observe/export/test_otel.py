"""Traces as OpenTelemetry spans."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from coserver.observe.export.otel import to_otel
from coserver.observe.trace.trace import FAILED, SUBREQUEST, Span
from coserver.views.samples import page

from ...server.clients import get, talking
from ..trace.test_recorder import shop


def _exported(traces: Any) -> list[Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    assert to_otel(traces, provider) == len(traces)
    provider.shutdown()
    return list(exporter.get_finished_spans())


def test_opentelemetry_spans() -> None:
    spans = {span.name: span for span in _exported([page()])}
    root = spans["GET /page/{id}"]
    assert root.kind.name == "SERVER"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["url.path"] == "/page/7"
    assert root.attributes["http.route"] == "/page/{id}"
    assert root.end_time - root.start_time == round(page().seconds * 1e9)
    sub = spans["users GET /u/7"]
    assert sub.kind.name == "CLIENT"
    assert sub.parent.span_id == root.context.span_id
    assert (sub.attributes["http.response.status_code"], sub.status.status_code.name) == (200, "UNSET")
    assert spans["first byte"].context.trace_id == root.context.trace_id
    assert root.start_time <= sub.start_time <= sub.end_time <= root.end_time


def test_what_an_upstream_did_not_do_is_an_error_of_its_span() -> None:
    spans = (
        Span(kind=SUBREQUEST, name="GET /a", start=0, end=0.1, upstream="users", detail="503 127.0.0.1:80"),
        Span(kind=SUBREQUEST, name="GET /b", start=0, end=0.1, upstream="users", outcome=FAILED, detail="Gone: no"),
    )
    found = {span.name: span for span in _exported([replace(page(), spans=spans)])}
    for name, kind in (("users GET /a", "503"), ("users GET /b", "Gone")):
        assert (found[name].status.status_code.name, found[name].attributes["error.type"]) == ("ERROR", kind)
    assert found["GET /page/{id}"].status.status_code.name == "UNSET"


async def test_a_traceparent_is_carried_on_and_an_error_is_one() -> None:
    async with talking(shop(), record=True) as (server, client):
        await client.ask(get("/boom", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        spans = _exported(list(server.traces))
        root = next(span for span in spans if span.kind.name == "SERVER")
        assert f"{root.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
        assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
        assert root.status.status_code.name == "ERROR"
        assert root.attributes["error.type"] == "ValueError"


def test_without_the_sdk_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(RuntimeError, match=r"pip install 'coserver\[otel\]'"):
        to_otel([page()])
