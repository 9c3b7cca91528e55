"""``coserver open FILE.har``: the requests of a HAR file, printed as ``coserver trace`` prints those of a server."""

from __future__ import annotations

import sys
from pathlib import Path

from coserver.observe.export.har_reader import HarError, read_har
from coserver.observe.filters import FilterError, parse
from coserver.observe.trace.trace import Trace
from coserver.views.shell.trace import TraceOptions, print_traces

from .. import console


class CannotRead(Exception):
    """The file or the filter cannot be read. ``code`` is the command's exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def read(file: Path, filter: str) -> list[Trace]:
    """The requests of a file that match. Raises CannotRead."""
    try:
        matches = parse(filter).matches
        traces = read_har(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except FilterError as error:
        raise CannotRead(str(error), 2) from None
    except OSError as error:
        raise CannotRead(f"{file} cannot be read: {error.strerror}") from None
    except HarError as error:
        raise CannotRead(f"{file}: {error}") from None
    return [trace for trace in traces if matches(trace)]


def run(file: Path, options: TraceOptions) -> int:
    """Print the requests; the exit code."""
    try:
        traces = read(file, options.filter)
    except CannotRead as error:
        console.error(str(error))
        return error.code
    print_traces(traces, options, sys.stdout)
    if not traces:
        console.warning(f"no request of {file} matches" if options.filter else f"{file} has no request")
    return 0
