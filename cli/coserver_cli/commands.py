"""The commands and their options. A new command is a function here and nothing else.

Exit codes: 0 ended well (SIGTERM included), 1 failed, 2 wrong usage, 130 ended by Ctrl+C.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from coserver import App, AppError, Server, __version__

from . import lines
from .target import TargetError, find_app

#: Ended by SIGINT, as shells say it: 128 and the signal's number.
INTERRUPTED = 128 + signal.SIGINT

cli = typer.Typer(
    name="coserver",
    help="Serve HTTP and TCP on coroutines, on asyncio or trio.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point of the script ``coserver``."""
    try:
        cli(prog_name="coserver")
    except KeyboardInterrupt:  # before the server has begun to heed signals
        raise SystemExit(INTERRUPTED) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"coserver {__version__}")
        raise typer.Exit


def _one_of(*names: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in names:
            raise typer.BadParameter(f"it may be {', '.join(names)}; got {value!r}")
        return value

    return check


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
]
Target = Annotated[str, typer.Argument(metavar="MODULE:APP", help="Where the App is; MODULE alone means MODULE:app.")]
Host = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", show_default=False, help="Listen on this address; 127.0.0.1 if not given."),
]
Port = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER",
        show_default=False,
        min=0,
        max=65535,
        help="On this port, 8000 if not given; 0: a free one.",
    ),
]
Uds = Annotated[
    Path | None, typer.Option(metavar="PATH", show_default=False, help="Listen on this UNIX socket instead.")
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="NAME", callback=_one_of("asyncio", "uvloop", "trio"), help="The event loop: asyncio, uvloop or trio."
    ),
]
Codec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        callback=_one_of("auto", "h11", "httptools"),
        help="The HTTP parser: h11, httptools, or auto for the faster one that is installed.",
    ),
]


@cli.callback()
def top(version: Version = False) -> None:
    """Serve HTTP and TCP on coroutines, on asyncio or trio."""


@cli.command()
def serve(
    target: Target,
    host: Host = None,
    port: Port = None,
    uds: Uds = None,
    backend: Backend = "asyncio",
    codec: Codec = "auto",
) -> None:
    """Serve the App that a module defines, until Ctrl+C.

    The module is looked for in the current folder first. The first Ctrl+C (or SIGTERM) lets running requests end, the
    second one stops at once.

    Example: coserver serve shop:app --port 8080
    """
    if uds is not None and (host is not None or port is not None):
        raise typer.BadParameter(
            "a server listens on one of them: give --uds, or --host and --port", param_hint="'--uds'"
        )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        app = find_app(target)
    except TargetError as error:
        lines.trouble(str(error), error.way_out, error.cause)
        raise typer.Exit(1) from None
    number = _run(app, host or "127.0.0.1", 8000 if port is None else port, uds, backend, codec)
    raise typer.Exit(INTERRUPTED if number == signal.SIGINT else 0)


def _run(app: App, host: str, port: int, uds: Path | None, backend: str, codec: str) -> int | None:
    """Serve until a signal; its number."""
    begun: list[Server] = []

    def on_start(server: Server) -> None:
        begun.append(server)
        lines.started(app, server)

    try:
        return app.run(
            on_start=on_start,
            on_signal=lines.stopping,
            host=host,
            port=port,
            uds=None if uds is None else str(uds),
            backend=backend,
            codec=codec,
        )
    except (AppError, OSError) as error:
        if begun:
            raise
        lines.trouble(getattr(error, "strerror", None) or str(error))
        raise typer.Exit(1) from None
