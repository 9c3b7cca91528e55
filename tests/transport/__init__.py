"""Tests of the second floor: stream, listener, deadlines, poller, loop."""
