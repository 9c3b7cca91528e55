"""The command's lines on stderr: where it listens, that it drains, warnings and errors.

rich leaves out colours in pipes, on dumb terminals, and if NO_COLOR is set.
"""

from __future__ import annotations

import importlib
import logging
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.text import Text

import coserver
from coserver import Server, __version__
from coserver.app.address import Address
from coserver.views.text import counted

from .log import writer

log = logging.getLogger("coserver.cli")
#: All lines go to the log instead: in a JSON log, a line that is not JSON would stop its reader.
as_records = False
_OURS = Path(coserver.__file__).parent, Path(__file__).parent


def started(server: Server) -> None:
    """Name and version, each listener's URL with the app that answers there, and how to stop the server."""
    width = max(len(address.url) for address in server.addresses)
    say(Text.assemble(("coserver", "bold"), f" {__version__} serves ", (server.name, "bold")))
    for address in server.addresses:
        url = Text(address.url.ljust(width), "cyan")
        say(Text.assemble("  ", url, "  ", _what(address)))
    settings = server.settings
    say(Text(f"  backend {settings.backend}, codec {settings.codec}", "dim"))
    say(Text("Press Ctrl+C to stop"))


def stopping(server: Server, signals: int) -> None:
    """The first signal starts a drain, the second ends it."""
    running = server.exchanges
    if signals > 1:
        say(Text("stopping at once", "yellow"))
    elif running:
        requests = counted(running, "request")
        say(Text(f"stopping: finishing {requests}, Ctrl+C again to stop at once", "yellow"))
    else:
        say(Text("stopping"))


def stopped() -> None:
    """The signal came while nothing was served."""
    say(Text("stopping"))


def app_found(target: str, others: Sequence[str]) -> None:
    """The app that was chosen without a name, and the others that were found."""
    rest = f"; other apps here: {', '.join(others)}" if others else ""
    say(Text.assemble("found ", (target, "bold"), rest))


def serving_again(server: Server) -> None:
    """The next child of a reload listens at the same addresses as the last one."""
    say(Text.assemble("serving ", (server.name, "bold"), " again"))


def watching(folders: Sequence[Path]) -> None:
    """The folders that a reload watches."""
    say(Text(f"watching {', '.join(map(_short, folders))} for changes", "dim"))


def reloading(files: Mapping[Path, str]) -> None:
    """The reason of a reload: the first changed file, and how many more."""
    file, what = min(files.items())
    # The system reports "added" if an editor replaces a file by a new one.
    what = "deleted" if what == "deleted" and len(files) == 1 and not file.exists() else "changed"
    more = f" and {counted(len(files) - 1, 'more file')}" if len(files) > 1 else ""
    say(Text.assemble((_short(file), "cyan"), f"{more} {what}: reloading"))


def waiting_for_change(code: int) -> None:
    """The child has ended without a request to do so."""
    what = "the app has ended" if not code else "nothing is served"
    by = f" (signal {-code})" if code < 0 else ""
    say(Text(f"{what}{by}: waiting for a change", "yellow"))


def warning(message: str) -> None:
    """A setting that has no effect."""
    if as_records:
        return log.warning("%s", message)
    return say(Text.assemble(("warning: ", "bold yellow"), message))


def traceback_of(error: BaseException) -> str:
    """The traceback of an error in the user's module, as Python writes it."""
    return "".join(traceback.format_exception(type(error), error, _from_user_code(error.__traceback__))).rstrip()


def error(message: str, way_out: str = "", cause: BaseException | None = None) -> None:
    """An error and the way out. For an error in the user's module, its traceback first."""
    if as_records:
        return log.error("%s", f"{message}: {way_out}" if way_out else message, exc_info=cause)
    if cause is not None:
        say(Text(traceback_of(cause)))
    say(Text.assemble(("error: ", "bold red"), message))
    if way_out:
        say(Text(f"  {way_out}"))
    return None


def place_of(error: BaseException) -> str:
    """The user's line that an error of the library comes from, "shop.py:12: ..."; "" if there is none.

    A note of the error names it, or else the traceback.
    """
    if notes := getattr(error, "__notes__", ()):
        return str(notes[-1]).replace(f"{os.getcwd()}/", "")
    for step in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(step.filename)
        if step.line and not any(file.is_relative_to(ours) for ours in _OURS):
            return f"{_short(file)}:{step.lineno}: {step.line}"
    return ""


def _what(address: Address) -> str:
    """The app or handler that answers at an address."""
    # A TCP listener is named after its handler.
    name = f"{address.name}: " if address.protocol == "http" and not address.name.startswith("http") else ""
    # The URL can be opened, so it does not show a wildcard address.
    everywhere = ", on all addresses" if {"", "0.0.0.0", "::"} & set(address.hosts) and not address.path else ""
    others = "".join(f", and {url}" for url in address.urls[1:])
    return f"{name}{address.serves}{everywhere}{others}"


def _short(path: Path) -> str:
    """A path relative to the current folder, if it lies there."""
    try:
        return str(path.relative_to(Path.cwd())) if path != Path.cwd() else str(path)
    except (ValueError, OSError):  # the folder may be gone
        return str(path)


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the import system, of this package, and of the library around user code."""
    ours = ("<frozen importlib", importlib.__file__, str(Path(__file__).parent))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    theirs = trace
    while theirs is not None and _runs_others(theirs.tb_frame.f_globals.get("__name__", "")):
        theirs = theirs.tb_next
    return theirs or trace  # an error of the library itself keeps all its frames


def _runs_others(module: str) -> bool:
    return module.partition(".")[0] in ("coserver", "anyio", "asyncio", "uvloop", "trio", "outcome", "contextlib")


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        """Keep serving if nobody reads stderr any more; rich would end the process."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # else Python fails to flush stderr at its end, and exits with code 120
        os.close(nowhere)


def say(text: Text) -> None:
    """Write a line to stderr, or a record if the log is JSON."""
    if as_records:
        return log.info("%s", text.plain.strip())
    # A new console each time: sys.stderr may have been replaced.
    console = _Stderr(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    try:
        if (log_writer := writer()) is not None:  # keeps the order of log lines, and never waits for a slow reader
            with console.capture() as said:
                console.print(text)
            log_writer.write(said.get())
        else:
            console.print(text)
    except OSError:
        pass  # the terminal is gone
    return None
