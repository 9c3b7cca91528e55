"""A finished exchange in full: its waterfall, both heads, and both bodies as far as they were recorded.

``python -m coserver.views.exchange`` prints an example.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ..observe.text import unpack
from ..observe.trace.trace import Message, Trace
from . import waterfall
from .text import plain
from .traces import show_size

#: Lines and characters of a body that are shown: a screen or two.
_LINES, _LETTERS = 60, 6000
_TEXTS = ("text/", "application/json", "application/x-www-form-urlencoded", "application/xml", "application/javascript")


def render(trace: Trace) -> Group:
    return Group(*_parts(trace))


def _parts(trace: Trace) -> Iterator[RenderableType]:
    yield waterfall.render(trace)
    yield ""
    facts = [
        ("exchange", f"{trace.id} on connection {trace.connection}, {trace.src} → {trace.dst}"),
        ("server", f"{trace.server}, listener {trace.listener}"),
        ("at", datetime.fromtimestamp(trace.at).isoformat(" ", "milliseconds")),
        ("handler", f"{trace.handler} on {trace.route}" if trace.route else trace.handler),
        ("ended", "complete" if trace.phase == "recycle" else f"in phase {trace.phase}"),
        ("failed at", trace.place),
        ("skipped", f"{trace.skipped} steps, above the limit of one exchange" if trace.skipped else ""),
    ]
    for name, value in facts:
        if value:
            yield Text.assemble((f"{name:<10}", "bright_black"), plain(value))
    if trace.traceback:
        yield ""
        for each in trace.traceback.splitlines():
            style = "red" if not each.startswith(" ") else "yellow" if each.startswith('  File "') else ""
            yield Text(plain(each.replace("\t", "    ")), style)
    line = f"{trace.method} {trace.target} {trace.version}" if trace.method else "message"
    yield from message("→", line, trace.request)
    if trace.status or trace.response.body.size:
        yield from message("←", f"{trace.version} {trace.status}".strip() if trace.status else "answer", trace.response)


def message(arrow: str, line: str, message: Message) -> Iterator[RenderableType]:
    """A head and its body; the arrow shows their direction."""
    yield ""
    yield Text.assemble((f"{arrow} ", "bold cyan"), (plain(line), "bold"))
    for name, value in message.fields:
        yield Text.assemble((f"  {plain(name)}: ", "cyan"), plain(value))
    if message.body.size:
        yield ""
        yield from _body(message)


def _body(message: Message) -> Iterator[RenderableType]:
    body = message.body
    text = body_text(message)
    if text is None:
        kind = message.get("content-type") or "no type"
        yield Text(f"  {show_size(body.size)} of {plain(kind)}", "bright_black")
        return
    lines = text.splitlines()
    shown = lines[:_LINES]
    for one in shown:
        yield Text("  " + plain(one.replace("\t", "    ")))
    left = [f"{len(lines) - len(shown)} more lines"] if len(lines) > len(shown) else []
    if body.truncated:
        left.append(f"{show_size(body.size - len(body.content))} not kept")
    if left:
        yield Text(f"  … {', '.join(left)}", "bright_black")


def body_text(message: Message) -> str | None:
    """A body as text, decompressed, with JSON indented; None if it is not text."""
    content, _ = unpack(message.body.content, message.get("content-encoding").lower())
    kind = message.get("content-type").lower()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        if not (message.body.truncated and error.start > len(content) - 4):  # cut inside a character
            return None
        text = content[: error.start].decode()
    if kind and not kind.startswith(_TEXTS) and "json" not in kind and "xml" not in kind:
        return None
    if "json" in kind:
        try:
            text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            pass
    return text[:_LETTERS]


if __name__ == "__main__":
    from .samples import page

    Console().print(render(page()))
