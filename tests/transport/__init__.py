"""Tests of the second layer: stream, listener, deadlines, poller, loop."""
