"""A moving picture of a terminal: an SVG whose frames take turns. It needs no script, and stands still for a reader who
asked the system for less motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME
from rich.text import Text

#: Of one character, in pixels.
_WIDE, _HIGH = 8, 17
_EDGE, _TOP = 12, 40


class Film:
    """Frames of ``width`` columns and ``height`` lines. ``add`` them in order, then take the ``svg``."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._frames: list[tuple[str, float]] = []
        self._classes: dict[str, str] = {}
        self._lines: dict[str, int] = {}  # a line that several frames have is written once
        self._console = Console(width=width, force_terminal=True, color_system="truecolor")

    def add(self, lines: Sequence[Text], seconds: float, title: str) -> None:
        """Show a screen for ``seconds``, under a title in the window's frame."""
        middle = _EDGE + self.width * _WIDE // 2
        parts = [f'<text class="title" x="{middle}" y="25" text-anchor="middle">{escape(title)}</text>']
        for row, line in enumerate(lines):
            if drawn := self._line(line, _TOP + row * _HIGH):
                number = self._lines.setdefault(drawn, len(self._lines))
                parts.append(f'<use href="#l{number}"/>')
        self._frames.append(("".join(parts), seconds))

    def _line(self, line: Text, top: int) -> str:
        boxes, texts, column = [], [], 0
        for text, style, _ in self._console.render(line, self._console.options.update(no_wrap=True, overflow="crop")):
            shown = text.rstrip("\n")
            ink, paper = self._colours(style or Style())
            x, long = _EDGE + column * _WIDE, len(shown) * _WIDE
            if paper and shown:
                boxes.append(f'<rect x="{x}" y="{top}" width="{long}" height="{_HIGH}" fill="{paper}"/>')
            if word := shown.strip():
                x += (len(shown) - len(shown.lstrip())) * _WIDE
                place = f'x="{x}" y="{top + 13}" textLength="{len(word) * _WIDE}"'
                texts.append(f'<text class="{ink}" {place}>{escape(word)}</text>')
            column += len(shown)
        return "".join(boxes + texts)

    def _colours(self, style: Style) -> tuple[str, str]:
        """The class of the text, and the colour behind it, empty for none."""
        ink = style.color.get_truecolor(THEME).hex if style.color else THEME.foreground_color.hex
        paper = style.bgcolor.get_truecolor(THEME, foreground=False).hex if style.bgcolor else ""
        if style.reverse:
            ink, paper = paper or THEME.background_color.hex, ink
        rule = f"fill:{ink}" + (";font-weight:bold" if style.bold else "") + (";opacity:.6" if style.dim else "")
        return self._classes.setdefault(rule, f"c{len(self._classes)}"), paper

    def svg(self) -> str:
        """The film, which begins again at its end."""
        wide, high = self.width * _WIDE + 2 * _EDGE, self.height * _HIGH + _TOP + 10
        whole, gone, rules, groups = sum(seconds for _, seconds in self._frames), 0.0, [], []
        still = max(range(len(self._frames)), key=lambda at: self._frames[at][1])
        for at, (content, seconds) in enumerate(self._frames):
            start, gone = gone / whole * 100, gone + seconds
            turn = f"{start:.2f}%{{visibility:visible}}{gone / whole * 100:.2f}%{{visibility:hidden}}"
            before = "0%{visibility:hidden}" if at else ""
            rules.append(f"@keyframes f{at}{{{before}{turn}}}#f{at}{{animation-name:f{at}}}")
            groups.append(f'<g id="f{at}" class="frame{" still" if at == still else ""}">{content}</g>')
        classes = "".join(f".{name}{{{rule}}}" for rule, name in self._classes.items())
        lines = "\n".join(f'<g id="l{number}">{drawn}</g>' for drawn, number in self._lines.items())
        dots = "".join(f'<circle cx="{24 + at * 18}" cy="20" r="5.5" fill="{colour}"/>'
                       for at, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")))  # fmt: skip
        return f'''<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"><style>
text{{font:13.3px ui-monospace,Menlo,Consolas,DejaVu Sans Mono,monospace;white-space:pre}}
.title{{fill:#c5c8c6}}{classes}
.frame{{visibility:hidden;animation:{whole:.1f}s step-end infinite}}{"".join(rules)}
@media(prefers-reduced-motion:reduce){{.frame{{animation:none}}.still{{visibility:visible}}}}</style>
<rect x=".5" y=".5" width="{wide - 1}" height="{high - 1}" rx="8" fill="{THEME.background_color.hex}" stroke="#fff5"/>
{dots}
<defs>{lines}</defs>
{chr(10).join(groups)}
</svg>
'''
