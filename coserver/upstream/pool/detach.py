"""Detached subrequests: they outlive the exchange, a drain waits for them, and ``on_done`` is called at their end."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING

import anyio

from ...hooks.workers import run_blocking
from ...transport.cancellation import is_cancellation

if TYPE_CHECKING:
    from ..subrequest import Subrequest
    from .client import Client

log = logging.getLogger("coserver.upstream")


class Detached:
    """The detached subrequests of one client. ``alone`` counts those without an exchange, for which no server's drain
    waits.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.alone = 0
        self._changed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Detached of {self._client.name}: {self.alone} stand alone>"

    def begin(self, sub: Subrequest) -> None:
        """Make the drain of the server wait for ``sub``, or, without an exchange, the closing of the upstream."""
        if sub.exchange is not None:
            sub.release = sub.exchange.hold_drain()
        else:
            self.alone += 1
            sub.release = self._one_less

    def ended(self, sub: Subrequest) -> None:
        """Call ``on_done``. Without one, log a failure that nobody awaited."""
        if sub.on_done is not None and not self._client.closed:
            self._client.spawn(self._tell_done, sub)
            return
        if sub.error is not None and not sub.awaited:
            log.error("%r, detached%s, failed: %s", sub, _origin(sub), sub.error)
        _let_go(sub)

    async def _tell_done(self, sub: Subrequest) -> None:
        assert sub.on_done is not None
        try:
            if inspect.iscoroutinefunction(sub.on_done):
                await sub.on_done(sub)
            else:
                value = await run_blocking(sub.on_done, sub)
                if hasattr(value, "__await__"):
                    await value
        except BaseException as error:
            if is_cancellation(error):
                raise
            log.exception("on_done of %r, detached%s, raised", sub, _origin(sub))
        finally:
            _let_go(sub)

    def _one_less(self) -> None:
        self.alone -= 1
        if not self.alone:
            self._changed.set()

    async def wait(self) -> None:
        """Wait until all subrequests without an exchange have ended."""
        while self.alone:
            self._changed = anyio.Event()
            await self._changed.wait()


def _let_go(sub: Subrequest) -> None:
    release, sub.release = sub.release, None
    if release is not None:
        release()


def _origin(sub: Subrequest) -> str:
    return f" by exchange {sub.exchange.id}" if sub.exchange is not None else ""
