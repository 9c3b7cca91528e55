"""The names of the commands, with a line on each: all that ``coserver --help`` and ``--version`` need.

The commands themselves load the library, which takes several times as long.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    import typer

#: The commands in the order of the help, with the line that each has there.
ABOUT = {
    "new": "Make a folder with a small app.",
    "serve": "Serve the App that a module defines, until Ctrl+C.",
    "dev": "Serve an app while you write it.",
    "top": "Show what a running server does; hold and step its requests.",
    "step": "Hold requests, and step them by commands.",
    "trace": "Print exchanges as they end.",
    "open": "Print the requests of a HAR file.",
    "replay": "Send the requests of a HAR file to a server.",
    "routes": "Show the routes of an app.",
    "doctor": "Check what is installed here.",
    "demo": "Serve a small shop, to try coserver.",
    "dev-cert": "Make a certificate for this machine.",
    "config": "Check and show the configuration, or print its reference.",
}
#: Commands that people know from other programs and type here, each with what does the same.
INSTEAD = {
    "run": "coserver serve MODULE:APP serves an app, coserver dev restarts it after each change",
    "start": "coserver serve MODULE:APP serves an app, coserver dev restarts it after each change",
    "init": "coserver new NAME makes a folder with a small app, coserver new . does it here",
    "create": "coserver new NAME makes a folder with a small app, coserver new . does it here",
    "openapi": "there is no OpenAPI document yet; coserver routes MODULE:APP --json lists the routes",
    "bench": (
        "another program measures better than the server itself: coserver serve MODULE:APP --no-access-log, then "
        "wrk -t1 -c32 -d10 http://127.0.0.1:8000/"
    ),
    "mcp": (
        "there is no MCP server; the control socket answers a program over HTTP in JSON, and so do "
        "coserver top --json and coserver trace --json"
    ),
    "debug": "coserver dev shows errors with their variables, coserver step holds a request at a phase",
    "record": "coserver trace --har FILE records requests, coserver serve --record keeps the last ones",
    "version": "coserver --version",
    "help": "coserver --help, or coserver COMMAND --help",
}
_VERSION = "--version"
_HELP: tuple[list[str], ...] = ([], ["--help"], ["-h"])
_COMPLETION = "_COSERVER_COMPLETE"  # set by the shell that completes a command line


def answer(arguments: Sequence[str]) -> bool:
    """Print the version or the help, if ``arguments`` ask for nothing else. Returns whether they did."""
    if _COMPLETION in os.environ:
        return False
    if list(arguments) == [_VERSION]:
        print(f"coserver {version()}")
        return True
    if list(arguments) in _HELP:
        help_only()(prog_name="coserver")
        return True
    return False


def version() -> str:
    """The library's version. It is read from the source, since to import the library takes ten times as long."""
    from importlib.util import find_spec

    spec = find_spec("coserver")
    try:
        with open(str(spec and spec.origin), encoding="utf-8") as source:
            found = next((line for line in source if line.startswith("__version__ = ")), "")
    except OSError:  # an archive, or compiled files alone
        found = ""
    if found:
        return found.split('"')[1]
    from coserver import __version__

    return __version__


def make_typer() -> typer.Typer:
    """A command line without commands: its settings, and the options of all."""
    import typer
    from typer.core import TyperGroup

    class Group(TyperGroup):
        """The commands. A name that is none of them, and is one elsewhere, gets a pointer."""

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            """Find the command. Ends with wrong usage (2) for a name that is none."""
            if args and args[0] in INSTEAD and args[0] not in self.commands:
                ctx.fail(f"No such command {args[0]!r}: {INSTEAD[args[0]]}.")
            return super().resolve_command(ctx, args)

    cli = typer.Typer(
        name="coserver",
        cls=Group,
        help="Serve HTTP and TCP on coroutines, on asyncio or trio.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def tell(wanted: bool) -> None:
        if wanted:
            typer.echo(f"coserver {version()}")
            raise typer.Exit

    wants = typer.Option(_VERSION, help="Show the version and exit.", callback=tell, is_eager=True)

    def main(version: bool = False) -> None:
        pass

    main.__annotations__["version"] = Annotated[bool, wants]
    cli.callback(help="Serve HTTP and TCP on coroutines, on asyncio or trio.")(main)
    return cli


def help_only() -> typer.Typer:
    """A command line whose commands do nothing, for its help."""
    cli = make_typer()
    for name, about in ABOUT.items():
        cli.command(name, short_help=about)(lambda: None)
    return cli
