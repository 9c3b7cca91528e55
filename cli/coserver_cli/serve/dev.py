"""``coserver dev``: ``serve`` with ``--reload`` and debug pages, which finds the app by itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coserver.app.config.file import ConfigError
from coserver.app.config.resolve import resolve

from .. import console as lines
from ..options import DEV_DEFAULTS
from ..reload.child import Child
from ..reload.supervisor import supervise
from . import serve as serving
from .discover import choose
from .serve import Asked
from .target import TargetError


def run(asked: Asked, folders: Sequence[Path], child: Child | None) -> int:
    """Serve until a signal; the exit code. The parent finds the app, so that a save of something half does not change
    which one is meant; the child is told."""
    if child is not None:
        return serving.serve(replace(asked, flags={"debug": DEV_DEFAULTS["debug"], **asked.flags}), child)
    try:
        found = with_target(asked, "coserver dev")
    except TargetError as error:
        lines.trouble(str(error), error.way_out)
        return 1
    told: list[str] = []
    if found.config is not asked.config:
        told += ["--config", str(found.config)]
    if found.target is not None and asked.target is None:
        told.append(found.target)
    return supervise(watched(folders, asked.app_dir), told, shows_errors=True)


def with_target(asked: Asked, command: str) -> Asked:
    """With the app's name: what is given, else coserver.toml's, else the one that is found. Raises TargetError."""
    if asked.target is not None:
        return asked
    try:
        configuration = resolve(flags={}, environ=os.environ, config=asked.config)
    except ConfigError:
        return asked  # whoever serves says what is wrong with it
    if configuration.app is not None or configuration.listeners:
        return asked
    target, others = choose((asked.app_dir or Path.cwd()).resolve(), command)
    lines.found(target, others)
    return replace(asked, target=target, config=configuration.file.path if configuration.file else asked.config)


def watched(folders: Sequence[Path], app_dir: Path | None) -> list[Path]:
    """What was asked for; else the current folder and the one in which the app lies."""
    return list(folders) or [folder for folder in (Path.cwd(), app_dir) if folder is not None]
