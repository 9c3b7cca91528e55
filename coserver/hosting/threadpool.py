"""``def`` endpoints of Starlette and FastAPI in workers: their calls suspend only that request, without a thread each.

Starlette sends such endpoints, dependencies and background tasks to threads, by ``run_in_threadpool`` and
``iterate_in_threadpool``. Inside an exchange of a hosted application these two run them in workers instead. Everything
else of Starlette and anyio stays a thread, and so does a function that has held the event loop for too long.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from time import monotonic
from types import CodeType, coroutine
from typing import Any

from ..hooks.install import installed
from ..hooks.patch import rebind
from ..hooks.workers import run_for
from ..server.handler.endpoint import describe
from ..upstream.parent import find_parent

#: Seconds. A function that holds the loop for longer at a stretch goes to threads from then on.
STRETCH = 0.05

log = logging.getLogger("coserver.hosting")

_MODULE = "starlette.concurrency"
_END: Any = object()
#: The code of functions that have held the loop.
_held: set[CodeType] = set()
#: The originals, each in a tuple: there ``rebind`` does not find it.
_originals: dict[str, tuple[Any]] = {}
_users = 0


@contextmanager
def redirected() -> Iterator[None]:
    """Replace the two functions during the block, wherever they are bound. Does nothing without Starlette."""
    global _users
    if not _users:
        _redirect()
    _users += 1
    try:
        yield
    finally:
        _users -= 1
        if not _users:
            _put_back()


def _redirect() -> None:
    module = sys.modules.get(_MODULE)
    if module is None:
        return
    pairs: dict[int, tuple[Any, Any]] = {}
    for name, (ours,) in _OURS.items():
        original = getattr(module, name, None)
        if original is not None:
            _originals[name] = (original,)
            pairs[id(original)] = (original, ours)
    rebind(pairs)


def _put_back() -> None:
    pairs = {id(_OURS[name][0]): (_OURS[name][0], original) for name, (original,) in _originals.items()}
    rebind(pairs)  # the originals stay known: a call that has begun may still need them


async def run_in_threadpool(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """As Starlette's, but in a worker of the exchange."""
    function = _users_function(func, *args, *kwargs.values())
    exchange = _exchange_for(function)
    if exchange is None:
        return await _originals["run_in_threadpool"][0](func, *args, **kwargs)
    return await _in_worker(exchange, function, partial(func, *args, **kwargs))


async def iterate_in_threadpool(iterator: Iterable[Any]) -> AsyncIterator[Any]:
    """As Starlette's, but in workers of the exchange."""
    exchange = _exchange_for(iterator)
    if exchange is None:
        async for each in _originals["iterate_in_threadpool"][0](iterator):
            yield each
        return
    pieces = iter(iterator)
    while (piece := await _in_worker(exchange, iterator, partial(next, pieces, _END))) is not _END:
        yield piece


#: The replacements, each in a tuple for the same reason.
_OURS: dict[str, tuple[Any]] = {
    "run_in_threadpool": (run_in_threadpool,),
    "iterate_in_threadpool": (iterate_in_threadpool,),
}


def _exchange_for(function: Any) -> Any:
    """The exchange for which the function shall run in a worker; None for a thread."""
    exchange: Any = find_parent()
    if exchange is None or exchange.hosted is None or not exchange.endpoint.workers:
        return None
    if "sleep" not in installed() or _code(function) in _held:
        return None
    return exchange


async def _in_worker(exchange: Any, function: Any, call: Callable[[], Any]) -> Any:
    # In a copy of the context, as in a thread.
    work = run_for(exchange, exchange.connection.service.waits, copy_context().run, call)
    return await _timed(work, function)


@coroutine
def _timed(work: Coroutine[Any, Any, Any], function: Any) -> Generator[Any, Any, Any]:
    """``yield from work``, which notes a stretch in which the function held the loop."""
    began = monotonic()
    try:
        trap = work.send(None)
        while True:
            _judge(began, function)
            try:
                value = yield trap
            except BaseException as error:
                began = monotonic()
                trap = work.throw(error)
            else:
                began = monotonic()
                trap = work.send(value)
    except StopIteration as stop:
        _judge(began, function)
        return stop.value


def _judge(began: float, function: Any) -> None:
    lasted = monotonic() - began
    code = _code(function)
    if lasted < STRETCH or code is None or code in _held:
        return
    _held.add(code)
    log.warning(
        "%s held the event loop for %.0f ms: it computes, or waits in C. From now on it runs in a thread, as under "
        "other servers. Logged once for each function",
        describe(function), lasted * 1000, extra={"place": f"{code.co_filename}:{code.co_firstlineno}"},
    )  # fmt: skip


def _users_function(*given: Any) -> Any:
    """The user's function: FastAPI hands it to one of its own, which is called. Else the first of these."""
    for one in given:
        if callable(one) and _package(one) not in ("fastapi", "starlette", "contextlib"):
            return one
    return given[0]


def _package(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return (getattr(function, "__module__", None) or "").partition(".")[0]


def _code(function: Any) -> CodeType | None:
    while isinstance(function, partial):
        function = function.func
    found = getattr(function, "__code__", None) or getattr(function, "gi_code", None)
    return found if isinstance(found, CodeType) else None
