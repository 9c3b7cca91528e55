"""``@app.lifespan``: work before an app's first request and after its last.

A lifespan is a context manager, async or not, or a generator function with one ``yield``. It is entered before the
server listens, and left when the last connection has ended. One that is not async runs in a worker, as a ``def``
handler does.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from ..hooks.workers import run_blocking
from ..server.handler.endpoint import describe
from ..server.handler.errors import SetupError

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def make_lifespan(function: Callable[..., Any]) -> Lifespan:
    """``function`` as a function of the app that returns an async context manager. Raises SetupError."""
    name = describe(function)
    if inspect.iscoroutinefunction(function):
        raise SetupError(f"lifespan {name} is an async def without a yield: yield once, where the server runs")
    parameters = inspect.signature(function).parameters.values()
    needed = [each for each in parameters if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    if len(needed) > 1:
        raise SetupError(f"lifespan {name} takes the app or nothing; it asks for {len(needed)} parameters")
    make: Callable[..., Any] = function
    if inspect.isasyncgenfunction(function):
        make = asynccontextmanager(function)
    elif inspect.isgeneratorfunction(function):
        make = contextmanager(function)

    def lifespan(app: Any) -> AbstractAsyncContextManager[Any]:
        manager = make(app) if needed else make()
        if hasattr(manager, "__aenter__"):
            found: AbstractAsyncContextManager[Any] = manager
            return found
        if hasattr(manager, "__enter__"):
            return _in_worker(manager)
        raise SetupError(
            f"lifespan {name} must be a generator function or return a context manager; it returned "
            f"{type(manager).__name__}"
        )

    lifespan.__name__ = name
    lifespan.__wrapped__ = function  # type: ignore[attr-defined]  # the user's function, for messages
    return lifespan


@asynccontextmanager
async def _in_worker(manager: Any) -> AsyncIterator[Any]:
    """A sync context manager, entered and left in a worker."""
    value = await run_blocking(manager.__enter__)
    try:
        yield value
    except BaseException as error:
        if not await run_blocking(manager.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await run_blocking(manager.__exit__, None, None, None)


@asynccontextmanager
async def lifespans(apps: Iterable[Any], grace: float) -> AsyncIterator[None]:
    """Enter the lifespans of all ``apps``, each app once, in order; leave them in reverse.

    The apps' upstreams are open from before the first lifespan until after the last. Then subrequests that a lifespan
    detached are waited for, ``grace`` seconds.
    """
    apps = list(dict.fromkeys(apps))
    async with AsyncExitStack() as stack:
        for app in apps:
            for upstream in app.upstreams.values():
                await stack.enter_async_context(upstream.opened(grace))
        for app in apps:
            for lifespan in app.lifespans:
                try:
                    await stack.enter_async_context(lifespan(app))
                except RuntimeError as error:
                    if str(error) != "generator didn't yield":  # contextlib's words, which name nothing
                        raise
                    raise SetupError(
                        f"lifespan {lifespan.__name__} ended without a yield: yield once, where the server runs"
                    ) from None
        yield
