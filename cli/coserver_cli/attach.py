"""The work of ``top``, ``step`` and ``trace``: find the server, run the view, report errors.

Exit codes: 3 if no server can be reached, 2 for wrong usage, 130 after Ctrl+C, 1 for other failures.
"""

from __future__ import annotations

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

#: The variable with the token of a control port. No flag has it: other users can read a command line.
TOKEN = "COSERVER_CONTROL_TOKEN"
UNREACHABLE, USAGE, INTERRUPTED = 3, 2, 130


def top(server: str | None, filter: str, *, as_json: bool, once: bool) -> int:
    """Run the dashboard, or print one snapshot."""
    if as_json or once:
        return _with(server, lambda client: _print_snapshot(client, filter, as_json=as_json))
    from coserver.views.dashboard.run import run

    return _with(server, lambda client: run(client, filter))


def _print_snapshot(client: Client, filter: str, *, as_json: bool) -> None:
    snapshot = client.snapshot(filter)
    if as_json:
        print(snapshot.to_json())
        return
    from coserver.views.dashboard.run import print_snapshot

    print_snapshot(snapshot)


def step(filter: str, at: str, server: str | None, limit: float | None, *, as_json: bool, once: bool) -> int:
    """Read commands from stdin, print held exchanges to stdout."""
    from coserver.views.shell.line_input import LineInput
    from coserver.views.shell.step import LineStepper, StepOptions

    options = StepOptions(json=as_json, once=once, asks=sys.stdin.isatty() and not as_json)
    _, phases = read_hold(f"@{at}")

    def run(client: Client) -> None:
        with client.step(filter, phases, limit, by="coserver step") as opened:
            LineStepper(opened, sys.stdout, options).run(LineInput(sys.stdin.fileno()))

    return _with(server, run)


def trace(options: TraceOptions, server: str | None) -> int:
    """Print finished exchanges to stdout."""
    from coserver.views.shell.trace import follow

    return _with(server, lambda client: follow(client, options, sys.stdout, sys.stderr))


def _with(server: str | None, run: Callable[[Client], Any]) -> int:
    with _exit_codes() as codes:
        run(find(server, os.environ.get(TOKEN)))
    return codes[0] if codes else 0


@contextmanager
def _exit_codes() -> Iterator[list[int]]:
    """Report errors on stderr; the exit code of one is appended to the list."""
    codes: list[int] = []
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
        if error.filename is None:
            raise  # stdout's: see ``streams``
        console.error(f"{error.filename} cannot be written: {error.strerror}")
        codes.append(1)
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            print()  # the shell's prompt starts on a new line
        codes.append(INTERRUPTED)
