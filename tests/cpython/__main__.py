"""``python -m tests.cpython test_socket --backend trio``: CPython's own tests inside a hooked worker."""

from __future__ import annotations

import argparse
import sys

from . import outside
from .skips import MODULES

BACKENDS = ("asyncio", "uvloop", "trio")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.cpython", description=__doc__)
    parser.add_argument("module", help="a module of the package 'test', or 'conformance': the set of skips.py")
    parser.add_argument("names", nargs="*", help="Class or Class.method; all if none is given")
    parser.add_argument("--backend", choices=BACKENDS, action="append", help="may be repeated; else asyncio")
    parser.add_argument("--plain", action="store_true", help="no worker, no hooks, no loop: what fails here anyway")
    parser.add_argument("--compare", action="store_true", help="both; only what a plain thread does not fail counts")
    parser.add_argument("--all", action="store_true", help="those on the list of skips as well")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="for each test; 60")
    parser.add_argument("--use", action="append", default=[], metavar="RESOURCE", help="as regrtest's -u: network ...")
    parser.add_argument("-q", "--quiet", action="store_true", help="names of what failed, without tracebacks")
    return parser.parse_args()


def show(outcome: outside.Outcome, known: dict[str, str], quiet: bool) -> int:
    """Print what failed, and the count; how many failed that are not known."""
    fresh = {test: why for test, why in outcome.of("failed").items() if test not in known or outside.DIED in test}
    for test, why in fresh.items():
        print(f"FAILED {test}" + ("" if quiet else f"\n{why.rstrip()}\n"))
    print(outcome, f"({len(outcome.of('failed')) - len(fresh)} plainly too)" if known else "", flush=True)
    return len(fresh)


def main() -> int:
    asked = parse()
    if reason := outside.missing():
        print(reason, file=sys.stderr)
        return 2
    backends = ["plain"] if asked.plain else asked.backend or ["asyncio"]
    how = outside.How(asked.timeout, not asked.all, tuple(asked.use))
    failed = 0
    for module in MODULES if asked.module == "conformance" else [asked.module]:
        known: dict[str, str] = {}
        if asked.compare:
            known = outside.run(module, "plain", asked.names, how).of("failed")
        for backend in backends:
            failed += show(outside.run(module, backend, asked.names, how), known, asked.quiet)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
