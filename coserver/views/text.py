"""Text from clients, made safe to print: control characters would change the terminal or the line's direction."""

from __future__ import annotations

import re

from rich.cells import cell_len, set_cell_size


def plain(text: str) -> str:
    """``text`` on one line; unprintable characters become their escapes."""
    if text.isprintable():
        return text
    return "".join([each if each.isprintable() else each.encode("unicode_escape").decode() for each in text])


def counted(number: int, noun: str) -> str:
    """A number and a noun: "1 connection", "2 connections"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_ENCODED = re.compile(r"(?:%[89A-Fa-f][0-9A-Fa-f])+")


def readable(target: str) -> str:
    """A target with its percent-encoded letters beyond ASCII shown as such: /items/%C3%A9 becomes /items/é.

    Bytes that are not UTF-8 or not printable stay encoded, and so does all ASCII: %2F and %3F would change the meaning.
    """
    return plain(_ENCODED.sub(_decoded, target) if "%" in target else target)


def _decoded(found: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(found[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return found[0]
    return text if text.isprintable() and not any(one.isspace() for one in text) else found[0]


def cut(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells; "…" stands for its end."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)).rstrip() + "…"
