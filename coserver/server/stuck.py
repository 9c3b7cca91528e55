"""What outlives the cancellation at the end of a drain: told once, with its place, and its connection closed.

Nothing can end a handler that waits under a shield of its own, or has work of its own that swallows cancellations; its
task, and the loop with it, stay until it has done. Its client need not wait for that.
"""

from __future__ import annotations

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..transport.cancellation import where

if TYPE_CHECKING:
    from .service import Service

log = logging.getLogger("coserver.server")


class Stuck:
    """In the sweeper's table from the cancellation on, with ``Limits.cleanup_timeout`` as its deadline."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.deadline = monotonic() + service.limits.cleanup_timeout

    def expire(self, now: float) -> None:
        """The time for ``finally`` blocks is over."""
        self.deadline = math.inf
        service = self._service
        tasks = {task.name: task for task in anyio.get_running_tasks()}
        for connection in tuple(service.connections.values()):
            task = tasks.get(f"coserver connection {connection.id}")
            connection.strand(where(task.coro) if task is not None else "an unknown place")
        if service.working:
            log.error("work after responses goes on where no cancellation reaches it: %d tasks", service.working)
