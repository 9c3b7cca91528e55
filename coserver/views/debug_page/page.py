"""The response to a request whose handler raised, under ``debug``: traceback, variables, request.

Browsers get a page without scripts or external files, in their light or dark theme; other clients get plain text.
``python -m coserver.views.debug_page.page > page.html`` writes an example.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from ...server.handler.request import Request
from ...server.handler.response import TEXT, Response
from .masks import MASK, VALUE_SIZE, Masks, cut, is_secret
from .traceback import FIRST, Failure, Frame, read

HTML = "text/html; charset=utf-8"
FIELDS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
#: The sentences between two chained exceptions, as Python has them.
_CAUSED = "The above exception was the direct cause of the following exception:"
_DURING = "During handling of the above exception, another exception occurred:"
STYLE = (Path(__file__).parent / "page.css").read_text()


def debug_page(request: Request, error: BaseException) -> Response:
    """A response with status 500 for the exception ``error``: HTML if the client prefers it, else text.

    Values whose names look like secrets are masked. It calls ``repr`` on the user's variables, and catches exceptions.
    """
    masks = Masks(request)
    chain = read(error, masks)
    html = prefers_html(request.headers.get("accept", ""))
    body = as_html(request, chain, masks) if html else as_text(request, chain, masks)
    encoded = body.encode("utf-8", "backslashreplace")  # a message may have lone surrogates
    return Response(encoded, 500, FIELDS, content_type=HTML if html else TEXT)


def prefers_html(accept: str) -> bool:
    """Whether an Accept field prefers HTML to plain text (RFC 9110 §12.5.1). ``*/*`` alone is curl's: false."""
    quality = {"text/html": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        if kind in quality:
            weight = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
            quality[kind] = float(weight) if weight.replace(".", "", 1).isdecimal() else 0.0
    return quality["text/html"] > 0 and quality["text/html"] >= quality["text/plain"]


# As text.


def as_text(request: Request, chain: list[Failure], masks: Masks) -> str:
    """The request, then tracebacks as Python prints them. The last error is last, next to the terminal's prompt."""
    lines = [f"500 Internal Server Error, shown because debug is on\n\n{_request_line(request, masks)}"]
    lines += [f"  {name}: {value}" for name, value in _fields(request, masks)]
    return "\n".join([*lines, "", *_chain_text(chain)]) + "\n"


def _chain_text(chain: list[Failure], indent: str = "") -> Iterator[str]:
    for at in range(len(chain) - 1, -1, -1):
        for line in _failure_text(chain[at]):
            yield indent + line
        if at:
            caused = chain[at].relation == "caused by"
            yield f"{indent}\n{indent}{_CAUSED if caused else _DURING}\n{indent}"


def _failure_text(failure: Failure) -> Iterator[str]:
    if failure.frames:
        yield "Traceback (most recent call last):"
    for at, frame in enumerate(failure.frames):
        if failure.left_out and at == FIRST:
            yield f"  ... {failure.left_out} more frames ..."
        yield f'{"> " if frame.own else "  "}File "{frame.file}", line {frame.line}, in {frame.function}'
        yield from (f"    {line.text.strip()}" for line in frame.source if line.here)
        if frame is _innermost_own(failure):
            yield from (f"      {name} = {cut(' '.join(value.split()), 300)}" for name, value in frame.variables)
    yield f"{failure.kind}: {failure.message}" if failure.message else failure.kind
    yield from failure.notes
    for number, member in enumerate(failure.members, 1):
        yield f"  +- {number}"
        yield from _chain_text(member, "  |  ")
    if failure.more_members:
        yield f"  +- {failure.more_members} more"


def _innermost_own(failure: Failure) -> Frame | None:
    return next((frame for frame in reversed(failure.frames) if frame.own), None)


# As HTML. All text goes through escape.


def as_html(request: Request, chain: list[Failure], masks: Masks) -> str:
    """The request and its tracebacks as HTML. The last error is first, at the top of the page."""
    first = chain[0]
    fields = "".join(f"<tr><th>{escape(n)}<td>{escape(v)}" for n, v in _fields(request, masks))
    line = escape(_request_line(request, masks))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(first.kind)} at {escape(cut(masks.text(request.path), 80))}</title><style>{STYLE}</style></head><body>
<header><p class="request">{line}</p><h1>{escape(first.kind)}</h1><pre class="message">{escape(first.message)}</pre>
</header>
<main>{_chain_html(chain, top=True)}
<h2>Request</h2><p class="line">{line} from {escape(request.peer)}</p>
<div class="scroll"><table class="fields">{fields}</table></div></main>
<footer>coserver shows this page because debug is on. Turn debug off where strangers can send requests.</footer>
</body></html>
"""


def _chain_html(chain: list[Failure], *, top: bool = False) -> str:
    return "".join(_failure_html(one, titled=not (top and at == 0)) for at, one in enumerate(chain))


def _failure_html(failure: Failure, *, titled: bool) -> str:
    parts = ["<section>"]
    if titled:
        relation = f'<span class="relation">{failure.relation}</span> ' if failure.relation else ""
        message = f'<pre class="message">{escape(failure.message)}</pre>' if failure.message else ""
        parts.append(f"<h2>{relation}{escape(failure.kind)}</h2>{message}")
    parts += [f'<pre class="note">{escape(note)}</pre>' for note in failure.notes]
    innermost = _innermost_own(failure) or (failure.frames[-1] if failure.frames else None)
    for at, frame in enumerate(failure.frames):
        if failure.left_out and at == FIRST:
            parts.append(f'<p class="gap">{failure.left_out} more frames are left out</p>')
        parts.append(_frame_html(frame, opened=frame is innermost))
    for number, member in enumerate(failure.members, 1):
        parts.append(f'<div class="member"><p class="gap">{number}</p>{_chain_html(member)}</div>')
    if failure.more_members:
        parts.append(f'<p class="gap">{failure.more_members} more in this group</p>')
    return "".join([*parts, "</section>"])


def _frame_html(frame: Frame, *, opened: bool) -> str:
    folder, slash, name = frame.file.rpartition("/")
    place = f'<span class="folder">{escape(folder + slash)}</span>{escape(name)}:{frame.line}'
    function = f'<code class="function">{escape(frame.function)}</code>'
    head = f'<summary>{function} <span class="place">{place}</span></summary>'
    variables = "".join(f"<tr><th>{escape(name)}<td><pre>{escape(value)}</pre>" for name, value in frame.variables)
    table = f'<div class="scroll"><table class="variables">{variables}</table></div>' if variables else ""
    kind = "own" if frame.own else "other"
    return f'<details class="{kind}"{" open" * opened}>{head}{_source_html(frame)}{table}</details>'


def _source_html(frame: Frame) -> str:
    if not frame.source:
        return '<p class="gap">its source is not available</p>'
    console = Console(file=StringIO(), color_system="truecolor", force_terminal=True)
    code = "\n".join(line.text for line in frame.source)
    highlighted = Syntax("", "python", theme="ansi_dark").highlight(code).split("\n", allow_blank=True)
    rows = []
    for at, line in enumerate(frame.source):
        text = _spans(highlighted[at], console) if at < len(highlighted) else escape(line.text)
        rows.append(f'<div class="{"here" if line.here else "near"}"><i>{line.number}</i>{text or " "}</div>')
    return f'<pre class="source">{"".join(rows)}</pre>'


def _spans(line: Text, console: Console) -> str:
    """Coloured text, with classes for colours; the style sheet sets them for the light and the dark theme."""
    shown = []
    for text, style, _ in line.render(console):
        number = style.color.number if style is not None and style.color is not None else None
        faint = style is not None and style.dim
        names = " ".join([*([f"c{number}"] if number is not None else []), *(["faint"] if faint else [])])
        shown.append(f'<span class="{names}">{escape(text)}</span>' if names else escape(text))
    return "".join(shown)


# The request.


def _request_line(request: Request, masks: Masks) -> str:
    return cut(masks.text(f"{request.method} {request.target} HTTP/{request.http_version}"), VALUE_SIZE)


def _fields(request: Request, masks: Masks) -> Iterator[tuple[str, str]]:
    for name, value in request.head.fields:
        shown = name.decode("latin-1")
        yield shown, MASK if is_secret(shown) else cut(masks.text(value.decode("latin-1")), VALUE_SIZE)


def _example() -> str:
    """An example page."""
    from ...protocol.head import RequestHead

    fields = [(b"host", b"localhost:8000"), (b"accept", b"text/html"), (b"cookie", b"session=a2f40e81bc")]
    head = RequestHead("GET", b"/items/9?token=3f9c2a1b77&page=2", 1, fields)
    request = Request(head, 1, "127.0.0.1:50312", {"id": 9})
    masks = Masks(request)
    stock = {1: "lamp", 2: "kettle"}
    try:
        return f"it is there: {stock[request.params['id']]}"
    except KeyError as error:
        return as_html(request, read(error, masks), masks)


if __name__ == "__main__":
    print(_example())
