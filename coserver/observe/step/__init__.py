"""Stepping: exchanges, connections and subrequests that are held at a phase.

| file | what it holds |
|---|---|
| stepper | ``Stepper``: a filter, the phases to hold at, what is held now |
| held | ``Held``: one exchange, connection or subrequest that is held |
| actions | next, resume, until, edit, respond, abort: the methods of both, here and over the control socket |
"""
