"""What coserver costs, next to its peers on the same machine: `python -m benchmarks --help`."""
