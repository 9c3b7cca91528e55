"""The display of a server under the cell that started it: its links, and the exceptions of its handlers.

The server's thread updates it, at most five times a second. It is plain HTML, readable in a saved notebook. It is shown
in a kernel only: IPython in a terminal prints the server and its log.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from ..views.text import plain

if TYPE_CHECKING:
    from ..app.address import Addressed
    from ..app.inspect.failures import Failures
    from ..app.server import Server

Bundle = dict[str, str]
#: Seconds between two updates.
_PAUSE = 0.2

_cards: WeakKeyDictionary[Addressed, Card] = WeakKeyDictionary()
_linked: WeakSet[Addressed] = WeakSet()  # servers whose links alone were shown


def kernel_shell() -> Any:
    """IPython's shell if this process is a notebook's kernel, else None. It imports nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def server_bundle(server: Addressed) -> Bundle:
    """The server's name, state and links."""
    links = []
    for address in server.addresses:
        to, said = server.public_url_of(address), address.url
        note = f" {escape(plain(address.name))}" + (f", here {escape(said)}" if to != said else "")
        link = f'<a href="{escape(to)}" target="_blank">{escape(to)}</a>' if address.protocol == "http" else escape(to)
        links.append(f"{link}{note}")
    state = "" if server.running else " <em>stopped</em>"
    paths = "".join([f"\n{one}" for one in {server.public_url} if one != server.url])
    return {
        "text/plain": repr(server) + paths,
        "text/html": f"<div><strong>{escape(plain(server.name))}</strong>{state}<br>{'<br>'.join(links)}</div>",
    }


def failures_bundle(failures: Failures) -> Bundle:
    """All kept failures with their tracebacks; the newest is last, and open."""
    kept = list(failures)
    if not kept:
        return {"text/plain": repr(failures), "text/html": "<div><em>no handler has failed</em></div>"}
    older = failures.total - len(kept)
    more = f"{older} earlier failures are not shown" if older else ""
    markup, text = [f"<p>{more}</p>"] if more else [], [more] if more else []
    for at, one in enumerate(kept, 1):
        when = datetime.fromtimestamp(one.at).strftime("%H:%M:%S")
        head = f"{when} {plain(one.where)}: {plain(one.error)}"
        is_open = " open" if at == len(kept) else ""
        markup.append(
            f'<details{is_open}><summary style="color:#d0453b">{escape(head)}</summary>'
            f"<pre>{escape(_printable(one.traceback))}</pre></details>"
        )
        text.append(f"{head}\n{_printable(one.traceback)}")
    return {"text/plain": "\n".join(text), "text/html": f"<div>{''.join(markup)}</div>"}


class Card:
    """The display of one server. If it is shown again, it moves to the newest cell."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._handle: Any = None
        self._lock = threading.Lock()
        self._pending = False
        server.failures.follow(self._failed)

    @property
    def shown(self) -> bool:
        return self._handle is not None

    def show(self) -> None:
        """Display the server under this cell."""
        from IPython.display import DisplayHandle

        self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
        self._handle.display(self.bundle(), raw=True)

    def bundle(self) -> Bundle:
        """The server's links, and the exceptions of its handlers."""
        bundle = server_bundle(self._server)
        if not self._server.failures.total:
            return bundle
        failed = failures_bundle(self._server.failures)
        return {kind: f"{bundle[kind]}\n{failed[kind]}" for kind in bundle}

    def _failed(self) -> None:
        with self._lock:
            if self._pending or self._handle is None:
                return
            self._pending = True
        timer = threading.Timer(_PAUSE, self._update)
        timer.daemon = True
        timer.start()

    def _update(self) -> None:
        with self._lock:
            self._pending = False
        try:
            self._handle.update(self.bundle(), raw=True)
        except Exception as error:  # the kernel is ending, and its channels are closed
            print(f"coserver: cannot show the failures of {self._server!r}: {error!r}", file=sys.stderr)


def show(server: Server) -> None:
    """Display the server under the running cell, with the exceptions of its handlers from now on."""
    if kernel_shell() is None:
        show_links(server)
        return
    card = _cards.get(server)
    if card is None:
        card = _cards[server] = Card(server)
    card.show()


def show_links(server: Addressed) -> None:
    """Display only the links; exceptions of handlers are shown by the server's own process."""
    from IPython.display import display

    _linked.add(server)

    display(server_bundle(server), raw=True)  # type: ignore[no-untyped-call]


def show_at_end(server: Any, how: Callable[[Any], None] | None = None) -> None:
    """Display the server when the running cell has ended, unless it is shown already or has stopped."""
    shell, how = kernel_shell(), how or show
    if shell is None or threading.current_thread() is not threading.main_thread():
        return

    def ended(*_: Any) -> None:
        shell.events.unregister("post_run_cell", ended)
        if server.running and server not in _cards and server not in _linked:
            how(server)

    shell.events.register("post_run_cell", ended)


def tell(words: str) -> None:
    """Print the words under the running cell, in a kernel only."""
    if kernel_shell() is not None:
        print(words)


def _printable(text: str) -> str:
    return "\n".join([plain(line) for line in text.split("\n")])
