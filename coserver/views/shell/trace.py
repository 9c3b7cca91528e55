"""``coserver trace``: print exchanges as they end, as a line, waterfall, curl command or JSON each; or a HAR file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from ...control.client import Client
from ...control.wire_format import read_trace, trace_dict
from ...observe.export.har import to_har
from ...observe.export.replay import ReplayError, as_curl
from ...observe.trace.trace import Trace
from ...whole_file import whole_file
from .. import waterfall
from ..text import counted
from ..traces import line_of


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """Options. Each exchange is printed as ``json``, ``waterfall``, ``curl`` or else a line.

    ``once``: print the kept traces only. ``har`` is a file for all of them, complete when the command ends; then no
    lines are printed.
    """

    filter: str = ""
    json: bool = False
    waterfall: bool = False
    curl: bool = False
    once: bool = False
    har: Path | None = None

    @property
    def whole(self) -> bool:
        """Whether fields and bodies are needed."""
        return self.curl or self.har is not None


def follow(client: Client, options: TraceOptions, out: TextIO, note: TextIO) -> None:
    """Print until the stream ends, or until Ctrl+C. The HAR file is completed in any case.

    Raises Unreachable, Refused, OSError if the file cannot be written.
    """
    console = Console(file=out, highlight=False, emoji=False, soft_wrap=not options.waterfall)
    with _har_file(options.har, note) as keep:
        try:
            for trace in _traces(client, options, note):
                keep(trace)
                _print(console, out, trace, options)
        except KeyboardInterrupt:
            pass


def print_traces(traces: Iterable[Trace], options: TraceOptions, out: TextIO) -> None:
    """Print traces that are there already, those of a file say."""
    console = Console(file=out, highlight=False, emoji=False, soft_wrap=not options.waterfall)
    for trace in traces:
        _print(console, out, trace, options)


@contextmanager
def _har_file(path: Path | None, note: TextIO) -> Iterator[Callable[[Trace], None]]:
    """A function that appends a trace to the file. Entries are written at once, since a day's may not fit in memory."""
    if path is None:
        yield lambda trace: None
        return
    count = 0
    failed = False

    def keep(trace: Trace) -> None:
        nonlocal count, failed
        for entry in to_har([trace])["log"]["entries"]:
            before = ",\n" if count else "\n"
            try:
                file.write(before + json.dumps(entry, ensure_ascii=False))  # one write: Ctrl+C may come in between
                file.flush()
            except OSError:
                failed = True
                raise
            count += 1

    try:
        with whole_file(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(to_har([])).removesuffix("]}}"))
            stopped: BaseException | None = None
            try:
                yield keep
            except BaseException as error:
                if failed:
                    raise
                stopped = error  # the end of the server, of the reader: what was recorded is whole
            file.write("\n]}}\n")
            file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    note.write(f"{counted(count, 'exchange')} written to {path}\n")
    if stopped is not None:
        raise stopped


def _traces(client: Client, options: TraceOptions, note: TextIO) -> Iterable[Trace]:
    if options.once:
        kept = client.traces(options.filter, whole=options.whole)
        yield from kept
        if not kept and not client.ask("GET", "/v1/traces?last=1")["recording"]:
            note.write("nothing is recorded: serve with --record, or leave out --once\n")
        return
    with client.follow(options.filter, whole=options.whole) as stream:
        for each in stream:
            if "lost" in each:
                note.write(f"{each['lost']} exchanges were lost, because this reader is too slow\n")
            else:
                yield read_trace(each)
    note.write(f"end of traces: {client.name} is stopping\n")


def _print(console: Console, out: TextIO, trace: Trace, options: TraceOptions) -> None:
    if options.json:
        out.write(json.dumps(trace_dict(trace, whole=options.whole), ensure_ascii=False) + "\n")
    elif options.curl:
        out.write(_curl(trace) + "\n")
    elif options.waterfall:
        console.print(waterfall.render(trace))
        console.print()
    elif options.har is None:
        line: Any = line_of(trace, console.width if console.is_terminal else 0)
        console.print(line if isinstance(line, Text) else str(line), soft_wrap=True)
    out.flush()


def _curl(trace: Trace) -> str:
    try:
        return as_curl(trace)
    except ReplayError as error:
        return f"# {trace.url}: {error}"
