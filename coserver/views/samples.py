"""Example traces for the demos of views and for tests; always the same."""

from __future__ import annotations

from ..observe.trace.trace import Body, Message, Span, Trace

_ANSWER = b'{"user": {"id": 7, "name": "Ada"}, "orders": [11, 12]}'
JSON = (("content-type", "application/json"), ("content-length", "61"), ("date", "Tue, 24 Nov 2026 09:12:31 GMT"))
FIELDS = (
    ("host", "shop.example"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "application/json"),
    ("cookie", "sid=8f2b11; theme=dark"),
)


def _subrequest(name: str, upstream: str, start: float, steps: tuple[float, ...], detail: str) -> Span:
    names = ("wait", "connect", "send", "first byte", "body")
    children, at = [], start
    for step, length in zip(names, steps, strict=True):
        if length:
            children.append(Span(kind="step", name=step, start=at, end=at + length))
        at += length
    return Span(
        kind="subrequest", name=name, start=start, end=at, upstream=upstream, detail=detail, children=tuple(children)
    )


def page() -> Trace:
    """A page with three subrequests and two blocking calls."""
    spans = (
        Span(kind="request", name="", start=0.0, end=0.0004),
        Span(kind="handler", name="page", start=0.0004, end=0.1182),
        _subrequest("GET /u/7", "users", 0.0011, (0.0, 0.0012, 0.0002, 0.0228, 0.0007), "200 http://10.0.0.4:8080"),
        _subrequest("GET /orders?of=7", "orders", 0.0012, (0.0151, 0.0, 0.0002, 0.0392, 0.0041), "200 http://10.0.0.7"),
        _subrequest("GET /ads", "ads", 0.0013, (0.0, 0.0009, 0.0001, 0.0412, 0.0), "cancelled"),
        Span(kind="suspend", name="recv on 10.0.0.9:5432", start=0.0642, end=0.0907, detail="prices.py:41 in price"),
        Span(kind="suspend", name="sleep on 0.02 s", start=0.0951, end=0.1152, detail="page.py:18 in page"),
        Span(kind="response", name="", start=0.1189, end=0.1243),
    )  # fmt: skip
    return _trace(1042, "GET", "/page/7?lang=de", 200, 0.1243, spans=spans, handler="page", route="/page/{id}")


def failed() -> Trace:
    """An exchange whose handler raised."""
    spans = (
        Span(kind="request", name="", start=0.0, end=0.0121),
        Span(kind="handler", name="order", start=0.0122, end=0.0341, outcome="failed", detail="KeyError: 'price'"),
        Span(kind="response", name="", start=0.0343, end=0.0344),
    )
    return _trace(
        1043, "POST", "/orders?token=geheim", 500, 0.0344, spans=spans, handler="order", route="/orders",
        error="KeyError: 'price'", sent=b'{"item": 4711, "count": 2}', answered=b"500 Internal Server Error\n",
    )  # fmt: skip


def left() -> Trace:
    """An exchange whose client left."""
    spans = (
        Span(kind="request", name="", start=0.0, end=0.0003),
        Span(kind="handler", name="report", start=0.0003, end=2.4103, outcome="cancelled"),
    )
    return _trace(
        1044, "GET", "/report/2026", 0, 2.4103, spans=spans, handler="report", route="/report/{year}",
        phase="handler", error="the client left",
    )  # fmt: skip


def quick() -> Trace:
    """An exchange without suspensions or subrequests."""
    spans = (
        Span(kind="request", name="", start=0.0, end=0.000012),
        Span(kind="handler", name="index", start=0.000012, end=0.000031),
        Span(kind="response", name="", start=0.000049, end=0.000078),
    )
    return _trace(1045, "GET", "/", 200, 0.000078, spans=spans, handler="index", route="/", answered=b"ok")


def all_samples() -> list[Trace]:
    return [page(), failed(), left(), quick()]


def _trace(number: int, method: str, target: str, status: int, seconds: float, **more: object) -> Trace:
    sent, answered = more.pop("sent", b""), more.pop("answered", _ANSWER)
    assert isinstance(sent, bytes)
    assert isinstance(answered, bytes)
    answer = Message(unmasked=JSON, body=Body(content=answered, size=len(answered))) if status else Message()
    return Trace(
        id=number, connection=17, server="shop", listener="http", protocol="http", src="127.0.0.1:51234",
        dst="127.0.0.1:8000", at=1795511551.25 + number, seconds=seconds, method=method, raw_target=target,
        host="shop.example", version="HTTP/1.1", status=status, response=answer,
        request=Message(unmasked=FIELDS, body=Body(content=sent, size=len(sent))), **more,  # type: ignore[arg-type]
    )  # fmt: skip
