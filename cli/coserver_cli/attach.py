"""``top``, ``step`` and ``trace``: find the server, hand over to the view, and say why it could not be.

Exit codes: 3 if no server is reachable, 2 for what was written wrongly.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from coserver.control.client import Client, Ended, Refused, Unreachable, find
from coserver.control.edit_syntax import read_hold
from coserver.observe.filters import FilterError

from . import console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from coserver.views.shell.trace import TraceOptions

#: What a server that is controlled by a port must be told; in the environment, for a command line is no secret.
TOKEN = "COSERVER_CONTROL_TOKEN"
UNREACHABLE, USAGE, INTERRUPTED = 3, 2, 130


def top(server: str | None, filter: str, *, as_json: bool, once: bool) -> int:
    """The dashboard, or one picture."""
    if as_json or once:
        return _with(server, lambda client: _picture(client, filter, as_json=as_json))
    from coserver.views.dashboard.run import run

    return _with(server, lambda client: run(client, filter))


def _picture(client: Client, filter: str, *, as_json: bool) -> None:
    snapshot = client.snapshot(filter)
    if as_json:
        print(snapshot.to_json())
        return
    from coserver.views.dashboard.run import picture

    picture(snapshot)


def step(filter: str, at: str, server: str | None, limit: float | None, *, as_json: bool, once: bool) -> int:
    """Commands from stdin, what is held on stdout."""
    from coserver.views.shell.line_input import LineInput
    from coserver.views.shell.step import LineStepper, StepOptions

    options = StepOptions(json=as_json, once=once, asks=sys.stdin.isatty() and not as_json)
    _, phases = read_hold(f"@{at}")

    def run(client: Client) -> None:
        with client.step(filter, phases, limit) as opened:
            LineStepper(opened, sys.stdout, options).run(LineInput(sys.stdin.fileno()))

    return _with(server, run)


def trace(options: TraceOptions, server: str | None) -> int:
    """Finished exchanges on stdout."""
    from coserver.views.shell.trace import follow

    return _with(server, lambda client: follow(client, options, sys.stdout, sys.stderr))


def _with(server: str | None, run: Callable[[Client], Any]) -> int:
    with _told() as codes:
        run(find(server, os.environ.get(TOKEN)))
    return codes[0] if codes else 0


@contextmanager
def _told() -> Iterator[list[int]]:
    codes: list[int] = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what an older locale cannot show is shown by a ?
    try:
        yield codes
    except Ended as error:
        console.error(str(error))
        codes.append(USAGE)
    except Unreachable as error:
        console.error(str(error))
        codes.append(UNREACHABLE)
    except Refused as error:
        console.error(str(error))
        codes.append(USAGE)
    except FilterError as error:
        console.error(str(error))
        codes.append(USAGE)
    except OSError as error:
        console.error(str(error))
        codes.append(1)
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            print()  # what the shell says next begins a line of its own
        codes.append(INTERRUPTED)
