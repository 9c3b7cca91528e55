"""Tests of hosted applications."""
