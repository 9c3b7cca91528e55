"""``python -m tests.cpython test_socket --backend trio``: CPython's own tests inside a hooked worker.

Ends with 0 if all is well, 1 if a test failed, 2 if there is no such module, 5 if none failed but of some nothing ran.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from . import outside
from .inside import DIED
from .skips import MODULES

BACKENDS = ("asyncio", "uvloop", "trio")
FAILED, WRONG, NOTHING = 1, 2, 5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cpython", description=__doc__)
    parser.add_argument("module", help="of the package 'test'; several with commas; 'conformance': the set of skips.py")
    parser.add_argument("names", nargs="*", help="Class or Class.method; all if none is given")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="may be repeated; else asyncio")
    parser.add_argument("--plain", action="store_true", help="no worker, no hooks, no loop: what fails here anyway")
    parser.add_argument("--compare", action="store_true", help="both; only what a plain thread does not fail counts")
    parser.add_argument("--all", action="store_true", help="those on the list of skips as well")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="for each test; 60")
    parser.add_argument(
        "-u", "--use", "--resource", action="append", default=[], metavar="RESOURCE",
        help="what tests may use besides time: network, largefile, ..., all; as regrtest's -u, commas too",
    )  # fmt: skip
    parser.add_argument("-j", "--jobs", type=int, default=1, help="modules side by side; 1")
    parser.add_argument("-q", "--quiet", action="store_true", help="names of what failed, without tracebacks")
    return parser.parse_args()


def show(outcome: outside.Outcome, known: dict[str, str], quiet: bool) -> int:
    """Print what failed, and the count; how many failed that are not known."""
    fresh = {test: why for test, why in outcome.of("failed").items() if test not in known or DIED in test}
    for test, why in fresh.items():
        print(f"FAILED {test}" + ("" if quiet else f"\n{why.rstrip()}\n"))
    print(outcome, f"({len(outcome.of('failed')) - len(fresh)} plainly too)" if known else "", flush=True)
    return len(fresh)


def nothing_ran(outcome: outside.Outcome) -> bool:
    """Whether no test was even tried; then say why."""
    if outcome.of("passed") or outcome.of("failed"):
        return False
    reasons = sorted(set(outcome.of("skipped").values())) or ["it holds no tests"]
    print(f"NOTHING RAN of {outcome.module} on {outcome.backend}: {'; '.join(reasons)}", flush=True)
    return True


def present(modules: Iterable[str]) -> list[str]:
    """Those of the set that this Python has: each version drops some."""
    absent = [module for module in modules if outside.unknown([module])]
    if absent:
        print(f"not in this Python: {', '.join(absent)}", flush=True)
    return [module for module in modules if module not in absent]


def judge(
    asked: argparse.Namespace, backends: list[str], how: outside.How, module: str
) -> tuple[dict[str, str], list[outside.Outcome]]:
    """What fails plainly, if that is asked for; and what came of it on each backend."""
    known = outside.run(module, "plain", asked.names, how).of("failed") if asked.compare else {}
    return known, [outside.run(module, backend, asked.names, how) for backend in backends]


def main() -> int:
    asked = parse()
    if reason := outside.missing():
        print(reason, file=sys.stderr)
        return WRONG
    modules = [name for name in asked.module.split(",") if name]
    if modules == ["conformance"]:
        modules = present(MODULES)
    elif reason := outside.unknown(modules):
        print(reason, file=sys.stderr)
        return WRONG
    backends = ["plain"] if asked.plain else asked.backend or ["asyncio"]
    resources = tuple(name for given in asked.use for name in given.split(","))
    how = outside.How(asked.timeout, not asked.all, resources)
    failed = nothing = 0
    with ThreadPoolExecutor(asked.jobs) as jobs:  # which only wait: the tests have processes of their own
        for known, outcomes in jobs.map(partial(judge, asked, backends, how), modules):
            for outcome in outcomes:
                failed += show(outcome, known, asked.quiet)
                nothing += nothing_ran(outcome)
    return FAILED if failed else NOTHING if nothing else 0


if __name__ == "__main__":
    sys.exit(main())
