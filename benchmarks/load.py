"""One run of the load against one server: the figures that it counted, and the CPU of the server's processes.

The load is wrk, which never pauses, or ``benchmarks.paced``. Its command line is the same for every server. CPU is read
before and after the run, so it includes connecting and closing. With 32 connections and some ten thousand requests
these do not matter.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT, Cores, Failed, Running, machine_cpu_seconds
from benchmarks.rows import HEADS

SCRIPT = Path(__file__).with_name("wrk.lua")
WARM_SECONDS = 0.5  # a thousand requests or more: they fill caches and do lazy imports
QUIET_CORES = (
    0.15  # more than a machine's own housekeeping; with one core of two taken, figures were wrong by a third and more
)
OVERDUE_SECONDS = 30  # wrk ends on time whatever the server does, unless wrk is paused or the machine is stuck
SETTLE_SECONDS = 0.05  # the server closes wrk's connections; that work belongs to the run that opened them


class Overdue(Failed):
    """The load did not end. One run cannot tell if the server is the cause."""


@dataclass(frozen=True)
class Manner:
    """How the clients ask: the number of connections, the fields of each request (a key of HEADS), and requests a
    second, 0 for as many as possible.
    """

    connections: int
    head: str = "plain"
    paced: int = 0

    def __str__(self) -> str:
        """The words for the heading of a table."""
        words = [f"connections: {self.connections}"]
        if self.paced:
            words.append(f"{self.paced:,} requests/s")
        if self.head != "plain":
            words.append(f"the head of a {self.head}")
        return ", ".join(words)


@dataclass(frozen=True)
class Run:
    server: str
    round: int
    connections: int
    requests: int
    seconds: float
    cpu_seconds: float
    p50_us: int
    p99_us: int
    bytes_per_answer: float
    errors: dict[str, int]
    others: float  # cores that other processes than server and wrk kept busy

    @property
    def disturbed(self) -> bool:
        return self.others > QUIET_CORES

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """Server CPU per request, in microseconds."""
        return self.cpu_seconds / self.requests * 1e6


def load_command(one: Running, manner: Manner, seconds: int, cores: Cores) -> list[str]:
    load = one.load
    if manner.paced:
        words = (one.port, load.path, manner.head, manner.connections, seconds, manner.paced)
        return [*cores.load, sys.executable, "-m", "benchmarks.paced", *map(str, words)]
    command = [*cores.load, "wrk", "-t1", f"-c{manner.connections}", f"-d{seconds}s", "--timeout", "5s"]
    command += ["-s", str(SCRIPT)]
    for name, value in HEADS[manner.head]:
        command += ["-H", f"{name}: {value}"]
    command.append(f"http{'s' if load.tls else ''}://127.0.0.1:{one.port}{load.path}")
    if load.body or load.method != "GET":
        command += ["--", load.method, load.body, load.content_type]
    return command


def warm(one: Running, manner: Manner, cores: Cores) -> None:
    """Load the server for WARM_SECONDS. wrk counts in whole seconds, so SIGINT ends it sooner, as Ctrl-C would."""
    command = load_command(one, manner, 1, cores)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(WARM_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(OVERDUE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Overdue(f"the load was {OVERDUE_SECONDS} s overdue while warming up") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def measure(one: Running, round_number: int, manner: Manner, seconds: int, cores: Cores) -> Run:
    time.sleep(SETTLE_SECONDS)
    before, others_before, begin = one.cpu_seconds(), _others(one), time.monotonic()
    try:
        finished = subprocess.run(
            load_command(one, manner, seconds, cores),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + OVERDUE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Overdue(f"the load was {OVERDUE_SECONDS} s overdue; the machine may have paused it") from None
    time.sleep(SETTLE_SECONDS)
    spent = one.cpu_seconds() - before
    others = (_others(one) - others_before) / (time.monotonic() - begin)
    counted = _counted(finished)
    if not counted["requests"]:
        raise Failed(f"not one request answered: {counted['errors']}")
    return Run(
        server=one.server.name,
        round=round_number,
        connections=manner.connections,
        requests=counted["requests"],
        seconds=counted["duration_us"] / 1e6,
        cpu_seconds=spent,
        p50_us=counted["p50_us"],
        p99_us=counted["p99_us"],
        bytes_per_answer=counted["bytes"] / counted["requests"],
        errors={kind: count for kind, count in counted["errors"].items() if count},
        # The kernel samples the machine's time but counts a process's: the difference may be negative.
        others=max(others, 0.0),
    )


def others_now() -> float:
    """The number of busy cores while none of our servers runs. Takes half a second, some 50 of the kernel's samples."""
    before, begin = machine_cpu_seconds(), time.monotonic()
    time.sleep(0.5)
    return (machine_cpu_seconds() - before) / (time.monotonic() - begin)


def _others(one: Running) -> float:
    """CPU seconds of all other processes. wrk is one of our ended children, and the only one that ends in a run."""
    ended = os.times()
    return machine_cpu_seconds() - one.cpu_seconds() - ended.children_user - ended.children_system


def _counted(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    for line in finished.stdout.splitlines():
        if line.startswith("RESULT "):
            counted: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return counted
    raise Failed(f"the load printed no result: {(finished.stderr or finished.stdout).strip()[-200:]}")
