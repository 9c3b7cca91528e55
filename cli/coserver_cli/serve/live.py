"""``serve --live``: the server in a thread of its own, the dashboard in the terminal that it was started from.

What the app and its log write meanwhile goes to a file that is shown, its end at least, when the screen is given back.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from coserver import App, Server, SetupError

#: Lines of what was written meanwhile that are shown at the end.
_SHOWN = 50


def run_live(
    app: App, on_start: Callable[[Server], None], on_signal: Callable[[Server, int], None], **options: Any
) -> int | None:
    """As ``App.run``: until a signal, or until a person ends the dashboard; the signal's number. Raises SetupError."""
    from coserver.control.client import Client
    from coserver.views.dashboard.run import run
    from coserver.views.dashboard.terminal import is_dumb

    if is_dumb() or not (sys.stdin.isatty() and sys.stdout.isatty()):
        this = "TERM is dumb" if is_dumb() else "this is none"
        raise SetupError(f"--live draws in a terminal, and {this}; leave it out, and attach by coserver top")
    if options.get("control") == "off":
        raise SetupError("--live asks by the control socket; leave --no-control out")
    if not options.get("uds") and options.get("fd") is None:
        options.setdefault("port", 8000)
    server = app.start(**options)
    ended_by: int | None = None
    try:
        on_start(server)
        if server.control is None:
            raise SetupError("--live asks by the control socket, which cannot be had; the log says why")
        with _quiet() as screen:
            try:
                run(Client(server.control.path), ended=lambda: not server.running, out=screen)
            except SystemExit as ended:
                ended_by = int(ended.code or 0) - 128
        on_signal(server, 1)
    finally:
        _stop(server)
    return ended_by


def _stop(server: Server) -> None:
    try:
        server.stop()
    except KeyboardInterrupt:  # once more: at once
        server.stop(0)


@contextmanager
def _quiet() -> Iterator[int]:
    """A descriptor of the terminal; what else is written to it goes to a file meanwhile, and is shown after it."""
    sys.stdout.flush()
    sys.stderr.flush()
    screen, stderr = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as kept:
        os.dup2(kept.fileno(), 1)
        os.dup2(kept.fileno(), 2)
        try:
            yield screen
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(screen, 1)
            os.dup2(stderr, 2)
            os.close(screen)
            os.close(stderr)
            _show(kept)


def _show(kept: IO[str]) -> None:
    kept.seek(0)
    written = kept.read().splitlines()
    if len(written) > _SHOWN:
        sys.stderr.write(f"… {len(written) - _SHOWN} lines before\n")
    for line in written[-_SHOWN:]:
        sys.stderr.write(line + "\n")
