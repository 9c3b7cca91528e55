"""What the command says on stderr: where it listens, that it drains, what went wrong. Plain where nobody looks on.

rich leaves colours out of pipes, of dumb terminals, and where NO_COLOR is set.
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

from coserver import Server, __version__
from coserver.app.address import Address
from coserver.views.text import counted

from .log import writer

log = logging.getLogger("coserver.cli")
#: Everything goes to the log: where that is JSON, a line that is none would stop whoever reads it.
as_records = False


def started(server: Server) -> None:
    """Name and version, each listener's URL with what answers there, and how to stop it."""
    width = max(len(address.url) for address in server.addresses)
    say(Text.assemble(("coserver", "bold"), f" {__version__} serves ", (server.name, "bold")))
    for address in server.addresses:
        url = Text(address.url.ljust(width), "cyan")
        say(Text.assemble("  ", url, "  ", _what(address)))
    settings = server.settings
    say(Text(f"  backend {settings.backend}, codec {settings.codec}", "dim"))
    say(Text("Press Ctrl+C to stop"))


def stopping(server: Server, signals: int) -> None:
    """The first signal begins a drain, the second ends it."""
    running = server.exchanges
    if signals > 1:
        say(Text("stopping at once", "yellow"))
    elif running:
        requests = counted(running, "request")
        say(Text(f"stopping: finishing {requests}, Ctrl+C again to stop at once", "yellow"))
    else:
        say(Text("stopping"))


def stopped() -> None:
    """Nothing served any more when the signal came."""
    say(Text("stopping"))


def app_found(target: str, others: Sequence[str]) -> None:
    """The app that nobody named, and those that it was preferred to."""
    beside = f"; there are {', '.join(others)} too" if others else ""
    say(Text.assemble("found ", (target, "bold"), beside))


def serving_again(server: Server) -> None:
    """A reload's next child listens where the one before did."""
    say(Text.assemble("serving ", (server.name, "bold"), " again"))


def watching(folders: Sequence[Path]) -> None:
    """What a reload watches."""
    say(Text(f"watching {', '.join(map(_short, folders))} for changes", "dim"))


def reloading(files: Mapping[Path, str]) -> None:
    """Why it reloads: the first file, and how many more."""
    file, what = min(files.items())
    # An editor that writes a new file over the old one has added it, to the system's mind.
    what = "deleted" if what == "deleted" and len(files) == 1 and not file.exists() else "changed"
    more = f" and {counted(len(files) - 1, 'more file')}" if len(files) > 1 else ""
    say(Text.assemble((_short(file), "cyan"), f"{more} {what}: reloading"))


def waiting_for_change(code: int) -> None:
    """The child has ended by itself."""
    what = "the app has ended" if not code else "nothing is served"
    by = f" (signal {-code})" if code < 0 else ""
    say(Text(f"{what}{by}: waiting for a change", "yellow"))


def warning(message: str) -> None:
    """Something that was asked for, it seems, and means nothing."""
    if as_records:
        return log.warning("%s", message)
    return say(Text.assemble(("warning: ", "bold yellow"), message))


def traceback_of(error: BaseException) -> str:
    """The traceback of an error in the user's own module, as Python writes it."""
    return "".join(traceback.format_exception(type(error), error, _from_user_code(error.__traceback__))).rstrip()


def error(message: str, way_out: str = "", cause: BaseException | None = None) -> None:
    """What went wrong and the way out; for an error in the user's own module, its traceback first."""
    if as_records:
        return log.error("%s", f"{message}: {way_out}" if way_out else message, exc_info=cause)
    if cause is not None:
        say(Text(traceback_of(cause)))
    say(Text.assemble(("error: ", "bold red"), message))
    if way_out:
        say(Text(f"  {way_out}"))
    return None


def _what(address: Address) -> str:
    """What answers at an address."""
    # A TCP listener's handler says it already.
    name = f"{address.name}: " if address.protocol == "http" and not address.name.startswith("http") else ""
    # The URL is one that can be opened; a wildcard address says more than it.
    everywhere = ", on all addresses" if address.host in ("", "0.0.0.0", "::") and not address.path else ""
    return f"{name}{address.serves}{everywhere}"


def _short(path: Path) -> str:
    """A path as it is said from the current folder."""
    try:
        return str(path.relative_to(Path.cwd())) if path != Path.cwd() else str(path)
    except ValueError:
        return str(path)


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the import machinery, of this package, and of what runs the user's code."""
    ours = ("<frozen importlib", importlib.__file__, str(Path(__file__).parent))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    theirs = trace
    while theirs is not None and _runs_others(theirs.tb_frame.f_globals.get("__name__", "")):
        theirs = theirs.tb_next
    return theirs or trace  # what the library itself did wrong is shown whole


def _runs_others(module: str) -> bool:
    return module.partition(".")[0] in ("coserver", "anyio", "asyncio", "uvloop", "trio", "outcome", "contextlib")


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        """rich would end the process; that nobody reads stderr any more is no reason to stop serving."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # or Python fails at its end to flush what it holds, and says so with code 120
        os.close(nowhere)


def say(text: Text) -> None:
    """A line on stderr, or a record where the log is JSON."""
    if as_records:
        return log.info("%s", text.plain.strip())
    # Made anew each time: sys.stderr may have been replaced since.
    console = _Stderr(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    try:
        if (log_writer := writer()) is not None:  # in line with the log, and without a wait for a slow reader
            with console.capture() as said:
                console.print(text)
            log_writer.write(said.get())
        else:
            console.print(text)
    except OSError:
        pass  # the terminal is gone
    return None
