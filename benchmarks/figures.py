"""From runs to figures: ratios within one round, their median and spread, and the verdict on a bar.

Two runs are compared only within one round. A machine's speed may drift by a third within minutes: the ratio of
neighbours stays right, the figures themselves do not.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal

from benchmarks.load import Run
from benchmarks.rows import Bar

Figure = Literal["cpu_us", "per_second"]


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        known = sorted(values)
        return cls(median(known), known[0], known[-1]) if known else None

    def text(self, form: str) -> str:
        return f"{self.median:{form}} ({self.low:{form}} – {self.high:{form}})"


@dataclass(frozen=True)
class Verdict:
    bar: Bar
    best: str  # the server of the bar that the number comes from
    number: Spread | None  # None: not measured
    clean: bool = True  # false if a run behind the number had a socket error, a wrong status or a failed server
    quiet: int | None = None  # undisturbed rounds, which alone give the number; 0: all rounds give it, so it is unsure

    @property
    def met(self) -> bool | None:
        """None if not measured. False also if the number is not reliable."""
        if self.number is None:
            return None
        if not self.clean or self.quiet == 0:
            return False
        if self.bar.measure == "speed":
            return self.number.median >= self.bar.at_most
        return self.number.median <= self.bar.at_most

    @property
    def word(self) -> str:
        if self.met is None:
            return "not measured"
        if not self.clean:
            return "VOID (errors)"
        if self.quiet == 0:
            return "UNSURE (no quiet round)"
        rounds = "" if self.quiet is None else f" ({self.quiet} quiet round{'s' if self.quiet > 1 else ''})"
        return ("pass" if self.met else "MISSED") + rounds


def pairs(runs: Sequence[Run], of: str, against: str) -> list[tuple[Run, Run]]:
    """The runs of both servers, round by round. All `runs` have the same number of connections."""
    theirs = {run.round: run for run in runs if run.server == against}
    return [(run, theirs[run.round]) for run in runs if run.server == of and run.round in theirs]


def ratios(runs: Sequence[Run], of: str, against: str, figure: Figure = "cpu_us") -> Spread | None:
    return Spread.of(getattr(a, figure) / getattr(b, figure) for a, b in pairs(runs, of, against))


def differences(runs: Sequence[Run], of: str, against: str) -> Spread | None:
    """In microseconds of server CPU per request."""
    return Spread.of(a.cpu_us - b.cpu_us for a, b in pairs(runs, of, against))


def errors_of(runs: Iterable[Run]) -> dict[str, int]:
    total: dict[str, int] = {}
    for run in runs:
        for kind, count in run.errors.items():
            total[kind] = total.get(kind, 0) + count
    return total


def judge(bar: Bar, runs: Sequence[Run], failed: Container[str]) -> Verdict:
    """Judge by undisturbed rounds: a shared core makes some servers cheaper and others not, so ratios change too.

    `failed`: servers that did not last through all rounds. Their earlier rounds prove nothing.
    """
    compare = {"microseconds": differences, "speed": partial(ratios, figure="per_second")}.get(bar.measure, ratios)
    calm = [run for run in runs if not run.disturbed]
    for basis in (calm, runs):
        found = [(spread, name) for name in bar.of if (spread := compare(basis, name, bar.against))]
        if found:
            break
    else:
        return Verdict(bar, "", None)
    number, best = (max if bar.measure == "speed" else min)(found, key=lambda one: one[0].median)
    rests_on = (best, bar.against)
    mine = [run for run in runs if run.server in rests_on]
    clean = not errors_of(mine) and not any(name in failed for name in rests_on)
    return Verdict(bar, best, number, clean, quiet=len(pairs(calm, best, bar.against)))
