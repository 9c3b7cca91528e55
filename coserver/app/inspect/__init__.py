"""Observation of a running server, loaded at its first use.

| file | what it holds |
|---|---|
| inspection | make snapshots, meters and steppers of a server |
| traces | ``server.traces``: recorded exchanges, exports, replays |
| failures | ``server.failures``: the last unexpected exceptions of handlers |
| display | snapshots, traces and steppers as a notebook shows them |
"""
