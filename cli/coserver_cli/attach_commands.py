"""The commands that attach to a running server: ``top``, ``step``, ``trace``; what they do is ``looking``'s."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Attached = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|PATH", show_default=False,
        help="The server: its name, process, control socket, or http:// URL (its token: COSERVER_CONTROL_TOKEN).",
    ),
]  # fmt: skip
AttachedTo = Annotated[
    str | None,
    typer.Option(
        "--server", "-s", metavar="NAME|PATH", show_default=False,
        help="The server, as for top; the only one if not given.",
    ),
]  # fmt: skip
Matching = Annotated[
    str,
    typer.Argument(metavar="FILTER", show_default=False, help="Which exchanges: ~u /page & ~m GET; all if not given."),
]


def top(
    server: Attached = None,
    filter: Annotated[
        str, typer.Option("--filter", "-f", metavar="FILTER", show_default=False, help="Show what matches: ~u /page.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Print one picture.")] = False,
    json: AsJson = False,
) -> None:
    """Attach a dashboard to a running server: connections, exchanges, upstreams, traces; ? tells its keys.

    Without NAME the only server is meant. Ends with code 3 if none can be reached.

    Example: coserver top shop
    """
    from . import attach

    raise typer.Exit(attach.top(server, filter, as_json=json, once=once))


def step(
    filter: Matching = "",
    at: Annotated[
        str,
        typer.Option(
            "--at", metavar="PHASE,...", help="Hold at: accept, head, body, handler, subrequest, response, recycle."
        ),
    ] = "handler",
    server: AttachedTo = None,
    limit: Annotated[
        float | None,
        typer.Option("--limit", metavar="SECONDS", show_default=False, help="The longest hold; 300 if not given."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the first that was held is let go.")] = False,
    json: AsJson = False,
) -> None:
    """Hold what matches at a phase, and read commands from stdin: next, resume, until, edit, respond, abort, help.

    When this ends, everything goes on. Ends with code 3 if no server can be reached.

    Example: echo 'edit target=/b' | coserver step '~u /a' --at head --once
    """
    from . import attach

    raise typer.Exit(attach.step(filter, at, server, limit, as_json=json, once=once))


def trace(
    filter: Matching = "",
    server: AttachedTo = None,
    waterfall: Annotated[bool, typer.Option("--waterfall", help="Show each as a waterfall.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Print each as a curl command.")] = False,
    har: Annotated[
        Path | None,
        typer.Option("--har", metavar="FILE", show_default=False, help="Write all to a HAR file, whole when it ends."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print what has been recorded, and end.")] = False,
    json: AsJson = False,
) -> None:
    """Print each exchange that ends, as long as it runs: they are recorded meanwhile.

    Ends with code 3 if no server can be reached.

    Example: coserver trace '~took >200ms' --waterfall
    """
    from coserver.views.shell.trace import TraceOptions

    from . import attach

    options = TraceOptions(filter=filter, json=json, waterfall=waterfall, curl=curl, once=once, har=har)
    raise typer.Exit(attach.trace(options, server))


#: What the list of commands says of each.
ABOUT = {
    top: "See what a running server does, and step it.",
    step: "Hold requests, and step them line by line.",
    trace: "Follow finished exchanges.",
}
