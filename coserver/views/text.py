"""Text from clients as it may be shown: a terminal obeys control characters, and some turn the line around."""

from __future__ import annotations


def plain(text: str) -> str:
    """``text`` on one line, every character that does not print as its escape."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])


def counted(number: int, noun: str) -> str:
    """One connection, two connections."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
