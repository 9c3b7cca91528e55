"""`python -m benchmarks observe`: the cost of an observer, and the cost of the mere possibility.

Servers with and without a recorder run side by side under wrk, as in `http`. The guards cost time even if nobody
watches, and cannot be left out. So the guards of one request are counted, and one guard is timed. `crowd` measures the
cost of watching thousands of connections.
"""

import argparse
import timeit
from typing import Any

import anyio

from benchmarks import crowd, rounds
from benchmarks.figures import Spread
from coserver import App
from coserver.lifecycle.emitter import Emitter

GUARDS_AT_MOST = 0.4  # µs a request
_GUARDS = ("gates", "heard", "taps", "watched")


class _Counting(Emitter):
    """Counts the guards: how often the server asks if anybody observes."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "asked", dict.fromkeys(_GUARDS, 0))

    def __getattribute__(self, name: str) -> Any:
        if name in _GUARDS:
            object.__getattribute__(self, "asked")[name] += 1
        return object.__getattribute__(self, name)


def add_options(parser: argparse.ArgumentParser) -> None:
    rounds.add_options(parser, cores="together")


def run(options: argparse.Namespace) -> int:
    guards = anyio.run(_count_guards)
    each = _time_guard()
    cost = Spread(guards * each.median, guards * each.low, guards * each.high)
    met = cost.median <= GUARDS_AT_MOST
    verdict = f"at most {GUARDS_AT_MOST}: {'pass' if met else 'MISSED'}"
    what = f"{guards} guards in a plain request, {each.text('.3f')} µs each"
    print(f"## Guards\n\n{what}: {cost.text('.2f')} µs a request, {verdict}\n", flush=True)
    seen = options.only is not None or crowd.run()
    return rounds.run(options) or (0 if met and seen else 1)


async def _count_guards() -> int:
    """The number of guards that a plain request passes, on a connection that has served before."""
    app = App()
    app.emitter = emitter = _Counting()

    @app.get("/")
    async def index() -> str:
        return "ok"

    async with app.serving() as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        counts = []
        for _ in range(3):
            before = sum(emitter.asked.values())
            await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive()
            await anyio.sleep(0.01)
            counts.append(sum(emitter.asked.values()) - before)
    return counts[-1]


def _time_guard() -> Spread:
    """The time of one guard, the test of an attribute, less an empty loop; in µs."""
    emitter, number = Emitter(), 1_000_000
    found = []
    for _ in range(9):
        with_guard = timeit.timeit("if c.emitter.heard: pass", globals={"c": _Holder(emitter)}, number=number)
        found.append(max(with_guard - timeit.timeit("pass", number=number), 0.0) / number * 1e6)
    spread = Spread.of(found)
    assert spread is not None
    return spread


class _Holder:
    __slots__ = ("emitter",)

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter
