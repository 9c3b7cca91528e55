"""Work after the response: what ``request.after`` asked for, done when the client has its answer.

A task for each exchange that has any, in the server's own group, so that a drain waits for it and its grace ends it.
There are ``Limits.after_tasks`` at most: beyond that a connection does its own work before it reads its next request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..hooks.workers import run_for
from ..transport.cancellation import is_cancellation
from .handler.endpoint import AWAIT, describe, kind_of

if TYPE_CHECKING:
    from .http.exchange import Exchange
    from .http.http1 import HttpConnection
    from .service import Service

log = logging.getLogger("coserver.server")

Work = list[Callable[[], Any]]


async def work_after(connection: HttpConnection, exchange: Exchange) -> None:
    """Begin the work; where too much is under way, do it here and now, which holds this client up and no other."""
    work, exchange.after = exchange.after, None
    if not work:
        return
    if connection.service.working < connection.service.limits.after_tasks:
        begin_work(connection.service, work, exchange.id)
    else:
        await _do(connection.service, work, repr(exchange))


def begin_work(service: Service, work: Work, number: int) -> None:
    """Do the work in a task of its own. Cannot wait."""
    service.start_work(partial(_do, service, work, f"exchange {number}"), f"coserver work after exchange {number}")


async def _do(service: Service, work: Work, whose: str) -> None:
    """One after another, in the order they were asked for; one that fails is logged and does not stop the next."""
    for number, each in enumerate(work):
        function = each.func if isinstance(each, partial) else each
        try:
            if kind_of(function) is AWAIT:
                await each()
            else:
                value = await run_for(None, service.waits, each)
                if hasattr(value, "__await__"):  # a lambda or a decorator that hides an async def
                    await value
        except BaseException as error:
            if is_cancellation(error):
                log.warning("work after %s cancelled by the end of the grace: %s and what follows it: %d", whose,
                            describe(function), len(work) - number - 1)  # fmt: skip
                raise
            log.exception("work after %s failed: %s", whose, describe(function))
