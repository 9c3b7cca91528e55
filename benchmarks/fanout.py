"""`python -m benchmarks fanout`: a handler that asks an upstream ten times, next to the same handler of other servers.

The servers are rows of the suite "fanout", measured under wrk like those of `http`. One nginx answers all of them; its
cost is not counted.
"""

import argparse
import os

from benchmarks import rounds
from benchmarks.backend import backend
from benchmarks.process import choose_cores


def add_options(parser: argparse.ArgumentParser) -> None:
    rounds.add_options(parser)
    parser.set_defaults(connections="1,32")


def run(options: argparse.Namespace) -> int:
    with backend(choose_cores()) as behind:
        os.environ["BENCHMARK_BACKEND"] = str(behind.port)
        return rounds.run(options)
