"""`python -m benchmarks http` and every other suite of servers under wrk: rounds of A B C A B C ...

Each run starts its server anew. So differences between processes (hash seed, memory layout) show in the spread, and
favour no server through all rounds.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.figures import Verdict, differences, errors_of, judge, ratios
from benchmarks.load import QUIET_CORES, Manner, Overdue, Run, measure, others_now, warm
from benchmarks.process import PLACINGS, Cores, Failed, choose_cores, raise_open_files, running
from benchmarks.rows import BARS, HEADS, LOADS, SERVERS, Server, beside

Failures = dict[str, str]
LONGEST_WAIT = 30  # seconds to wait for one run; after more, its neighbours in the round would be too old


def add_options(parser: argparse.ArgumentParser, cores: str = "free") -> None:
    parser.add_argument("--load", metavar="NAME,NAME", help=f"some of {', '.join(LOADS)}; default all")
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="DIR",
        help="another checkout: compare coserver's rows with the coserver there, and leave the peers out",
    )
    parser.add_argument("--only", metavar="NAME,NAME", help="only these servers; * matches as in a shell")
    parser.add_argument("--against", metavar="NAME", help="compare every row with this server (default: by row)")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=int, default=3, help="per run, whole seconds; default %(default)s")
    parser.add_argument("--connections", default="32", metavar="N,N", help="e.g. 1,32,256; default %(default)s")
    parser.add_argument(
        "--paced",
        type=int,
        default=0,
        metavar="RATE",
        help="requests a second by a client that pauses between them; default: as many as possible, by wrk",
    )
    parser.add_argument("--head", choices=HEADS, default="plain", help="the request's fields; default %(default)s")
    parser.add_argument(
        "--cores",
        choices=PLACINGS,
        default=cores,
        help="free: the kernel places servers and wrk; apart: on two cores; together: on one; default %(default)s "
        "(1 connection: never free)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=300,
        metavar="SECONDS",
        help="in all, for repeating runs during which other processes worked; default %(default)s",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")


def chosen(only: str | None, among: Sequence[str]) -> list[str]:
    """The names that match ``only``, in the order of the table. Raises SystemExit for a pattern without a match."""
    if only is None:
        return list(among)
    patterns = only.split(",")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in SERVERS):
            raise SystemExit(f"no server {pattern!r}; there are: {', '.join(SERVERS)}")
    return [name for name in SERVERS if any(fnmatchcase(name, pattern) for pattern in patterns)]


def run(options: argparse.Namespace) -> int:
    servers = measured(options)
    loads = list(dict.fromkeys(server.load for server in servers.values()))
    connections = [int(count) for count in options.connections.split(",")]
    manners = [Manner(count, options.head, options.paced) for count in connections]
    if options.paced and any(LOADS[load].tls or LOADS[load].method != "GET" for load in loads):
        raise SystemExit("--paced asks with GET and without TLS; choose such loads, for example --load ok")
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not in PATH; most distributions have a package of that name")
    raise_open_files()
    print(f"{report.machine_line()}\n{options.rounds} rounds of {options.seconds} s; ratios within a round, medians\n")
    quiet = Quiet(options.patience)
    runs: list[Run] = []
    failures: Failures = {}
    verdicts: dict[int, list[Verdict]] = {}
    for manner in manners:
        count = manner.connections
        verdicts[count] = []
        for load in loads:
            mine = {name: server for name, server in servers.items() if server.load == load}
            here = _rounds(mine, manner, options, quiet, failures)
            runs += here
            print(f"## {load.capitalize()}; {manner}; {cores_for(count, options.cores)}\n")
            print(_servers_table(mine, here, options.against, failures), end="\n\n", flush=True)
            # Only bars whose rows have this load. There is no bar against another version of coserver.
            bars = [
                bar
                for bar in BARS
                if bar.suite == options.suite
                and SERVERS[bar.of[0]].load == load
                and (bar.paced, bar.head) == (manner.paced, manner.head)
                and bar.connections in (0, count)
            ]
            if bars and not options.baseline:
                judged = [judge(bar, here, failures) for bar in bars]
                verdicts[count] += judged
                print(report.bars_table(judged), end="\n\n", flush=True)
    _write(options, servers, runs, failures, verdicts)
    judged = [verdict.met for of_count in verdicts.values() for verdict in of_count]
    return 1 if failures or False in judged else 0


def measured(options: argparse.Namespace) -> dict[str, Server]:
    """The servers that the options choose, by name, in the order of the table. Raises SystemExit if there is none."""
    suite: str = options.suite
    names = chosen(options.only, [name for name, server in SERVERS.items() if server.suite == suite])
    loads = options.load.split(",") if options.load else list(LOADS)
    for load in loads:
        if load not in LOADS:
            raise SystemExit(f"no load {load!r}; there are: {', '.join(LOADS)}")
    names = [name for name in names if SERVERS[name].suite == suite and SERVERS[name].load in loads]
    servers = {name: SERVERS[name] for name in names}
    if options.baseline:
        if not (options.baseline / "coserver" / "__init__.py").is_file():
            raise SystemExit(f"--baseline {options.baseline}: there is no checkout of coserver")
        servers = beside(names, options.baseline.resolve())
    if not servers:
        raise SystemExit("no server is left to measure: no row fits --only, --load and --baseline together")
    if options.against and options.against not in servers:
        raise SystemExit(f"--against {options.against}: not among the servers measured: {', '.join(servers)}")
    return servers


def cores_for(connections: int, placing: str) -> Cores:
    """The cores for a run. With one connection the processes are always pinned.

    Server and wrk then work in turn. If the kernel puts both on one core in some runs only, the figures of the same
    server change threefold.
    """
    return choose_cores("apart" if connections == 1 and placing == "free" else placing)


class Quiet:
    """Repeats each run that other processes disturbed, when they are done. Its figures do not matter for that."""

    def __init__(self, patience: float) -> None:
        self.left = patience

    def run(self, once: Callable[[], Run]) -> Run:
        try:
            one = once()
        except Overdue as overdue:  # the whole machine may have paused; a second time fails the server
            print(f"again: {overdue}", file=sys.stderr)
            one = once()
        begin = time.monotonic()
        until = begin + min(self.left, LONGEST_WAIT)
        while one.disturbed and time.monotonic() < until:
            print(f"{one.server}: again, others took {one.others:.2f} cores", file=sys.stderr)
            while time.monotonic() < until and others_now() > QUIET_CORES:
                pass
            one = once()
        self.left -= time.monotonic() - begin
        return one


def _rounds(
    servers: Mapping[str, Server], manner: Manner, options: argparse.Namespace, quiet: Quiet, failures: Failures
) -> list[Run]:
    runs = []
    connections = manner.connections
    cores = cores_for(connections, options.cores)
    for number in range(1, options.rounds + 1):
        # Two versions differ by a few percent, so neither may always be the first.
        for name in reversed(servers) if options.baseline and number % 2 == 0 else servers:
            if name in failures:
                continue
            try:
                one = quiet.run(partial(_one, servers[name], number, manner, options.seconds, cores))
            except Failed as failed:
                failures[name] = str(failed)
                print(f"{name}: FAILED: {failed}", file=sys.stderr)
                continue
            runs.append(one)
            figures = f"{one.per_second:8.0f} requests/s {one.cpu_us:7.1f} µs"
            print(f"{connections} connections, round {number}: {name:32} {figures} {one.errors or ''}", file=sys.stderr)
    return runs


def _one(server: Server, number: int, manner: Manner, seconds: int, cores: Cores) -> Run:
    with running(server, cores) as process:
        warm(process, manner, cores)
        return measure(process, number, manner, seconds, cores)


def _servers_table(servers: Mapping[str, Server], runs: Sequence[Run], against: str | None, failures: Failures) -> str:
    heads = ("server", "requests/s", "CPU µs", "against", "CPU ratio", "CPU µs more", "requests/s ratio", "errors")
    rows = [_row(server, runs, against or server.against, failures) for server in servers.values()]
    notes = [f"{name} failed: {why}" for name, why in failures.items() if name in servers]
    disturbed = [one for one in runs if one.disturbed]
    if disturbed:
        worst = max(one.others for one in disturbed)
        notes.append(f"NOT QUIET: other processes took up to {worst:.2f} cores in {len(disturbed)} of {len(runs)} runs")
    return "\n".join([report.table(heads, rows), *notes])


def _row(server: Server, runs: Sequence[Run], against: str, failures: Failures) -> tuple[str, ...]:
    name = server.name
    mine = [one for one in runs if one.server == name]
    errors = [f"{count} {kind}" for kind, count in errors_of(mine).items()]
    if name in failures:
        errors.append("FAILED")
    if not mine:
        return (name, "", "", "", "", "", "", ", ".join(errors))
    figures = (f"{median(one.per_second for one in mine):.0f}", f"{median(one.cpu_us for one in mine):.1f}")
    ratio, difference = ratios(runs, name, against), differences(runs, name, against)
    speed = ratios(runs, name, against, "per_second")
    if name == against or not (ratio and difference and speed):
        return (name, *figures, "", "", "", "", ", ".join(errors) or "none")
    # Two versions differ by a few percent only, so their ratio needs one more digit.
    compared = (against, ratio.text(".3f" if server.tree else ".2f"), difference.text("+.1f"), speed.text(".2f"))
    return (name, *figures, *compared, ", ".join(errors) or "none")


def _write(
    options: argparse.Namespace,
    servers: Mapping[str, Server],
    runs: Sequence[Run],
    failures: Failures,
    verdicts: dict[int, list[Verdict]],
) -> None:
    report.write_json(
        options.json,
        {
            "suite": options.suite,
            "seconds": options.seconds,
            "head": options.head,
            "paced": options.paced,
            "cores": {count: str(cores_for(count, options.cores)) for count in verdicts},
            "commands": {name: f"python -m {servers[name].command}" for name in {one.server for one in runs}},
            "trees": {name: server.tree for name, server in servers.items() if server.tree},
            "bars": {count: [report.verdict_json(one) for one in of_count] for count, of_count in verdicts.items()},
            "failures": failures,
            "runs": [{**asdict(one), "per_second": one.per_second, "cpu_us": one.cpu_us} for one in runs],
        },
    )
