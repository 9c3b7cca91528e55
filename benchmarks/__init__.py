"""Measure the cost of coserver beside its peers on the same machine: `python -m benchmarks --help`."""
