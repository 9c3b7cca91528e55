"""The lifespan of an ASGI application (ASGI Lifespan Protocol 2.0): one task, from the startup to the shutdown."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from ..server.handler.errors import SetupError
from .asgi import AsgiApp, Message

log = logging.getLogger("coserver.app")

#: Seconds for the shutdown if the server is being cancelled.
_SHUTDOWN = 5.0


class Lifespan:
    """One run of the protocol. ``state`` is what the application has put into the scope's."""

    def __init__(self, application: AsgiApp, name: str, mode: str) -> None:
        self._application = application
        self._name = name
        self._mode = mode
        self.state: dict[str, Any] = {}
        self.supported = True
        self._asked = anyio.Event()  # the shutdown
        self._received = 0
        self._shield = anyio.CancelScope(shield=True)  # a server that is cancelled lets the application shut down
        self._started = anyio.Event()
        self._stopped = anyio.Event()
        self._startup_told = False
        self._startup_failed: str | None = None
        self._shutdown_failed: str | None = None
        self._raised: BaseException | None = None

    async def _receive(self) -> Message:
        self._received += 1
        if self._received == 1:
            return {"type": "lifespan.startup"}
        if self._received == 2:
            await self._asked.wait()
            return {"type": "lifespan.shutdown"}
        await anyio.sleep_forever()
        raise AssertionError

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        starting = not self._started.is_set()
        if kind == "lifespan.startup.complete" and starting:
            self._startup_told = True
            self._started.set()
        elif kind == "lifespan.startup.failed" and starting:
            self._startup_failed = message.get("message", "") or "no message"
            self._started.set()
        elif kind == "lifespan.shutdown.complete" and self._asked.is_set():
            self._stopped.set()
        elif kind == "lifespan.shutdown.failed" and self._asked.is_set():
            self._shutdown_failed = message.get("message", "") or "no message"
            self._stopped.set()
        else:
            raise RuntimeError(f"unexpected message {kind!r} (ASGI lifespan)")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            with self._shield:
                await self._application(scope, self._receive, self._send)
        except Exception as error:
            self._raised = error
        finally:
            self._started.set()
            self._stopped.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the application, and stop it at the end of the block. Raises SetupError if the startup fails."""
        failure: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            try:
                await self._started.wait()
                self._judge_startup()
                yield
            except Exception as error:
                failure = error  # raised below: a task group would wrap it in an ExceptionGroup
            finally:
                self._asked.set()
                if self._startup_told and not self._stopped.is_set():
                    await self._await_shutdown()
                self._shield.cancel()
        if failure is not None:
            raise failure
        if self._startup_told:
            self._judge_shutdown()

    async def _await_shutdown(self) -> None:
        """Wait for the shutdown. A cancellation leaves it a few seconds."""
        try:
            await self._stopped.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_SHUTDOWN, shield=True):
                await self._stopped.wait()
            raise

    def _judge_startup(self) -> None:
        raised = self._raised
        if self._startup_failed is not None:
            raise SetupError(f"the startup of {self._name} failed: {self._startup_failed}") from raised
        if self._startup_told:
            return
        self.supported = False
        if self._mode == "on":
            what = f"raised {raised!r}" if raised is not None else "returned"
            raise SetupError(
                f"{self._name} {what} before lifespan.startup.complete; with lifespan='auto' it is served without"
            ) from raised
        if raised is not None:
            log.info("%s has no lifespan (it raised %r): it is served without", self._name, raised)

    def _judge_shutdown(self) -> None:
        if self._shutdown_failed is not None:
            log.error("the shutdown of %s failed: %s", self._name, self._shutdown_failed)
        elif self._raised is not None:
            log.error("the shutdown of %s failed", self._name, exc_info=self._raised)
