"""A held exchange in full: its waterfall, its request, and its response if there is one.

``held`` is a dict as ``Held.as_dict`` returns it. ``python -m coserver.views.held`` prints an example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ..control.wire_format import content_of
from ..observe.secrets import mask_fields, mask_target
from ..observe.snapshot.json_rows import read_exchange
from ..observe.snapshot.snapshot import ExchangeState
from ..observe.trace.trace import Body, Message
from ..observe.trace.underway import so_far
from ..observe.trace.waterfall import show_seconds
from . import waterfall
from .columns import Cell, Column, View
from .exchange import message
from .text import plain, readable


def _seconds(held: Mapping[str, Any]) -> float:
    return float(monotonic() - held["since"] if "since" in held else held["seconds"])


def _target(held: Mapping[str, Any]) -> Cell:
    target = held["request"]["target"]
    return readable(mask_target(target) if target else held["title"])


def _handler(held: Mapping[str, Any]) -> Cell:
    """The handler; for a subrequest, its upstream and the exchange that sent it."""
    exchange = held["exchange"]
    if "by" in held:
        return plain(f"held by {held['by']}"), "yellow"
    if held["subrequest"] is None:
        return plain(exchange["handler"]), "bright_black"
    return plain(f"{held['title'].partition(' ')[0]} for {mask_target(exchange['target'])}"), "magenta"


#: The held exchanges of a dashboard. Here several subrequests of one exchange have a row each.
HELD = View(
    "held",
    (
        Column("#", 6, lambda row: (str(row["id"]), "bright_black"), lambda row: row["id"], right=True),
        Column("method", 7, lambda row: (plain(row["request"]["method"]), "bold"),
               lambda row: row["request"]["method"], rank=1),
        Column("target", 0, _target, lambda row: row["request"]["target"]),
        Column("phase", 12, lambda row: (f"{row['phase']} ‖", "bold yellow"), lambda row: row["phase"]),
        Column("held", 8, lambda row: show_seconds(_seconds(row)), _seconds, right=True, runs=True),
        Column("status", 7, lambda row: str((row["response"] or {}).get("status") or ""),
               lambda row: (row["response"] or {}).get("status") or 0, right=True, rank=2),
        Column("handler", 18, _handler, lambda row: row["exchange"]["handler"], rank=3, grows=True),
        Column("client", 21, lambda row: (row["exchange"]["src"], "bright_black"),
               lambda row: row["exchange"]["src"], rank=4),
    ),
    lambda snapshot: (),
    "nothing is held; press i to hold requests",
)  # fmt: skip


def render(held: Mapping[str, Any], now: ExchangeState | None = None) -> Group:
    """``now`` is the exchange in the newest snapshot."""
    return Group(*_parts(held, now))


def heading(held: Mapping[str, Any]) -> Text:
    """One line: number, title, phase of the hold, and for how long."""
    seconds = _seconds(held)
    state = (("held at ", ""), (held["phase"], "bold yellow"), f"  {show_seconds(seconds)}")
    if not held["held"]:
        state = (("no longer held; it was at ", "bright_black"), (held["phase"], "bright_black"), "")
    text = Text.assemble(
        (f"#{held['id']} ", "bright_black"), (plain(mask_target(held["title"])), "bold"), "  ", *state
    )  # fmt: skip
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _parts(held: Mapping[str, Any], now: ExchangeState | None) -> Iterator[RenderableType]:
    exchange, request, response = held["exchange"], held["request"], held["response"]
    try:
        yield waterfall.render(so_far(now or _up_to_now(held)), heading(held))
        yield ""
    except (KeyError, TypeError):  # from a server of another version
        yield heading(held)
    facts = (
        ("exchange", f"{exchange['id']} on connection {held['connection']}, {exchange['src']} → {exchange['dst']}"),
        ("handler", f"{exchange['handler']} on {exchange['route']}" if exchange["route"] else exchange["handler"]),
    )
    for name, value in facts:
        if value:
            yield Text.assemble((f"{name:<10}", "bright_black"), plain(value))
    if request["method"]:
        yield from message("→", f"{request['method']} {mask_target(request['target'])}", _message(request))
    elif request["body"] and request["body"]["size"]:
        yield from message("→", "message", _message(request))
    if response is not None:
        yield from message("←", str(response["status"] or "answer"), _message(response))


def _up_to_now(held: Mapping[str, Any]) -> ExchangeState:
    """The exchange, with its times up to now: ``held`` has them up to the start of the hold."""
    row: ExchangeState = read_exchange(held["exchange"])
    since = _seconds(held)
    return replace(row, seconds=row.seconds + since, phase_seconds=row.phase_seconds + since)


def _message(given: Mapping[str, Any]) -> Message:
    fields: Sequence[Any] = given["headers"]
    body = given["body"] or {"size": 0}
    pairs = mask_fields(tuple((name, value) for name, value in fields))
    return Message(unmasked=pairs, body=Body(content=content_of(body), size=body["size"]))


def example() -> dict[str, Any]:
    """An exchange that is held before its response is sent."""
    return {
        "id": 3, "phase": "response", "event": "ResponseStarted", "connection": 2, "subrequest": None,
        "title": "POST /cart?coupon=spring", "seconds": 2.5, "held": True,
        "exchange": {
            "id": 42, "connection": 2, "server": "shop", "listener": "http", "protocol": "http",
            "src": "127.0.0.1:50312", "dst": "127.0.0.1:8000", "method": "POST", "target": "/cart?coupon=spring",
            "host": "shop.example", "status": 200, "phase": "response", "phase_seconds": 0.0, "seconds": 0.1,
            "handler": "cart", "route": "/cart", "held": True,
        },
        "request": {"method": "POST", "target": "/cart?coupon=spring",
                    "headers": [["host", "shop.example"], ["cookie", "session=abc"], ["content-length", "11"]],
                    "body": {"size": 11, "text": '{"item": 7}'}},
        "response": {"status": 200, "headers": [["content-type", "application/json"]],
                     "body": {"size": 14, "text": '{"items": [7]}'}},
    }  # fmt: skip


if __name__ == "__main__":
    Console().print(render(example()))
