"""Tests of the order table and the emitter."""
