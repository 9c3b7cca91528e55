"""`python -m benchmarks memory`: the memory of the server for one idle keep-alive connection.

First a few hundred connections come and go, one after another. So everything that a server allocates once is there, and
little freed memory is left to hide the real need. Then thousands of connections open, make one request each and stay.
The anonymous memory decides, which the process allocated. USS, PSS and RSS also include pages of libraries, and change
when another process with the same libraries starts or ends. No figure includes the kernel's socket buffers.
"""

import argparse
import http.client
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Spread, Verdict
from benchmarks.process import Cores, Failed, Running, ask, raise_open_files, running
from benchmarks.rounds import chosen
from benchmarks.rows import BARS, MEMORY, SERVERS

WARM_CONNECTIONS = 300
IDLE_SECONDS = 2  # until the timers and the deferred work of the last requests are done
FIGURES = ("anonymous", "uss", "rss")  # the columns; the JSON has all figures
SPARE_FILES = 200  # beside the connections: libraries, pipes, the listener


@dataclass(frozen=True)
class Held:
    """One measurement: kB as /proc counts them (1024 bytes), before and after the connections came."""

    server: str
    round: int
    connections: int
    closed: int  # connections that the server closed too early
    before: dict[str, int]
    after: dict[str, int]

    def per_connection(self, figure: str) -> float:
        return (self.after[figure] - self.before[figure]) / self.connections


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="NAME,NAME", help=f"any server of http; default {', '.join(MEMORY)}")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--connections", type=int, default=4000, help="connections at once; default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")


def run(options: argparse.Namespace) -> int:
    limit = raise_open_files()
    if limit < options.connections + SPARE_FILES:
        raise SystemExit(f"{limit} open files are allowed, {options.connections + SPARE_FILES} are needed: ulimit -Hn")
    names = chosen(options.only, MEMORY)
    print(f"{report.machine_line()}\n{options.connections} idle keep-alive connections, {options.rounds} rounds\n")
    held: list[Held] = []
    failures: dict[str, str] = {}
    for number in range(1, options.rounds + 1):
        for name in names:
            try:
                held.append(_hold(name, number, options.connections))
            except Failed as failed:
                failures[name] = str(failed)
                print(f"{name}: FAILED: {failed}", file=sys.stderr)
    verdicts = [_judge(bar.of[0], held) for bar in BARS if bar.suite == "memory"]
    print(_table(names, held, failures), end="\n\n")
    print(report.bars_table(verdicts))
    report.write_json(
        options.json,
        {
            "suite": "memory",
            "bars": [report.verdict_json(one) for one in verdicts],
            "failures": failures,
            "measured": [asdict(one) for one in held],
        },
    )
    return 1 if failures or any(one.met is False for one in verdicts) else 0


def _hold(name: str, number: int, count: int) -> Held:
    with running(SERVERS[name], Cores()) as one:
        for _ in range(WARM_CONNECTIONS):
            ask(one)
        time.sleep(IDLE_SECONDS)
        before = one.memory_kb()
        connections: list[http.client.HTTPConnection] = []
        try:
            for _ in range(count):
                connections.append(_opened(one))
            time.sleep(IDLE_SECONDS)
            after = one.memory_kb()
            closed = _closed(connections)
        finally:
            for connection in connections:
                connection.close()
    return Held(name, number, count, closed, before, after)


def _opened(one: Running) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=5)
    try:
        ask(one, connection)
    except OSError as error:
        raise Failed(f"a connection was refused or dropped: {error!r}") from error
    return connection


def _closed(connections: Sequence[http.client.HTTPConnection]) -> int:
    """The number of closed connections: a server that closes early would seem to need little memory."""
    poll = select.poll()
    gone = 0
    for connection in connections:
        if connection.sock is None:  # the answer said Connection: close
            gone += 1
        else:
            poll.register(connection.sock, select.POLLIN)
    return gone + len(poll.poll(0))


def _judge(name: str, held: Sequence[Held]) -> Verdict:
    bar = next(bar for bar in BARS if bar.suite == "memory" and bar.of[0] == name)
    mine = [one for one in held if one.server == name]
    spread = Spread.of(one.per_connection("anonymous") for one in mine)
    return Verdict(bar, name, spread, clean=not any(one.closed for one in mine))


def _table(names: Sequence[str], held: Sequence[Held], failures: dict[str, str]) -> str:
    rows = []
    for name in names:
        mine = [one for one in held if one.server == name]
        spreads = [Spread.of(one.per_connection(figure) for one in mine) for figure in FIGURES]
        empty = Spread.of(one.before["anonymous"] / 1024 for one in mine)
        closed = str(sum(one.closed for one in mine))
        cells = [spread.text(".2f") if spread else "" for spread in spreads]
        rows.append((name, empty.text(".1f") if empty else "", *cells, failures.get(name, closed)))
    heads = ("server", "without, MB", *(f"{figure}, KB each" for figure in FIGURES), "closed early")
    return report.table(heads, rows)
