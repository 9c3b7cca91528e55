"""Tests of layer 0. Nothing here does I/O or waits."""
