"""``coserver dev``: ``serve`` with ``--reload`` and debug pages. It finds the app if none is named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coserver.app.config.file import ConfigError
from coserver.app.config.resolve import resolve

from .. import console
from ..options import DEV_DEFAULTS
from ..reload.child import Child
from ..reload.supervisor import supervise
from .discover import choose
from .serve import Arguments, serve_app
from .target import TargetError


def run(arguments: Arguments, folders: Sequence[Path], child: Child | None) -> int:
    """Serve until a signal arrives; the exit code.

    The parent finds the app and names it to its children, so that an unfinished save cannot change the choice.
    """
    if child is not None:
        return serve_app(replace(arguments, flags={"debug": DEV_DEFAULTS["debug"], **arguments.flags}), child)
    try:
        found = with_target(arguments, "coserver dev")
    except TargetError as error:
        console.error(str(error), error.way_out)
        return 1
    told: list[str] = []
    if found.config is not arguments.config:
        told += ["--config", str(found.config)]
    if found.target is not None and arguments.target is None:
        told.append(found.target)
    return supervise(watched(folders, arguments.app_dir), told, shows_errors=True)


def with_target(arguments: Arguments, command: str) -> Arguments:
    """The arguments with an app: the given one, else coserver.toml's, else one found here. Raises TargetError."""
    if arguments.target is not None:
        return arguments
    try:
        configuration = resolve(flags={}, environ=os.environ, config=arguments.config)
    except ConfigError:
        return arguments  # serve_app reports the error
    if configuration.app is not None or configuration.listeners:
        return arguments
    target, others = choose((arguments.app_dir or Path.cwd()).resolve(), command)
    console.app_found(target, others)
    return replace(arguments, target=target, config=configuration.file.path if configuration.file else arguments.config)


def watched(folders: Sequence[Path], app_dir: Path | None) -> list[Path]:
    """The given folders; else the current folder and the app's folder."""
    return list(folders) or [folder for folder in (Path.cwd(), app_dir) if folder is not None]
