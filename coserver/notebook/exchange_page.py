"""One exchange as HTML, for the live table and the stepper: heads, bodies, suspension, subrequests.

All text from clients is escaped, secrets are masked, and there are no scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from html import escape
from typing import Any

from ..control.wire_format import content_of
from ..observe.secrets import mask_fields, mask_target
from ..observe.snapshot.snapshot import ExchangeState, SubrequestState
from ..observe.trace.trace import Body, Message, Trace
from ..observe.trace.underway import so_far
from ..views.exchange import body_text
from ..views.svg.waterfall import waterfall_svg
from ..views.text import plain
from ..views.traces import show_size


def trace_html(trace: Trace) -> str:
    """A finished exchange, with its waterfall."""
    line = f"{trace.method} {trace.target} {trace.version}" if trace.method else "message"
    answer = f"{trace.version} {trace.status}".strip() if trace.status else "answer"
    facts = [
        ("exchange", f"{trace.id} on connection {trace.connection}, {trace.src} → {trace.dst}"),
        ("at", datetime.fromtimestamp(trace.at).isoformat(" ", "milliseconds")),
        ("handler", f"{trace.handler} on {trace.route}" if trace.route else trace.handler),
        ("ended", "" if trace.phase == "recycle" else f"in phase {trace.phase}"),
        ("error", trace.error),
    ]
    parts = [f'<div class="cos-drawing">{waterfall_svg(trace)}</div>', facts_html(facts)]
    parts.append(message_html("→", line, trace.request))
    if trace.status or trace.response.body.size:
        parts.append(message_html("←", answer, trace.response))
    return "\n".join(parts)


def growing_html(one: ExchangeState) -> str:
    """The waterfall of a running exchange, up to now."""
    return f'<div class="cos-drawing">{waterfall_svg(so_far(one))}</div>'


def exchange_html(one: ExchangeState) -> str:
    """A running exchange, without times: the text changes only with events of the exchange."""
    waits = one.suspended
    facts = [
        ("exchange", f"{one.id} on connection {one.connection}, {one.src} → {one.dst}"),
        ("handler", f"{one.handler} on {one.route}" if one.route else one.handler),
        ("phase", f"{one.phase}{', held by a stepper' if one.held else ''}"),
        ("waits in", f"{waits.call} {waits.on} {waits.place}".strip() if waits else ""),
    ]
    parts = [facts_html(facts)]
    if one.subrequests:
        parts.append(subrequests_html(one.subrequests))
    line = f"{one.method} {mask_target(one.target)}" if one.method else "message"
    parts.append(message_html("→", line, _message(one.request_lines(), one.request_content(), one.request_size)))
    if one.status:
        answer = _message(one.response_lines(), one.response_content(), one.response_size)
        parts.append(message_html("←", str(one.status), answer))
    return "\n".join(parts)


def subrequests_html(given: Iterable[SubrequestState]) -> str:
    """The subrequests of an exchange, a row each, with secrets in targets masked."""
    rows = "".join(
        f"<tr><td>{_said(one.upstream)}</td><td>{_said(one.method)} {_said(mask_target(one.target))}</td>"
        f"<td>{_said(one.state)}</td><td>{one.status or ''}</td><td>{_said(one.member)}</td></tr>"
        for one in given
    )
    return f'<table class="cos-facts"><tr><th colspan="5">subrequests</th></tr>{rows}</table>'


def facts_html(facts: Iterable[tuple[str, str]], changed: frozenset[str] = frozenset()) -> str:
    """Names and values, without empty values; names in ``changed`` are marked."""
    rows = "".join(
        f"<tr{_marked(name in changed)}><th>{name}</th><td>{_said(value)}</td></tr>" for name, value in facts if value
    )
    return f'<table class="cos-facts">{rows}</table>'


def message_html(arrow: str, line: str, message: Message, changed: frozenset[str] = frozenset()) -> str:
    """A head and a body. ``changed`` has "line", "body" and names of fields."""
    rows = "".join(
        f"<div{_marked(name.lower() in changed)}><b>{_said(name)}:</b> {_said(value)}</div>"
        for name, value in message.fields
    )
    body = ""
    if message.body.size:
        body = f"<pre{_marked('body' in changed)}>{_body(message)}</pre>"
    head = f"<summary{_marked('line' in changed)}>{arrow} {_said(line)}</summary>"
    return f'<details class="cos-message" open>{head}{rows}{body}</details>'


def held_message(given: Mapping[str, Any]) -> Message:
    """The request or the response of ``Held.as_dict``, masked."""
    body = given["body"] or {"size": 0}
    pairs = mask_fields(tuple((name, value) for name, value in given["headers"]))
    return Message(unmasked=pairs, body=Body(content=content_of(body), size=body["size"]))


def _body(message: Message) -> str:
    text = body_text(message)
    if text is None:
        return escape(f"{show_size(message.body.size)} of {plain(message.get('content-type') or 'no type')}")
    said = "\n".join([plain(line.replace("\t", "    ")) for line in text.splitlines()])
    left = message.body.size - len(message.body.content)
    return escape(said) + (f"\n<i>… {show_size(left)} not kept</i>" if left > 0 else "")


def _message(lines: Iterable[str], content: bytes, size: int) -> Message:
    pairs = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
    return Message(unmasked=pairs, body=Body(content=content, size=max(size, len(content))))


def _said(text: str) -> str:
    return escape(plain(text))


def _marked(changed: bool) -> str:
    return ' class="cos-changed"' if changed else ""
