"""Text from clients, made safe to print: control characters would change the terminal or the line's direction."""

from __future__ import annotations


def plain(text: str) -> str:
    """``text`` on one line; unprintable characters become their escapes."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])


def counted(number: int, noun: str) -> str:
    """A number and a noun: "1 connection", "2 connections"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
