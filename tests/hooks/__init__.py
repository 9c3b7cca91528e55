"""Tests of the workers: blocking functions in greenlets."""
