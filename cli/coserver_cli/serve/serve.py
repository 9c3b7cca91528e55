"""From a command line to a running server: read the sources of options, load the app, run it; report what fails.

``coserver serve`` and ``dev`` call ``serve_app``; ``config`` and ``routes`` call ``configure`` and ``load_app``.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import typer

from coserver import App, Server, SetupError, hooks
from coserver.app.config.file import ConfigError, Sourced
from coserver.app.config.process_settings import HookSettings, LogSettings
from coserver.app.config.resolve import Configuration, resolve
from coserver.app.config.settings import Options
from coserver.app.listeners import plan_listeners
from coserver.app.sockets import CannotListen
from coserver.hooks import offloaded
from coserver.hooks.install import choose
from coserver.hooks.offload import choose_threads
from coserver.hosting.application import HostingSettings

from .. import console
from ..options import DEFAULTS
from ..reload.child import Child
from . import systemd
from .target import TargetError, find_app, find_object, look_in

#: The exit code after SIGINT, as shells have it: 128 and the signal's number.
INTERRUPTED = 128 + signal.SIGINT


@dataclass
class Arguments:
    """The arguments of a command line. ``flags`` has the read values by option key."""

    target: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None
    env_file: Path | None = None
    factory: bool = False
    app_dir: Path | None = None
    live: bool = False


@dataclass
class LoadedApp:
    """An app, and the ``options`` for ``App.run``."""

    configuration: Configuration
    app: App
    options: Options


class CommandFailed(Exception):
    """The command ends with code 1; the error is printed already. ``str`` is its text."""


def serve_app(arguments: Arguments, child: Child | None = None) -> int:
    """Serve until a signal arrives; the exit code."""
    try:
        configuration = configure(arguments)
        start_log(configuration.log())
        for warning in configuration.warnings:
            console.warning(warning)
        install_hooks(configuration.hooks())
        loaded = load_app(arguments, configuration)
        number = _run(loaded, child, arguments.live)
    except CommandFailed as failure:
        if child is not None:
            child.failed(str(failure), listening=isinstance(failure.__cause__, CannotListen))
        return 1
    return INTERRUPTED if number == signal.SIGINT else 0


def configure(arguments: Arguments) -> Configuration:
    """Read all sources of options. Raises CommandFailed; typer.BadParameter if flags contradict each other."""
    for name in ("uds", "fd"):
        others = {"host", "port", "uds", "fd"} - {name}
        if name in arguments.flags and any(other in arguments.flags for other in others):
            raise typer.BadParameter(
                f"a server listens at one place: give --{name} alone, or --host and --port", param_hint=f"'--{name}'"
            )
    if arguments.env_file is not None:
        _load_env_file(arguments.env_file)
    try:
        look_in(arguments.app_dir)
        return resolve(flags=arguments.flags, environ=os.environ, config=arguments.config, target=arguments.target)
    except TargetError as error:
        console.error(str(error), error.way_out)
        raise CommandFailed(str(error)) from None
    except ConfigError as error:
        raise _failed(*error.problems) from None


def load_app(arguments: Arguments, configuration: Configuration) -> LoadedApp:
    """Import the app to serve. Raises CommandFailed; typer.BadParameter if no source names an app."""
    try:
        if configuration.app is not None:
            app = _named("app", configuration.app, factory=arguments.factory, hosting=configuration.hosting())
        else:
            app = _app_of_listeners(configuration)
        return LoadedApp(configuration, app, _options(configuration, app))
    except TargetError as error:
        console.error(str(error), error.way_out, error.cause)
        raise CommandFailed(console.traceback_of(error.cause) if error.cause else str(error)) from None
    except ConfigError as error:
        raise _failed(*error.problems) from None


def validate(loaded: LoadedApp) -> None:
    """Check everything that a start checks: settings, routes, certificates. Raises CommandFailed."""
    try:
        settings = loaded.app.settings(loaded.options)
        for app in [loaded.app, *(one.app for one in settings.listeners if one.app is not None)]:
            app.compile()
        plan_listeners(loaded.app, settings)  # reads certificates
    except SetupError as error:
        console.error(str(error), console.place_of(error))
        raise CommandFailed(str(error)) from None


def _app_of_listeners(configuration: Configuration) -> App:
    """The first listener's app, if none is named at the top; an empty app if all listeners are TCP."""
    if not configuration.listeners:
        raise typer.BadParameter(
            "name the app: coserver serve module:app; or write app = 'module:app' in coserver.toml",
            param_hint="'MODULE:APP'",
        )
    for one in configuration.listeners:
        if "app" in one.given:
            app: App = _named("app", one.given["app"], hosting=configuration.hosting())
            return app
    for one in configuration.listeners:
        if one.value("protocol") != "tcp":
            raise ConfigError([f"{one.where}: this listener has no app: write app = 'module:app' here, or at the top"])
    assert configuration.file is not None
    return App(configuration.file.path.stem)


def _named(kind: str, given: Sourced, *, factory: bool = False, hosting: HostingSettings | None = None) -> Any:
    """Import ``module:name``. Raises TargetError, whose message says where the name was given."""
    try:
        if factory:
            return find_app(given.value, factory=True, hosting=hosting)
        return find_object(kind, given.value, hosting=hosting)
    except TargetError as error:
        where = "" if given.source == "flag" else f"{given.where}: "
        raise TargetError(f"{where}{error}", error.way_out, error.cause) from None


def _options(configuration: Configuration, app: App) -> Options:
    find = partial(_named, hosting=configuration.hosting())
    return {**DEFAULTS_OF_RUN, **configuration.options(app.limits, find)}  # type: ignore[typeddict-item]


#: Without the port: ``App.run`` takes 8000, unless it listens elsewhere.
DEFAULTS_OF_RUN = {name: value for name, value in DEFAULTS.items() if name != "port"}


def _run(loaded: LoadedApp, child: Child | None, live: bool) -> int | None:
    """Serve until a signal arrives; its number. Raises CommandFailed."""
    begun: list[Server] = []

    def on_start(server: Server) -> None:
        begun.append(server)
        systemd.tell("READY=1")
        if child is not None and child.ready(server):
            console.serving_again(server)
        else:
            console.started(server)

    def on_signal(server: Server, count: int) -> None:
        systemd.tell("STOPPING=1")
        (child.stopping if child else console.stopping)(server, count)

    try:
        systemd.take_sockets()
        if live:
            from .live import run_live

            return run_live(loaded.app, on_start, on_signal, **loaded.options)
        return loaded.app.run(on_start=on_start, on_signal=on_signal, **loaded.options)
    except CannotListen as error:
        message = error.strerror or str(error)
        console.error(message, _who_holds(message) if error.errno == errno.EADDRINUSE else "")
        raise CommandFailed(message) from error
    except SetupError as error:
        console.error(str(error), console.place_of(error))
        raise CommandFailed(str(error)) from None
    except Exception as error:  # raised by a lifespan
        when = "end" if begun else "start"
        said = f"the app failed at its {when}: {type(error).__name__}: {error}"
        console.error(said, "fix it; the traceback shows the line", error)
        raise CommandFailed(console.traceback_of(error)) from None


def _who_holds(message: str) -> str:
    from .port_holder import holder

    return holder(message.partition(" is taken by another process")[0])


def _load_env_file(path: Path) -> None:
    """Set the file's variables in the environment, but for those that are set already. Raises CommandFailed."""
    try:
        from dotenv import load_dotenv
        from dotenv.parser import parse_stream
    except ImportError:
        console.error("--env-file needs python-dotenv, which is not installed", "pip install 'coserver[dev]'")
        raise CommandFailed("--env-file needs python-dotenv") from None
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise _failed(f"--env-file: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    # The line itself is not shown: it may have a secret.
    wrong = [one.original.line for one in parse_stream(StringIO(text)) if one.error]
    if wrong:
        why = "expected NAME=value, with closed quotes"
        raise _failed(*(f"--env-file: {path}:{line}: {why}" for line in wrong))
    try:
        load_dotenv(stream=StringIO(text), override=False)
    except ValueError as error:  # a NUL, which a variable cannot have
        raise _failed(f"--env-file: {path}: {error}") from None


def install_hooks(settings: HookSettings) -> None:
    """Install the hooks before the app is imported, so that its module-level locks and thread-locals are hooked too.

    Raises CommandFailed if a driver to offload is not installed.
    """
    choose(settings.chosen)
    hooks.install(settings.chosen, mutex=settings.mutex, period=settings.mutex_period)
    choose_threads(settings.offload_threads, settings.offload_waiting)
    try:
        offloaded(*settings.offloaded)
    except ModuleNotFoundError as error:
        raise _failed(str(error)) from None


def start_log(settings: LogSettings) -> None:
    """Log to stderr, in the format of the settings."""
    from .. import log

    log.configure(settings)
    console.as_records = settings.format == "json"


def _failed(*problems: str) -> CommandFailed:
    for one in problems:
        console.error(one)
    return CommandFailed("\n".join(problems))
