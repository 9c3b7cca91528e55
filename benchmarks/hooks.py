"""`python -m benchmarks hooks`: the cost of blocking calls in a handler, next to `async def`, to gevent, to no hooks.

The first half measures single calls: each figure comes from a process of its own (``benchmarks.blocking``), in which
compared calls take turns. The second half measures servers under wrk, like `http`, with a thousand handlers that sleep.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks import report, rounds
from benchmarks.figures import Spread, Verdict
from benchmarks.load import QUIET_CORES, others_now
from benchmarks.process import ROOT, Failed, choose_cores, machine_cpu_seconds
from benchmarks.rounds import LONGEST_WAIT
from benchmarks.rows import CALL_BARS, Bar

RUN_SECONDS = 120


def add_options(parser: argparse.ArgumentParser) -> None:
    rounds.add_options(parser)
    parser.add_argument("--part", choices=("calls", "servers"), help="only one half; default both")
    parser.set_defaults(connections="1000")


def run(options: argparse.Namespace) -> int:
    if options.part == "servers":
        return rounds.run(options)
    print(f"{report.machine_line()}\n{options.rounds} rounds; medians; each process pinned to a core\n")
    measured = Measured(options.patience)
    for number in range(1, options.rounds + 1):
        for words in _runs(CALL_BARS):
            measured.add(words, number)
    verdicts = [measured.judge(bar) for bar in CALL_BARS]
    print(f"## Single calls\n\n{_table(verdicts)}\n", flush=True)
    status = 1 if measured.failures or any(one.met is False for one in verdicts) else 0
    calls = {"calls": [report.verdict_json(one) for one in verdicts], "calls_failed": measured.failures}
    if options.part == "calls":
        report.write_json(options.json, {"suite": "hooks", **calls})
        return status
    status |= rounds.run(options)
    if options.json:
        written = json.loads(options.json.read_text())
        report.write_json(options.json, written | calls)
    return status


def _runs(bars: Sequence[Bar]) -> list[str]:
    """The runs for these bars, as "MEASURE LOOP". Runs that are compared stand side by side."""
    names = [name for bar in bars for name in (*bar.of, bar.against) if name]
    return list(dict.fromkeys(name.partition(":")[0] for name in names))


@dataclass
class Measured:
    """The figures, by run and round. ``calm`` holds the rounds in which no other process worked."""

    patience: float
    figures: dict[tuple[str, int], dict[str, float]] = field(default_factory=dict)
    calm: set[tuple[str, int]] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, words: str, number: int) -> None:
        """Make one run. Repeat it for a while if other processes took part of the machine."""
        begin = time.monotonic()
        until = begin + min(self.patience, LONGEST_WAIT)
        while words not in self.failures:
            try:
                figures, others = _one(words)
            except Failed as failed:
                self.failures[words] = str(failed)
                print(f"{words}: FAILED: {failed}", file=sys.stderr)
                return
            self.figures[words, number] = figures
            said = ", ".join(f"{name} {figure:.3f}" for name, figure in figures.items())
            print(f"round {number}: {words}: {said}", file=sys.stderr)
            if others <= QUIET_CORES:
                self.calm.add((words, number))
            if others <= QUIET_CORES or time.monotonic() >= until:
                break
            print(f"{words}: again, others took {others:.2f} cores", file=sys.stderr)
            while time.monotonic() < until and others_now() > QUIET_CORES:
                pass
        self.patience -= time.monotonic() - begin

    def judge(self, bar: Bar) -> Verdict:
        """Judge a bar by undisturbed rounds only."""
        words, _, name = bar.of[0].partition(": ")
        against, _, other = bar.against.partition(": ")
        found, quiet = [], []
        for (run, number), figures in self.figures.items():
            if run != words or (against and (against, number) not in self.figures):
                continue
            value = figures[name]
            if bar.measure == "kilobytes":
                value -= self.figures[against, number][other]
            elif against:
                value = figures[f"{name} ratio"]
            found.append(value)
            if (words, number) in self.calm and (not against or (against, number) in self.calm):
                quiet.append(value)
        spread = Spread.of(quiet or found)
        return Verdict(bar, bar.of[0], spread, words not in self.failures, quiet=len(quiet))


def _one(words: str) -> tuple[dict[str, float], float]:
    """The figures of one run, and the number of cores that other processes took meanwhile."""
    before, begin = _others(), time.monotonic()
    command = [*choose_cores().server, sys.executable, "-m", "benchmarks.blocking", *words.split()]
    try:
        finished = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=RUN_SECONDS
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failed(f"took longer than {RUN_SECONDS} s") from None
    if finished.returncode:
        raise Failed((finished.stderr.strip().splitlines() or ["it printed nothing"])[-1])
    figures: dict[str, float] = json.loads(finished.stdout)
    return figures, max((_others() - before) / (time.monotonic() - begin), 0.0)


def _others() -> float:
    """CPU seconds of all processes but ours, which have ended."""
    ended = os.times()
    return machine_cpu_seconds() - ended.children_user - ended.children_system


def _table(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        bar, unit, form = verdict.bar, report.UNITS[verdict.bar.measure], report.FORMS[verdict.bar.measure]
        number = "" if verdict.number is None else verdict.number.text(form) + unit
        against = bar.against or ("without hooks" if bar.of[0].startswith("foreign") else "–")
        rows.append((bar.label, bar.of[0], against, f"{bar.at_most:{form}}{unit}", number, verdict.word))
    return report.table(("", "of", "against", "at most", "median (min – max)", "verdict"), rows)
