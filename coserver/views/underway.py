"""An exchange that still runs, in full: its waterfall up to now, and where it waits. Also a connection in full.

A finished exchange is shown by ``exchange``. ``python -m coserver.views.underway`` prints examples.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ..observe.secrets import mask_target
from ..observe.snapshot.snapshot import ConnectionState, ExchangeState
from ..observe.trace.trace import Message
from ..observe.trace.underway import so_far
from ..observe.trace.waterfall import show_seconds
from . import waterfall
from .exchange import message
from .text import plain, readable
from .traces import show_size


def render(row: ExchangeState, request: Message | None = None, *, over: bool = False) -> Group:
    """``request`` has the fields and the body, if they are known. ``over``: the exchange has ended meanwhile."""
    parts = list(_parts(row, over))
    if request is not None and row.method:
        parts += message("→", f"{row.method} {mask_target(row.target)}", request)
    return Group(*parts)


def render_connection(row: ConnectionState) -> Group:
    """A connection: peer, phase, age, bytes, TLS."""
    tls = row.tls or {}
    facts = {
        "peer": f"{row.peer} → listener {row.listener}",
        "phase": f"{row.phase} for {show_seconds(row.phase_seconds)}",
        "open": f"for {show_seconds(row.seconds)}, {row.served} served",
        "bytes": f"{show_size(row.received)} in, {show_size(row.sent)} out",
        "tls": "  ".join(f"{name} {value}" for name, value in tls.items() if value),
    }
    rest = [_fact(name, value) for name, value in facts.items() if value]
    return Group(Text(f"connection {row.id}", "bold"), *rest)


def _parts(row: ExchangeState, over: bool) -> Iterator[RenderableType]:
    what = f"{row.method} {mask_target(row.target)}" if row.method else row.url
    phase = (f"{row.phase} ‖", "bold yellow") if row.held else (row.phase, "cyan")
    if over:
        phase = (f"has ended after {row.phase}", "bold yellow")
    taken = f"  {show_seconds(row.seconds)}"
    above = Text.assemble((readable(what), "bold"), "  ", phase, taken, no_wrap=True, overflow="ellipsis")
    yield waterfall.render(so_far(row), above)
    yield ""
    facts = (
        ("exchange", f"{row.id} on connection {row.connection}, {row.src} → {row.dst}"),
        ("handler", f"{row.handler} on {row.route}" if row.route else row.handler),
        ("in phase", f"{row.phase} for {show_seconds(row.phase_seconds)}"),
        ("status", str(row.status or "")),
        ("bytes", f"{show_size(row.request_size)} in, {show_size(row.response_size)} out, bodies only"),
        ("error", row.error),
    )
    for name, value in facts:
        if value:
            yield _fact(name, value)
    if row.suspended is not None:
        waits = row.suspended
        call = plain(f"{waits.call} {waits.on}".rstrip())
        yield _fact("waits in", call, "yellow", f" for {show_seconds(waits.seconds)}  {plain(waits.place)}")


def _fact(name: str, value: str, style: str = "", more: str = "") -> Text:
    return Text.assemble((f"{name:<10}", "bright_black"), (plain(value), style), more)


def example() -> list[ExchangeState]:
    """An exchange in a blocking call beside two subrequests, and one whose response is being sent."""
    from .live import example as snapshot

    rows = {row.id: row for row in snapshot().exchanges}
    return [rows[43], rows[44]]


if __name__ == "__main__":
    Console().print(Group(*[part for row in example() for part in (render(row), "")]))
