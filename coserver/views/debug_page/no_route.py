"""The response to a request without a route, under ``debug``: the nearest route, what differs, and all routes."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from html import escape
from urllib.parse import unquote

from ...server.handler.request import Request
from ...server.handler.response import TEXT, Response
from ...server.router import CONVERTERS, Listed, Router
from .masks import Masks, cut
from .page import FIELDS, HTML, STYLE, prefers_html

#: Routes that are listed; characters of a path that are shown.
_ROUTES, _PATH = 200, 200
#: How similar a route must be to be named: two of five characters may differ.
_SIMILAR = 0.6


def no_route_page(request: Request, router: Router) -> Response:
    """A response with status 404: HTML if the client prefers it, else text."""
    rows = sorted(router.listed(), key=lambda row: row.path)
    masks = Masks(request)
    asked = f"{request.method} {cut(masks.text(request.path), _PATH)}"
    hint = masks.text(nearest(request.head.path, rows))
    html = prefers_html(request.headers.get("accept", ""))
    body = _as_html(asked, hint, rows) if html else _as_text(asked, hint, rows)
    encoded = body.encode("utf-8", "backslashreplace")
    return Response(encoded, 404, FIELDS, content_type=HTML if html else TEXT)


def nearest(path: str, rows: list[Listed]) -> str:
    """A sentence about the route that was probably meant, for a percent-encoded path; "" if none is similar."""
    segments = [unquote(segment) for segment in path[1:].split("/")]
    for row in rows:
        for sentence in _differences(segments, row):
            return sentence
    plain = "/" + "/".join(segments)
    close = max(rows, key=lambda row: _similarity(plain, _filled(row, segments)), default=None)
    if close is None or _similarity(plain, _filled(close, segments)) < _SIMILAR:
        return ""
    return f"The nearest is {close.path}."


def _differences(segments: list[str], row: Listed) -> Iterator[str]:
    """What one route differs in, if it is a single thing: a slash, the type of a parameter, capital letters."""
    if segments[-1] == "" and _fits(segments[:-1], row):
        yield f"{row.path} is a route, but the path has a '/' at its end."
    if row.segments[-1] == ("", None) and _fits([*segments, ""], row):
        yield f"{row.path} is a route, but the path has no '/' at its end."
    if len(segments) != len(row.segments):
        return
    wrong = [
        (given, name, kind)
        for given, (name, kind) in zip(segments, row.segments, strict=True)
        if not _fits_one(given, name, kind)
    ]
    if wrong and all(kind is not None for _, _, kind in wrong):
        given, name, kind = wrong[0]
        said = f"{cut(given, 60)!r} is no {kind}" if given else f"{name!r} is empty"
        yield f"{row.path} is a route, but {said}."
    elif wrong and all(kind is None and given.lower() == name.lower() for given, name, kind in wrong):
        yield f"{row.path} is a route, but capital letters differ."


def _fits(segments: list[str], row: Listed) -> bool:
    return len(segments) == len(row.segments) and all(
        _fits_one(given, name, kind) for given, (name, kind) in zip(segments, row.segments, strict=True)
    )


def _fits_one(given: str, name: str, kind: str | None) -> bool:
    return given == name if kind is None else bool(CONVERTERS[kind][0](given))


def _filled(row: Listed, segments: list[str]) -> str:
    """The route with the path's own segments in the places of its parameters."""
    filled = [
        name if kind is None else segments[at] if at < len(segments) else ""
        for at, (name, kind) in enumerate(row.segments)
    ]
    return "/" + "/".join(filled)


def _similarity(first: str, second: str) -> float:
    return SequenceMatcher(None, first[:_PATH], second[:_PATH]).ratio()


def _as_text(asked: str, hint: str, rows: list[Listed]) -> str:
    width = max((len(row.methods) for row in rows[:_ROUTES]), default=0)
    broad = max((len(row.path) for row in rows[:_ROUTES]), default=0)
    lines = ["404 Not Found, with the routes, because debug is on", "", f"No route answers {asked}."]
    lines += [hint] if hint else []
    lines += ["", "Routes:"] if rows else ["", "The app has no routes: add one with @app.get('/')"]
    lines += [f"  {row.methods:{width}}  {row.path:{broad}}  {row.handler}" for row in rows[:_ROUTES]]
    lines += [f"  ... and {len(rows) - _ROUTES} more"] if len(rows) > _ROUTES else []
    return "\n".join(lines) + "\n"


def _as_html(asked: str, hint: str, rows: list[Listed]) -> str:
    said = f'<pre class="message">{escape(hint)}</pre>' if hint else ""
    table = "".join(
        f"<tr><th>{escape(row.methods)}<td>{escape(row.path)}<td>{escape(row.handler)}" for row in rows[:_ROUTES]
    )
    more = f'<p class="gap">{len(rows) - _ROUTES} more</p>' if len(rows) > _ROUTES else ""
    none = "" if rows else "<p class=\"gap\">The app has no routes: add one with @app.get('/')</p>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>No route: {escape(asked)}</title><style>{STYLE}</style></head><body>
<header><p class="request">404 Not Found</p><h1>No route answers {escape(asked)}</h1>{said}
</header>
<main><h2>Routes</h2><div class="scroll"><table class="fields">{table}</table></div>{more}{none}</main>
<footer>coserver shows this page because debug is on. Turn debug off where strangers can send requests.</footer>
</body></html>
"""
