"""What a terminal's font or encoding lacks, in characters that it has: as wide, and near enough.

The Linux console has the 256 of code page 437; a terminal whose locale is not UTF-8 is given ASCII.
"""

from __future__ import annotations

_CONSOLE = {
    "▸": "►", "▴": "▲", "▾": "▼", "●": "•", "‖": "║", "…": ".", "–": "-",
    "▁": "_", "▂": "_", "▃": "▄", "▅": "▄", "▆": "█", "▇": "█",
    "▏": "▌", "▎": "▌", "▍": "▌", "▋": "█", "▊": "█", "▉": "█",
}  # fmt: skip
_ASCII = {
    "▸": ">", "▴": "^", "▾": "v", "●": "*", "‖": "=", "…": ".", "–": "-", "•": "*", "µ": "u", "→": ">", "←": "<",
    "↑": "^", "↓": "v", "▁": "_", "▂": ".", "▃": "-", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "█": "#",
    "▏": "|", "▎": "|", "▍": "|", "▌": "|", "▋": "#", "▊": "#", "▉": "#", "░": ".", "▒": ":", "▓": "%",
}  # fmt: skip


def table_for(terminal: str, encoding: str) -> dict[int, str]:
    """For ``str.translate``; ``terminal`` is what TERM says."""
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return str.maketrans(_ASCII)
    return str.maketrans(_CONSOLE) if terminal == "linux" else {}
