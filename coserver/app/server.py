"""The running Server: where it listens, and how it is stopped, from any thread."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio

from ..server.handler.errors import SetupError
from ..transport.cancellation import where_thread
from ..transport.certificates import CertificateError
from .address import Address
from .config.settings import Settings
from .config.validate import seconds
from .observed import Observed

if TYPE_CHECKING:
    from ..control.host import Control
    from ..server.service import Service

log = logging.getLogger("coserver.app")

#: Seconds between two looks of who waits for a server's end at whether it can still come.
_LOOK = 0.5
#: Seconds for a loop's last turns, once its handlers' ``finally`` blocks have had their time.
_AFTER_CLEANUP = 1.0
#: Seconds to wait for a replaced server's last accept. It takes one turn of its loop; a stuck loop accepts nobody.
_LAST_ACCEPT = 1.0


class Server(Observed):
    """A running app. ``with server:`` stops it at the end of the block."""

    def __init__(self, name: str, settings: Settings, services: list[Service], addresses: tuple[Address, ...]) -> None:
        super().__init__(name, services, addresses)
        self.settings = settings
        self._ended = threading.Event()
        self._drained = anyio.Event()
        #: Whether its block ends with it, so that ``stop`` can wait for the block, and what the app does after the last
        #: request: so in a thread of its own and in the foreground. Someone else's block may go on.
        self.owns_block = False
        self.control: Control | None = None  # its control socket, if it has one
        self._draining: list[Server] = []  # its predecessors, as far as they have not ended

    def __repr__(self) -> str:
        state = "stopped" if not self._running else f"{self.connections} connections"
        return f"<Server {self.name!r} {', '.join(address.url for address in self.addresses)}, {state}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def has_certificates(self) -> bool:
        """Whether any of its listeners speaks TLS."""
        return any(one.certificates is not None for one in self._services)

    def reload_certificates(self) -> None:
        """Read the files of all TLS listeners again, for new connections; those that stand go on. From any thread.

        Raises SetupError for what cannot be used: those listeners keep the certificates that they have, others do not.
        """
        wrong: list[str] = []
        for certificates in dict.fromkeys(one.certificates for one in self._services if one.certificates is not None):
            try:
                certificates.reload()
            except CertificateError as error:
                wrong.append(str(error))
        if wrong:
            raise SetupError(f"the certificates read before stay in use: {'; '.join(wrong)}")

    def stop(self, grace: float | None = None) -> None:
        """Stop accepting, let what runs end within ``grace`` seconds (default: ``Limits.grace``), then cancel it.

        Blocks until nothing is left; on the server's own thread (a handler, say) it begins the drain and returns. Twice
        is fine. What no cancellation reaches, a handler that computes for ever say, is logged and left. Raises
        ValueError.
        """
        began = monotonic()
        self.begin_stop(seconds(grace))
        here = threading.get_ident()
        if here != self.thread:
            for server in (self, *self._draining):
                if here != server.thread:
                    server._wait_for_end(began, grace)

    def wait_for_end(self) -> None:
        """In another thread than its own: until it has ended."""
        self._ended.wait()

    def _wait_for_end(self, began: float, grace: float | None) -> None:
        """Until it has ended; but not for ever where its last requests cannot be ended."""
        while not self._ended.wait(_LOOK):
            if self._running and monotonic() > self._ends_by(began, grace):
                log.error("%r cannot be stopped; its thread goes on, at %s", self, where_thread(self.thread))
                return

    def _ends_by(self, began: float, grace: float | None) -> float:
        """When all must have ended, cancelled and cleaned up; if it has not heeded the stop yet, reckoned from here."""
        ends = [
            one.ends_by if one.draining else began + (one.limits.grace if grace is None else grace)
            for one in self._services
        ]
        return max(ends) + max(one.limits.cleanup_timeout for one in self._services) + _AFTER_CLEANUP

    def begin_stop(self, grace: float | None = None) -> None:
        """Begin the drain and return."""
        if self.on_its_thread:
            self._stop(grace)
        else:
            self.post(self._stop, grace)

    def _stop(self, grace: float | None) -> None:
        for service in self._services:
            service.stop(grace)

    async def wait(self) -> None:
        """On the server's own loop: wait until its last connection has ended."""
        await self._drained.wait()

    def drained(self) -> None:
        """Called on the loop when the last connection has ended."""
        self._running = False
        self._drained.set()
        if not self.owns_block:
            self._ended.set()

    def ended(self) -> None:
        """Called on the loop when nothing is left: the app's lifespans have been left too."""
        self._ended.set()
        self._stop_looking()
        self._forget_ended()

    async def replace(self, predecessor: Server) -> None:
        """Take the place of ``predecessor``, from whose listening sockets this server accepts already.

        When this returns, no client comes to the predecessor any more; it drains in its own thread.
        """
        self._draining = [predecessor, *predecessor._draining]
        predecessor.begin_stop()
        until = monotonic() + _LAST_ACCEPT
        while predecessor.accepting and monotonic() < until:  # noqa: ASYNC110 - an event would be of another loop
            await anyio.sleep(0.001)
        self._forget_ended()

    def _forget_ended(self) -> None:
        # A cell may run a hundred times: no server may keep all its predecessors alive.
        self._draining = [server for server in self._draining if server.running]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ..notebook.cell import server_bundle

        return server_bundle(self)

    def _ipython_display_(self) -> None:
        from ..notebook.cell import kernel_shell, show

        show(self)
        if self._running and kernel_shell() is not None:
            self.live().show()
