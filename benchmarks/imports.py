"""`python -m benchmarks imports`: the time of `import coserver` beyond bare Python, and the modules that it loads."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.figures import Spread, Verdict
from benchmarks.load import QUIET_CORES
from benchmarks.process import ROOT, machine_cpu_seconds
from benchmarks.rows import BARS, NOT_TO_LOAD


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=15, help="default %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")


def run(options: argparse.Namespace) -> int:
    bar = next(bar for bar in BARS if bar.suite == "imports")
    statement = bar.of[0]
    loaded = _loaded(statement)  # also writes the bytecode, so that no timed run compiles
    _seconds("pass")
    others, begin = _others(), time.monotonic()
    bare: list[float] = []
    full: list[float] = []
    for _ in range(options.runs):  # in turn, since the machine drifts
        bare.append(_seconds("pass") * 1000)
        full.append(_seconds(statement) * 1000)
    beyond = Spread.of(b - a for a, b in zip(bare, full, strict=True))
    taken = (_others() - others) / (time.monotonic() - begin)
    verdict = Verdict(bar, statement, beyond, quiet=0 if taken > QUIET_CORES else None)
    print(f"{report.machine_line()}\n{options.runs} runs; other processes took {max(taken, 0):.2f} cores\n")
    rows = [(code, spread.text(".1f")) for code, spread in
            (("pass", Spread.of(bare)), (statement, Spread.of(full))) if spread]  # fmt: skip
    print(report.table(("python -c", "ms, median (min – max)"), rows), end="\n\n")
    print(report.bars_table([verdict]), end="\n\n")
    print(f"of {', '.join(NOT_TO_LOAD)} it loaded: {', '.join(loaded) or 'none'}: {'MISSED' if loaded else 'pass'}")
    content = {
        "others": taken,
        "suite": "imports",
        "bars": [report.verdict_json(verdict)],
        "loaded": loaded,
        "bare": bare,
        "full": full,
    }
    report.write_json(options.json, content)
    return 0 if verdict.met and not loaded else 1


def _others() -> float:
    """CPU seconds of all processes but this one and its children."""
    ours = os.times()
    return machine_cpu_seconds() - sum(ours[:4])


def _seconds(statement: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True)
    return time.perf_counter() - begin


def _loaded(statement: str) -> list[str]:
    code = f"{statement}\nimport sys\nprint(*(name for name in {NOT_TO_LOAD!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{statement}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.split()
