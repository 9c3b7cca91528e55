"""Tests of the ground floor. Nothing here does I/O or waits."""
