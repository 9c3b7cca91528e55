"""Shared parts of the drawings in SVG: colours for light and dark, and text that is escaped and cut.

Each drawing is one element without a script, so that it works in a saved notebook and on any page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

#: Each name with its colour in the light and in the dark theme.
PAPER = {"paper": ("#ffffff", "#16191f"), "edge": ("#d9dde3", "#333944"), "grid": ("#eceff3", "#262b34")}
INK = {"ink": ("#1b1f26", "#e8ebf0"), "dim": ("#68707d", "#98a1b0"), "bad": ("#c2332b", "#ff8a80")}
INK |= {"warn": ("#8a6100", "#f0c060"), "good": ("#1f7a41", "#6bd796")}

# Characters that XML 1.0 §2.2 forbids even escaped, and those that change the line's direction.
_unprintable = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")


def opening(width: float, height: float, told: str, colours: Mapping[str, tuple[str, str]]) -> str:
    """The start tag, the style rules and the background. ``told`` is the label for screen readers."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cw" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{text(told)}" style="max-width:100%;height:auto">\n'
        f"{_style(colours)}\n"
        f'<rect class="cw-paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>'
    )


def _style(colours: Mapping[str, tuple[str, str]]) -> str:
    """The style rules: ``cw-NAME`` fills with a colour; ``cw-title`` and ``cw-small`` set a size."""

    def of(theme: int) -> str:
        fills = {name: pair[theme] for name, pair in {**colours, **INK, "grid": PAPER["grid"]}.items()}
        rules = "".join(f".cw-{name}{{fill:{colour}}}" for name, colour in fills.items())
        return f"{rules}.cw-paper{{fill:{PAPER['paper'][theme]};stroke:{PAPER['edge'][theme]}}}"

    font = ".cw text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace}"
    sizes = ".cw .cw-title{font-size:15px;font-weight:600}.cw .cw-small{font-size:11px}"
    return f"<style>{font}{sizes}{of(0)}@media(prefers-color-scheme:dark){{{of(1)}}}</style>"


def write(classes: str, x: float, y: float, content: str, anchor: str = "start") -> str:
    """One line of text; ``anchor`` is the part of it at ``x``: "start", "middle" or "end"."""
    names = " ".join(f"cw-{each}" for each in classes.split())
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text class="{names}" x="{x:.1f}" y="{y:.1f}"{at} xml:space="preserve">{text(content)}</text>'


def cut(content: str, letters: int) -> str:
    """The text, cut to ``letters`` characters."""
    return content if len(content) <= letters else content[: max(letters - 1, 0)] + "…"


def text(content: str) -> str:
    """The text, escaped, without characters that XML forbids."""
    return escape(_unprintable.sub("\ufffd", content))
