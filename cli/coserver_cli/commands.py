"""The commands and their options. A new command is a function here and nothing else.

A command parses, calls and renders. Exit codes: 0 ended well (SIGTERM included), 1 failed, 2 wrong usage, 130 ended by
Ctrl+C.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coserver import __version__

from .attach_commands import ABOUT, step, top, trace
from .options import DEV_DEFAULTS, DEVELOPMENT, SEEING, Sectioned, with_flags
from .reload.child import join_parent
from .serve.serve import Arguments, serve_app

cli = typer.Typer(
    name="coserver",
    help="Serve HTTP and TCP on coroutines, on asyncio or trio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run() -> None:
    """Read the command line and do what it says."""
    cli(prog_name="coserver")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"coserver {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
]
Target = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE:APP",
        show_default=False,
        help="Where the App is; MODULE alone means MODULE:app. It may be left out if coserver.toml names it.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        show_default=False,
        help="Read this file; ./coserver.toml is read if no MODULE:APP is given.",
    ),
]
EnvFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", show_default=False, help="Set the environment variables of this file that are not set yet."
    ),
]
Factory = Annotated[bool, typer.Option("--factory", help="MODULE:APP is a function that returns the App.")]
AppDir = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", show_default=False, help="Look for the module here, not in the current folder."),
]
Reload = Annotated[
    bool, typer.Option("--reload", rich_help_panel=DEVELOPMENT, help="Serve anew after each change of a file.")
]
Live = Annotated[
    bool, typer.Option("--live", rich_help_panel=SEEING, help="Show the dashboard of 'coserver top' in this terminal.")
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
        help="Watch this folder instead of the current one; may be given again.",
    ),
]


@cli.callback()
def main(version: Version = False) -> None:
    """Serve HTTP and TCP on coroutines, on asyncio or trio."""


@cli.command(cls=Sectioned)
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
    """Serve the App that a module defines, until Ctrl+C.

    The module is looked for in the current folder first. The first Ctrl+C (or SIGTERM) lets running requests end, the
    second one stops at once.

    A flag wins over an environment variable (COSERVER_PORT), and that over a key of coserver.toml (port);
    'coserver config reference' describes them all.

    Example: coserver serve shop:app --port 8080
    """
    if live and (reload or reload_dir):
        raise typer.BadParameter(
            "a reload starts anew what it shows; run coserver top beside it", param_hint="'--live'"
        )
    child = join_parent()
    if (reload or reload_dir) and child is None:
        from .reload.supervisor import supervise
        from .serve.dev import watched

        raise typer.Exit(supervise(watched(reload_dir or [], app_dir), shows_errors=False))
    raise typer.Exit(serve_app(Arguments(target, flags, config, env_file, factory, app_dir, live), child))


@cli.command(cls=Sectioned, short_help="Serve while the app is being written.")
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
    """Serve while the app is being written: anew after each change of a file, errors shown to whoever asks.

    Without MODULE:APP the app is what coserver.toml names, else the one that a module of this folder defines. It takes
    the flags of 'coserver serve'. Not for production: an error's page shows the program's variables.

    Example: coserver dev
    """
    from .serve.dev import run

    raise typer.Exit(run(Arguments(target, flags, config, env_file, factory, app_dir), reload_dir or [], join_parent()))


for attached in (top, step, trace):
    cli.command(cls=Sectioned, short_help=ABOUT[attached])(attached)


@cli.command(cls=Sectioned, short_help="Show what an app answers to.")
def routes(
    target: Target = None, config: Config = None, factory: Factory = False, app_dir: AppDir = None, json: AsJson = False
) -> None:
    """Show what an app answers to: each route, its handler, and where that is written. Nothing is served.

    Without MODULE:APP the app is what coserver.toml names, else the one that a module of this folder defines.

    Example: coserver routes shop:app
    """
    from .routes import run

    raise typer.Exit(run(Arguments(target, {}, config, None, factory, app_dir), as_json=json))


@cli.command(cls=Sectioned, short_help="Tell what is missing here.")
def doctor(
    app: Annotated[str | None, typer.Argument(metavar="[MODULE:APP]", show_default=False)] = None, json: AsJson = False
) -> None:
    """Tell what is here and what is missing, and the command that brings it. Ends with code 1 if there is a problem.

    With an app, it is imported, and what its blocking calls hold up in spite of the hooks is told too.
    """
    from .doctor.doctor import run

    raise typer.Exit(run(app, as_json=json))


@cli.command(cls=Sectioned, short_help="Serve a small shop to try it on.")
def demo(
    port: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            max=65535,
            show_default=False,
            help="Listen on this port; on 8000 or a free one if not given.",
        ),
    ] = None,
) -> None:
    """Serve a small shop with some traffic of its own, and say what to try. Ctrl+C stops it."""
    from .demo.demo import run

    raise typer.Exit(run(port))


@cli.command("dev-cert", cls=Sectioned, short_help="Make a certificate for this machine.")
def dev_cert(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            show_default=False,
            help="Hosts and addresses that it is for; localhost, 127.0.0.1 and ::1 if none is given.",
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="FOLDER", show_default=False, help="Write the files there, not here.")
    ] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> None:
    """Make a certificate for this machine, and the authority that clients must trust: for development only.

    Example: coserver dev-cert && coserver serve shop:app --ssl-certfile dev-cert.pem --ssl-keyfile dev-cert.key
    """
    from .dev_cert import run

    raise typer.Exit(run(names or [], folder, force=force))


config_commands = typer.Typer(
    help="Check and show the configuration, or print its reference.", no_args_is_help=True, rich_markup_mode=None
)
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
        typer.Option("--config", "-c", metavar="FILE", show_default=False, help="The same, as serve has it."),
    ] = None,
    env_file: EnvFile = None,
    app_dir: AppDir = None,
    no_import: NoImport = False,
) -> None:
    """Check a configuration file and the environment: every key, every value, and that what is named can be imported.

    All that is wrong is told at once, each with its line. Ends with code 1 if anything is.
    """
    from .config.check import check

    if file is not None and config is not None:
        raise typer.BadParameter("name the file once", param_hint="'--config'")
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
    """Show the values that 'coserver serve' would take, each with its origin. It takes the flags of serve as well."""
    from .config.check import show

    arguments = Arguments(target, flags, config, env_file, factory, app_dir)
    raise typer.Exit(show(arguments, imports=not no_import, as_json=json))


@config_commands.command(cls=Sectioned, short_help="Print the reference as Markdown.")
def reference() -> None:
    """Print all settings, flags, variables and keys as Markdown."""
    from .config.reference import reference

    typer.echo(reference(), nl=False)
