"""The commands and their options. A new command is a function here and nothing else.

A command parses its arguments, calls the library, and prints the result. Exit codes: 0 ended normally (SIGTERM
included), 1 failed, 2 wrong usage, 130 ended by Ctrl+C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import console
from .attach_commands import step, top, trace
from .options import DEV_DEFAULTS, DEVELOPMENT, OBSERVING, Sectioned, restore_docstrings, with_flags
from .overview import ABOUT, make_typer
from .reload.child import join_parent
from .serve.serve import Arguments, serve_app

cli = make_typer()


def run() -> None:
    """Read the command line and run its command."""
    if sys.flags.optimize > 1:
        restore_docstrings(cli)
    cli(prog_name="coserver")


Target = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE:APP",
        show_default=False,
        help="The app and its module: a coserver.App, or an ASGI or WSGI application; MODULE alone means MODULE:app. "
        "Not needed if coserver.toml names the app.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default=False,
        help="Read this configuration file; without MODULE:APP, ./coserver.toml is read.",
    ),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        show_default=False,
        help="Set environment variables from this file; those that are set already stay.",
    ),
]
Factory = Annotated[bool, typer.Option("--factory", help="MODULE:APP is a function that returns the App.")]
AppDir = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", show_default=False, help="Look for the module in this folder, not in the current one."
    ),
]
Reload = Annotated[
    bool, typer.Option("--reload", rich_help_panel=DEVELOPMENT, help="Restart the app after each change of a file.")
]
Live = Annotated[
    bool,
    typer.Option("--live", rich_help_panel=OBSERVING, help="Show the dashboard of 'coserver top' in this terminal."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ReloadDir = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        file_okay=False,
        metavar="FOLDER",
        show_default=False,
        rich_help_panel=DEVELOPMENT,
        help="Watch this folder instead of the current one; may be given several times.",
    ),
]


@cli.command(cls=Sectioned, short_help=ABOUT["new"])
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The folder, and the app's name; . for the current one.")],
) -> None:
    """Make a folder with a small app, its test and its coserver.toml. No file is overwritten.

    Example: coserver new notes && cd notes && coserver dev
    """
    from .new import run

    raise typer.Exit(run(name))


class Serving(Sectioned):
    """A command that also takes the flags of other servers."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from .serve.other_servers import WrongFlag, translate

        try:
            own, lines = translate(args)
        except WrongFlag as error:
            raise typer.BadParameter(str(error)) from None
        for line in lines:
            console.warning(line)
        return super().parse_args(ctx, own)


@cli.command(cls=Serving, short_help=ABOUT["serve"])
@with_flags
def serve(
    target: Target = None,
    config: Config = None,
    env_file: EnvFile = None,
    factory: Factory = False,
    app_dir: AppDir = None,
    reload: Reload = False,
    reload_dir: ReloadDir = None,
    live: Live = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Serve the app that a module defines, until Ctrl+C.

    It is a coserver.App, or any ASGI or WSGI app: FastAPI, Starlette, Django, Flask. Flags of uvicorn, gunicorn and
    hypercorn are taken where they mean the same. The current folder is searched first for the module. The first Ctrl+C
    (or SIGTERM) lets running requests end; the second one stops at once.

    A flag wins over its environment variable (COSERVER_PORT), and the variable over its key in coserver.toml (port).
    'coserver config reference' describes all options.

    Example: coserver serve shop:app --port 8080
    """
    if live and (reload or reload_dir):
        raise typer.BadParameter(
            "--live does not work with --reload; run coserver top in another terminal", param_hint="'--live'"
        )
    child = join_parent()
    if (reload or reload_dir) and child is None:
        from .reload.supervisor import supervise
        from .serve.dev import watched

        raise typer.Exit(supervise(watched(reload_dir or [], app_dir), shows_errors=False))
    raise typer.Exit(serve_app(Arguments(target, flags, config, env_file, factory, app_dir, live), child))


@cli.command(cls=Serving, short_help=ABOUT["dev"])
@with_flags(defaults=DEV_DEFAULTS)
def dev(
    target: Target = None,
    config: Config = None,
    env_file: EnvFile = None,
    factory: Factory = False,
    app_dir: AppDir = None,
    reload_dir: ReloadDir = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Serve an app while you write it: restart it after each change of a file, and show errors to the client.

    Without MODULE:APP it takes the app that coserver.toml names, or else finds the app in this folder. It has the flags
    of 'coserver serve'. Not for production: the page of an error shows the program's variables.

    Example: coserver dev
    """
    from .serve.dev import run

    raise typer.Exit(run(Arguments(target, flags, config, env_file, factory, app_dir), reload_dir or [], join_parent()))


for attached in (top, step, trace):
    cli.command(cls=Sectioned, short_help=ABOUT[attached.__name__])(attached)


HarFile = Annotated[Path, typer.Argument(metavar="FILE", help="A HAR file of any program; - reads it from stdin.")]
HarFilter = Annotated[
    str, typer.Argument(metavar="[FILTER]", show_default=False, help="The requests to take: ~u /page & ~m GET.")
]


@cli.command("open", cls=Sectioned, short_help=ABOUT["open"])
def open_har(
    file: HarFile,
    filter: HarFilter = "",
    waterfall: Annotated[bool, typer.Option("--waterfall", help="Print each request as a waterfall.")] = False,
    curl: Annotated[bool, typer.Option("--curl", help="Print each request as a curl command.")] = False,
    json: AsJson = False,
) -> None:
    """Print the requests of a HAR file, as 'coserver trace' prints those of a server. Nothing is sent.

    Example: coserver open slow.har '~took >200ms' --waterfall
    """
    from coserver.views.shell.trace import TraceOptions

    from .har.har_file import run

    raise typer.Exit(run(file, TraceOptions(filter, json=json, waterfall=waterfall, curl=curl)))


@cli.command(cls=Sectioned, short_help=ABOUT["replay"])
def replay(
    file: HarFile,
    url: Annotated[str, typer.Argument(metavar="URL", help="The server: http://127.0.0.1:8000.")],
    filter: HarFilter = "",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Give up an answer after this time.")
    ] = 30.0,
    json: AsJson = False,
) -> None:
    """Send the requests of a HAR file to a server, one after the other, and compare the answers.

    Each goes out as it was recorded, with Host set to the server. Fields that the file masks go out masked. The exit
    code is 1 if the status of an answer differs from the one in the file, or a request fails.

    Example: coserver replay slow.har http://127.0.0.1:8000 '~m GET'
    """
    from .har.comparison import run

    raise typer.Exit(run(file, url, filter, timeout, as_json=json))


@cli.command(cls=Sectioned, short_help=ABOUT["routes"])
def routes(
    target: Target = None, config: Config = None, factory: Factory = False, app_dir: AppDir = None, json: AsJson = False
) -> None:
    """Show the routes of an app: methods, path, handler, and the line that defines it. Nothing is served.

    Without MODULE:APP it takes the app that coserver.toml names, or else finds the app in this folder.

    Example: coserver routes shop:app
    """
    from .routes import run

    raise typer.Exit(run(Arguments(target, {}, config, None, factory, app_dir), as_json=json))


@cli.command(cls=Sectioned, short_help=ABOUT["doctor"])
def doctor(
    app: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE:APP]", show_default=False, help="The app to check, and its module."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show what is installed and what is missing, with the command that installs it. The exit code is 1 on a problem.

    With MODULE:APP it imports the app, and lists its blocking calls that the hooks do not reach.
    """
    from .doctor.doctor import run

    raise typer.Exit(run(app, as_json=json))


@cli.command(cls=Sectioned, short_help=ABOUT["demo"])
def demo(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            max=65535,
            show_default=False,
            help="Listen on this port. Without it: 8000, or a free one if that is taken.",
        ),
    ] = None,
) -> None:
    """Serve a small shop with a few clients, and print what to try. Ctrl+C stops it."""
    from .demo.demo import run

    raise typer.Exit(run(port))


@cli.command("dev-cert", cls=Sectioned, short_help=ABOUT["dev-cert"])
def dev_cert(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            show_default=False,
            help="Host names and addresses of the certificate. Without any: localhost, 127.0.0.1 and ::1.",
        ),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            "--dir",
            metavar="FOLDER",
            show_default=False,
            help="Write the files to this folder, not to the current one.",
        ),
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Make a certificate for this machine, and an authority that clients can trust. For development only.

    Example: coserver dev-cert && coserver serve shop:app --ssl-certfile dev-cert.pem --ssl-keyfile dev-cert.key
    """
    from .dev_cert import run

    raise typer.Exit(run(names or [], folder, force=force))


config_commands = typer.Typer(help=ABOUT["config"], no_args_is_help=True, rich_markup_mode=None)
cli.add_typer(config_commands, name="config")
NoImport = Annotated[bool, typer.Option("--no-import", help="Do not import the apps.")]


@config_commands.command(cls=Sectioned, short_help="Check coserver.toml and the environment.")
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", show_default=False, help="The file; ./coserver.toml if not given."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", show_default=False, help="The same as FILE; the flag of serve."),
    ] = None,
    env_file: EnvFile = None,
    app_dir: AppDir = None,
    no_import: NoImport = False,
) -> None:
    """Check a configuration file and the environment: every key, every value, and that the apps can be imported.

    All errors are reported at once, each with its line. The exit code is 1 if there is one.
    """
    from .config.check import check

    if file is not None and config is not None:
        raise typer.BadParameter("the file is given twice: as FILE and as --config", param_hint="'--config'")
    arguments = Arguments(config=file or config, env_file=env_file, app_dir=app_dir)
    raise typer.Exit(check(arguments, not no_import))


@config_commands.command(cls=Sectioned, short_help="Show each value and where it comes from.")
@with_flags(hidden=True)
def show(
    target: Target = None,
    config: Config = None,
    env_file: EnvFile = None,
    factory: Factory = False,
    app_dir: AppDir = None,
    no_import: NoImport = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Show the values that 'coserver serve' would use, each with its origin. It has the flags of serve, too."""
    from .config.check import show

    arguments = Arguments(target, flags, config, env_file, factory, app_dir)
    raise typer.Exit(show(arguments, imports=not no_import, as_json=json))


@config_commands.command(cls=Sectioned, short_help="Print the reference as Markdown.")
def reference() -> None:
    """Print all options with their flags, variables and keys, as Markdown."""
    from .config.reference import reference

    typer.echo(reference(), nl=False)
