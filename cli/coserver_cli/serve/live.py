"""``serve --live``: the server in a thread, the dashboard in the terminal of the command.

The output of the app and its log goes to a file meanwhile. Its last lines are shown when the dashboard ends.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from coserver import App, Server, SetupError

#: Lines of the output that are shown at the end.
_SHOWN = 50


def run_live(
    app: App, on_start: Callable[[Server], None], on_signal: Callable[[Server, int], None], **options: Any
) -> int | None:
    """Serve as ``App.run`` does, or until a person quits the dashboard; the signal's number. Raises SetupError."""
    from coserver.control.client import Client
    from coserver.views.dashboard.run import run
    from coserver.views.dashboard.terminal import is_dumb

    if is_dumb() or not (sys.stdin.isatty() and sys.stdout.isatty()):
        why = "TERM is dumb" if is_dumb() else "stdin or stdout is not a terminal"
        raise SetupError(f"--live needs a terminal to draw in, but {why}; leave out --live and run coserver top")
    if options.get("control") == "off":
        raise SetupError("--live needs the control socket; leave out --no-control")
    if not options.get("uds") and options.get("fd") is None:
        options.setdefault("port", 8000)
    server = app.start(**options)
    ended_by: int | None = None
    try:
        on_start(server)
        if server.control is None:
            raise SetupError("--live needs the control socket, which could not be opened; the log says why")
        with _quiet() as screen:
            try:
                client = Client(server.control.path)
                run(client, ended=lambda: not server.running, out=screen, quits="quit and stop the server")
            except SystemExit as ended:
                ended_by = int(ended.code or 0) - 128
        on_signal(server, 1)
    finally:
        _stop(server)
    return ended_by


def _stop(server: Server) -> None:
    try:
        server.stop()
    except KeyboardInterrupt:  # a second Ctrl+C: stop at once
        server.stop(0)


@contextmanager
def _quiet() -> Iterator[int]:
    """A descriptor of the terminal. Other output goes to a file meanwhile, and is shown at the end."""
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
        sys.stderr.write(f"… {len(written) - _SHOWN} earlier lines\n")
    for line in written[-_SHOWN:]:
        sys.stderr.write(line + "\n")
