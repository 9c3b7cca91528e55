"""What the command says on stderr: where it listens, that it drains, what went wrong. Plain where nobody looks on.

rich leaves colours out of pipes, of dumb terminals, and where NO_COLOR is set.
"""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.text import Text

from coserver import App, Server, __version__
from coserver.app.server import Address
from coserver.protocol.framing import FRAMINGS


def started(app: App, server: Server) -> None:
    """Name and version, each listener's URL with what answers there, and how to stop it."""
    width = max(len(address.url) for address in server.addresses)
    _say(Text.assemble(("coserver", "bold"), f" {__version__} serves ", (server.name, "bold")))
    for address in server.addresses:
        url = Text(address.url.ljust(width), "cyan")
        _say(Text.assemble("  ", url, "  ", _what(app, address)))
    settings = server.settings
    _say(Text(f"  backend {settings.backend}, codec {settings.codec}", "dim"))
    _say(Text("Press Ctrl+C to stop"))


def stopping(server: Server, signals: int) -> None:
    """The first signal begins a drain, the second ends it."""
    running = server.exchanges
    if signals > 1:
        _say(Text("stopping at once", "yellow"))
    elif running:
        requests = _count(running, "request")
        _say(Text(f"stopping: finishing {requests}, Ctrl+C again to stop at once", "yellow"))
    else:
        _say(Text("stopping"))


def trouble(message: str, way_out: str = "", cause: BaseException | None = None) -> None:
    """What went wrong and the way out; for an error in the user's own module, its traceback first."""
    if cause is not None:
        _say(
            Text("".join(traceback.format_exception(type(cause), cause, _from_user_code(cause.__traceback__))).rstrip())
        )
    _say(Text.assemble(("error: ", "bold red"), message))
    if way_out:
        _say(Text(f"  {way_out}"))


def _what(app: App, address: Address) -> str:
    """Which handlers answer at an address."""
    if address.name == "http":
        what = f"HTTP, {_count(len(app.routes), 'route')}"
    else:
        route = next(route for route in app.tcp_routes if route.name == address.name)
        framing = next((name for name, make in FRAMINGS.items() if make is route.framing), "of its own")
        what = f"{route.name}, framing {framing}"
    # The URL is one that can be opened; a wildcard address says more than it.
    return f"{what}, on all addresses" if address.host in ("", "0.0.0.0", "::") and not address.path else what


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the import machinery and of this package."""
    ours = ("<frozen importlib", importlib.__file__, str(Path(__file__).parent))
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(ours):
        trace = trace.tb_next
    return trace


class _Stderr(Console):
    def on_broken_pipe(self) -> None:
        """rich would end the process; that nobody reads stderr any more is no reason to stop serving."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # or Python fails at its end to flush what it holds, and says so with code 120
        os.close(nowhere)


def _say(text: Text) -> None:
    # Made anew each time: sys.stderr may have been replaced since.
    console = _Stderr(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    try:
        console.print(text)
    except OSError:
        pass  # the terminal is gone
