"""The command ``coserver``: it parses, calls the library and renders what comes back. No logic of its own."""

from .commands import main

__all__ = ["main"]
