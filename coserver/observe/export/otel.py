"""Traces as OpenTelemetry spans, by the official SDK: a server span for each exchange, and its steps as inner spans.

The request's ``traceparent`` gives the parent span. Attributes are those of the stable HTTP conventions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..trace.trace import FAILED, REQUEST, STEP, SUBREQUEST, Span, Trace

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider


def to_otel(traces: Iterable[Trace], provider: TracerProvider | None = None) -> int:
    """Make spans of the HTTP exchanges in ``traces``, by ``provider`` or the global one; return how many they are.

    Raises RuntimeError without the SDK.
    """
    try:
        import opentelemetry.sdk.trace  # noqa: F401 - with the API alone, spans would be dropped
        from opentelemetry import trace as api
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        raise RuntimeError("OpenTelemetry's SDK is not installed; pip install 'coserver[otel]'") from None
    tracer = (provider or api.get_tracer_provider()).get_tracer("coserver")
    count = 0
    for one in traces:
        if one.protocol == "http":
            carrier = {name.lower(): value for name, value in one.request.unmasked}
            _exchange(tracer, one, TraceContextTextMapPropagator().extract(carrier))
            count += 1
    return count


def _exchange(tracer: Tracer, trace: Trace, parent: Any) -> None:
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

    name = f"{trace.method} {trace.route}".strip() or "HTTP"
    start = round(trace.at * 1e9)
    span = tracer.start_span(name, parent, SpanKind.SERVER, _attributes(trace), start_time=start)
    if trace.error or trace.status >= 500:
        span.set_status(Status(StatusCode.ERROR, trace.error or None))
    inside = set_span_in_context(span)
    for one in trace.spans:
        if one.kind != REQUEST or one.seconds:
            _inner(tracer, one, inside, start)
    span.end(start + round(trace.seconds * 1e9))


def _inner(tracer: Tracer, span: Span, parent: Any, origin: int) -> None:
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

    kind = SpanKind.CLIENT if span.kind == SUBREQUEST else SpanKind.INTERNAL
    name = f"{span.upstream} {span.name}".strip() if span.kind in (SUBREQUEST, STEP) else f"{span.kind} {span.name}"
    told: dict[str, Any] = {
        "coserver.kind": span.kind, "coserver.outcome": span.outcome, "coserver.detail": span.detail,
    }  # fmt: skip
    if span.upstream:
        told["coserver.upstream"] = span.upstream
        told["http.request.method"] = span.name.partition(" ")[0]
        status = span.detail.partition(" ")[0]
        told["http.response.status_code"] = code = int(status) if len(status) == 3 and status.isdecimal() else 0
        told["error.type"] = status if code >= 400 else span.detail.partition(":")[0] if span.outcome == FAILED else ""
    attributes = {key: value for key, value in told.items() if value}
    made = tracer.start_span(name.strip(), parent, kind, attributes, start_time=origin + round(span.start * 1e9))
    # The conventions call a 4xx an error of a client's span.
    if span.outcome == FAILED or told.get("http.response.status_code", 0) >= 400:
        made.set_status(Status(StatusCode.ERROR, span.detail or None))
    inside = set_span_in_context(made)
    for child in span.children:
        _inner(tracer, child, inside, origin)
    made.end(origin + round(span.end * 1e9))


def _attributes(trace: Trace) -> dict[str, Any]:
    path, _, query = trace.target.partition("?")
    host = urlsplit(f"//{trace.host}")
    client, _, port = trace.src.rpartition(":")
    found = {
        "http.request.method": trace.method,
        "url.scheme": "https" if trace.secure else "http",
        "url.path": path,
        "url.query": query,
        "http.route": trace.route,
        "http.response.status_code": trace.status,
        "http.request.body.size": trace.request.body.size,
        "http.response.body.size": trace.response.body.size,
        "network.protocol.version": trace.version.removeprefix("HTTP/"),
        "user_agent.original": trace.request.get("user-agent"),
        "server.address": host.hostname or "",
        "client.address": client.strip("[]") or trace.src,
        "client.port": int(port) if port.isdigit() else 0,
        "error.type": trace.error.partition(":")[0] or (str(trace.status) if trace.status >= 500 else ""),
        "service.name": trace.server,
        "coserver.exchange": trace.id,
        "coserver.handler": trace.handler,
    }
    return {key: value for key, value in found.items() if value not in ("", 0)}
