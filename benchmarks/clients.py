"""`python -m benchmarks upstream`: the cost of a request for its client, next to other clients.

One nginx answers all clients. Each run is a process of its own, pinned to one core; nginx is pinned to another. With
one request in flight the two work in turn: if the kernel put them on one core in some runs only, it would decide the
figures.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.backend import Backend, backend
from benchmarks.figures import judge, ratios
from benchmarks.load import Run
from benchmarks.process import ROOT, Cores, Failed, choose_cores, machine_cpu_seconds
from benchmarks.rounds import Failures, Quiet
from benchmarks.rows import ASKERS, BARS, Asker

WIDTHS = "1,10,100"
#: Requests of one run, by the number in flight. httpx takes 10 ms for a request with a hundred in flight.
COUNTS = {1: 8_000, 10: 15_000, 100: 15_000}
SLOW = 20  # a slow client makes so many times fewer requests
RUN_SECONDS = 120


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="NAME,NAME", help="only these clients; * matches as in a shell")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--in-flight", default=WIDTHS, metavar="N,N", help="default %(default)s")
    parser.add_argument("--patience", type=float, default=300, metavar="SECONDS", help="see http; default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")


def run(options: argparse.Namespace) -> int:
    askers = [one for one in ASKERS if any(fnmatchcase(one.name, each) for each in (options.only or "*").split(","))]
    if not askers:
        raise SystemExit(f"--only {options.only}: no such client; there are {', '.join(one.name for one in ASKERS)}")
    cores = choose_cores()
    widths = [int(each) for each in options.in_flight.split(",")]
    print(f"{report.machine_line()}\n{options.rounds} rounds; ratios within a round, medians; {cores}\n")
    with backend(cores) as behind:
        all_ = Measuring(behind, cores, Quiet(options.patience))
        for number in range(1, options.rounds + 1):
            for width in widths:
                for asker in askers:
                    _measure(asker, width, number, all_)
    runs, failures = all_.runs, all_.failures
    for width in widths:
        print(f"## In flight: {width}\n\n{_table(askers, width, runs, failures)}\n")
    judged = [judge(bar, runs, failures) for bar in BARS if bar.suite == "upstream"]
    print(report.bars_table(judged))
    report.write_json(
        options.json,
        {
            "suite": "upstream",
            "bars": [report.verdict_json(one) for one in judged],
            "failures": failures,
            "runs": [{**asdict(one), "cpu_us": one.cpu_us} for one in runs],
        },
    )
    return 1 if failures or any(one.met is False for one in judged) else 0


@dataclass
class Measuring:
    """The things that all runs share."""

    behind: Backend
    cores: Cores
    quiet: Quiet
    runs: list[Run] = field(default_factory=list)
    failures: Failures = field(default_factory=dict)


def _measure(asker: Asker, width: int, number: int, all_: Measuring) -> None:
    name = f"{asker.name} @{width}"
    if name in all_.failures:
        return
    try:
        one = all_.quiet.run(partial(_one, asker, width, number, all_))
    except Failed as failed:
        all_.failures[name] = str(failed)
        print(f"{name}: FAILED: {failed}", file=sys.stderr)
        return
    all_.runs.append(one)
    print(f"round {number}: {name:36} {one.per_second:8.0f} requests/s {one.cpu_us:8.1f} µs", file=sys.stderr)


def _one(asker: Asker, width: int, number: int, all_: Measuring) -> Run:
    behind, cores = all_.behind, all_.cores
    count = COUNTS.get(width, 10_000) // (SLOW if asker.slow else 1)
    words = [asker.who, asker.loop, asker.codec, str(width), str(count), str(behind.port)]
    before, begin = _others(behind), time.monotonic()
    try:
        finished = subprocess.run(
            [*cores.server, sys.executable, "-m", "benchmarks.asking", *words],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=RUN_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"took longer than {RUN_SECONDS} s") from None
    if finished.returncode:
        raise Failed((finished.stderr.strip().splitlines() or ["it printed nothing"])[-1])
    told = json.loads(finished.stdout)
    others = (_others(behind) - before) / (time.monotonic() - begin)
    return Run(
        server=f"{asker.name} @{width}",
        round=number,
        connections=width,
        requests=told["requests"],
        seconds=told["seconds"],
        cpu_seconds=told["cpu"],
        p50_us=0,
        p99_us=0,
        bytes_per_answer=2,
        errors={},
        others=max(others, 0.0),
    )


def _others(behind: Backend) -> float:
    """CPU seconds of all processes but nginx and our clients, which have ended."""
    ended = os.times()
    return machine_cpu_seconds() - behind.cpu_seconds() - ended.children_user - ended.children_system


def _table(askers: Sequence[Asker], width: int, runs: Sequence[Run], failures: Failures) -> str:
    rows = []
    for asker in askers:
        name, against = f"{asker.name} @{width}", f"{asker.against} @{width}"
        mine = [one for one in runs if one.server == name]
        if not mine:
            rows.append((asker.name, "", "", "", failures.get(name, "not measured")))
            continue
        ratio = ratios(runs, name, against) if asker.against else None
        figures = (f"{median(one.per_second for one in mine):.0f}", f"{median(one.cpu_us for one in mine):.1f}")
        rows.append((asker.name, *figures, asker.against, ratio.text(".2f") if ratio else ""))
    return report.table(("client", "requests/s", "CPU µs", "against", "CPU ratio"), rows)
