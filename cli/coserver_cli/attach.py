"""The work of ``top``, ``step`` and ``trace``: find the server, run the view, report errors.

Exit codes: 3 if no server can be reached, 2 for wrong usage, 130 after Ctrl+C, 1 for other failures.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coserver.control.client import Client, Ended, Refused, Unreachable, find
from coserver.control.edit_syntax import read_hold
from coserver.control.socket_path import running
from coserver.observe.filters import FilterError

from . import console

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coserver.views.shell.trace import TraceOptions

#: The variable with the token of a control port. No flag has it: other users can read a command line.
TOKEN = "COSERVER_CONTROL_TOKEN"
#: How a filter begins, and no server's name does.
_BEGINS = ("~", "!", "(")
UNREACHABLE, USAGE, INTERRUPTED = 3, 2, 130


class Words:
    """The words of a command line that name a server and a filter: ``shop '~u /a'``, or only one of them.

    A single word is the server if it names one that runs, else the filter. For ``top`` it is the server unless it
    begins as a filter does.
    """

    def __init__(self, words: Sequence[str] | None, server: str | None = None, filter: str = "") -> None:
        self._words = list(words or ())
        self._server, self._filter = server, filter

    def read(self, *, server_first: bool = False) -> tuple[str | None, str]:
        """The server, None for the only one, and the filter. Raises WrongWords."""
        words, server, filter = list(self._words), self._server, self._filter
        if len(words) == 2 and words[0].startswith(_BEGINS) and not words[1].startswith(_BEGINS):
            words.reverse()
        if words and server is None and (len(words) > 1 or filter or self._names_server(words[0], server_first)):
            server = words.pop(0)
        if words and not filter:
            filter = words.pop(0)
        if words:
            raise WrongWords(
                f"there are a server's NAME and a FILTER, and {words[0]!r} is neither; put a filter of several words "
                f"in quotes: '~u /page & ~m GET'"
            )
        return server, filter

    @staticmethod
    def _names_server(word: str, server_first: bool) -> bool:
        if word.startswith(_BEGINS):
            return False
        if server_first or _is_socket(word):
            return True
        return any(word in (name, str(pid), path.stem) for name, pid, path in running())


def _is_socket(word: str) -> bool:
    try:
        return Path(word).is_socket()
    except (OSError, ValueError):  # a filter may be too long for a path
        return False


class WrongWords(ValueError):
    """The command line names more than a server and a filter."""


def top(words: Words, *, as_json: bool, once: bool) -> int:
    """Run the dashboard, or print one snapshot."""

    def run(client: Client, filter: str) -> None:
        if as_json or once:
            _print_snapshot(client, filter, as_json=as_json)
        else:
            from coserver.views.dashboard.run import run

            run(client, filter)

    return _with(words, run, server_first=True)


def _print_snapshot(client: Client, filter: str, *, as_json: bool) -> None:
    snapshot = client.snapshot(filter)
    if as_json:
        print(snapshot.to_json())
        return
    from coserver.views.dashboard.run import print_snapshot

    print_snapshot(snapshot)


def step(words: Words, at: str, limit: float | None, *, as_json: bool, once: bool) -> int:
    """Read commands from stdin, print held exchanges to stdout."""
    from coserver.views.shell.line_input import LineInput
    from coserver.views.shell.step import LineStepper, StepOptions

    options = StepOptions(json=as_json, once=once, asks=sys.stdin.isatty() and not as_json)
    _, phases = read_hold(f"@{at}")

    def run(client: Client, filter: str) -> None:
        with client.step(filter, phases, limit, by="coserver step") as opened:
            LineStepper(opened, sys.stdout, options).run(LineInput(sys.stdin.fileno()))

    return _with(words, run)


def trace(words: Words, options: TraceOptions) -> int:
    """Print finished exchanges to stdout."""
    from coserver.views.shell.trace import follow

    return _with(
        words, lambda client, filter: follow(client, replace(options, filter=filter), sys.stdout, sys.stderr)
    )


def _with(words: Words, run: Callable[[Client, str], Any], *, server_first: bool = False) -> int:
    with _exit_codes() as codes:
        server, filter = words.read(server_first=server_first)
        run(find(server, os.environ.get(TOKEN)), filter)
    return codes[0] if codes else 0


@contextmanager
def _exit_codes() -> Iterator[list[int]]:
    """Report errors on stderr; the exit code of one is appended to the list."""
    codes: list[int] = []
    try:
        yield codes
    except (Ended, WrongWords) as error:
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
