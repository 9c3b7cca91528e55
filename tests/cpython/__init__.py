"""CPython's own tests, run inside a hooked worker: ``python -m tests.cpython MODULE`` (see ``--help``)."""
