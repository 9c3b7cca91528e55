"""The commands that attach to a running server: ``top``, ``step``, ``trace``. ``attach`` does their work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME] [FILTER]", show_default=False,
        help="NAME: the server, needed only if several run; its name, process id, control socket, or http:// URL (with "
        "COSERVER_CONTROL_TOKEN set). FILTER: the exchanges to take, such as '~u /page & ~m GET'; all if not given.",
    ),
]  # fmt: skip
Server = Annotated[
    str | None,
    typer.Option("--server", "-s", metavar="NAME", show_default=False, help="The same as NAME."),
]


def top(
    words: Words = None,
    server: Server = None,
    filter: Annotated[
        str, typer.Option("--filter", "-f", metavar="FILTER", show_default=False, help="The same as FILTER.")
    ] = "",
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot, and end.")] = False,
    json: AsJson = False,
) -> None:
    """Show a dashboard of a running server: its exchanges, connections, upstreams and traces. Press ? for its keys.

    Without NAME it takes the only server that runs. The exit code is 3 if no server can be reached.

    Example: coserver top shop '~took >1s'
    """
    from . import attach

    raise typer.Exit(attach.top(attach.Words(words, server, filter), as_json=json, once=once))


def step(
    words: Words = None,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="PHASE,...",
            help="Hold at these phases: accept, head, body, handler, subrequest, response, recycle. [handler]",
            show_default=False,
        ),
    ] = "handler",
    server: Server = None,
    limit: Annotated[
        float | None,
        typer.Option(
            "--limit", metavar="SECONDS", show_default=False, help="Release each held exchange after this time. [300s]"
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when the first held exchange is released.")] = False,
    json: AsJson = False,
) -> None:
    """Hold matching exchanges at a phase. Commands come from stdin: next, resume, until, edit, respond, abort, help.

    When the command ends, all that it holds is released. The exit code is 3 if no server can be reached.

    Example: echo 'edit target=/b' | coserver step shop '~u /a' --at head --once
    """
    from . import attach

    raise typer.Exit(attach.step(attach.Words(words, server), at, limit, as_json=json, once=once))


def trace(
    words: Words = None,
    server: Server = None,
    waterfall: Annotated[bool, typer.Option("--waterfall", help="Print each exchange as a waterfall.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Print each request as a curl command.")] = False,
    har: Annotated[
        Path | None,
        typer.Option("--har", metavar="FILE", show_default=False, help="Write all exchanges to this HAR file."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print what is recorded already, and end.")] = False,
    json: AsJson = False,
) -> None:
    """Print each exchange when it ends. The server records exchanges while this command runs.

    The exit code is 3 if no server can be reached.

    Example: coserver trace shop '~took >200ms' --waterfall
    """
    from coserver.views.shell.trace import TraceOptions

    from . import attach

    options = TraceOptions(json=json, waterfall=waterfall, curl=curl, once=once, har=har)
    raise typer.Exit(attach.trace(attach.Words(words, server), options))
