"""The terminal as a full screen: draw lines, read keys. Only changed lines are written.

The terminal is always restored: at the end of the block, on Ctrl+C, on an error, on SIGTERM and SIGHUP.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.text import Text

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # alternate screen, no cursor, no wrapping, cleared
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
#: Seconds to wait after an escape: it is the key Escape, or the start of another key's sequence.
_ESCAPE = 0.05
#: Seconds to wait for the rest of a sequence. A slow line sends it in pieces, and the rest of an arrow key, an "A",
#: would be taken for a key.
_REST = 1.0
_BEGUN = re.compile(r"\x1b(?:O|\[\[?[0-9;<=>?]*)?\Z")
_SEQUENCES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[H": "home", "[F": "end", "OH": "home", "OF": "end", "[1~": "home", "[4~": "end", "[3~": "delete",
    "[5~": "pageup", "[6~": "pagedown", "[Z": "backtab",
    "OP": "f1", "[11~": "f1", "[[A": "f1",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x15": "ctrl-u",
    "\x01": "home", "\x05": "end", "\x0c": "ctrl-l", "\x03": "ctrl-c", "\x04": "ctrl-d", "\x17": "ctrl-w",
}  # fmt: skip
#: Characters that a terminal's font or encoding lacks, and others of the same width that stand for them. The Linux
#: console has the 256 characters of code page 437; a terminal whose locale is not UTF-8 gets ASCII.
_CODE_PAGE_437 = {
    "▸": "►", "▴": "▲", "▾": "▼", "●": "•", "‖": "║", "…": ".", "–": "-",
    "▁": "_", "▂": "_", "▃": "▄", "▅": "▄", "▆": "█", "▇": "█",
    "▏": "▌", "▎": "▌", "▍": "▌", "▋": "█", "▊": "█", "▉": "█",
}  # fmt: skip
_ASCII = {
    "▸": ">", "▴": "^", "▾": "v", "●": "*", "‖": "=", "…": ".", "–": "-", "•": "*", "µ": "u", "→": ">", "←": "<",
    "↑": "^", "↓": "v", "▁": "_", "▂": ".", "▃": "-", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "█": "#",
    "▏": "|", "▎": "|", "▍": "|", "▌": "|", "▋": "#", "▊": "#", "▉": "#", "└": "`", "░": ".", "▒": ":", "▓": "%",
}  # fmt: skip


class Terminal:
    """``with Terminal() as terminal:``, then ``draw`` and ``keys``. Raises OSError without a terminal."""

    def __init__(self, out: int | None = None) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno() if out is None else out
        if not os.isatty(self._in) or not os.isatty(self._out):
            raise OSError("the dashboard needs a terminal; --once prints one snapshot, --json prints it as JSON")
        if is_dumb():
            raise OSError(
                "the dashboard needs a terminal whose cursor can move, but TERM is dumb; --once prints one snapshot, "
                "--json prints it as JSON"
            )
        self._encoding = sys.stdout.encoding or "utf-8"
        self._glyphs = glyphs_for(os.environ.get("TERM", ""), self._encoding)
        self._shown: list[str] = []
        self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        self._pending = ""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._handlers: dict[int, Any] = {}
        self._console = Console(file=sys.stdout, highlight=False, emoji=False, force_terminal=True)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._in)
        self._take()
        on: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGWINCH: self._resized, signal.SIGTERM: _end, signal.SIGHUP: _end, signal.SIGTSTP: self._stopped,
            signal.SIGCONT: self._continued,
        }  # fmt: skip
        try:
            self._handlers = {number: signal.signal(number, handler) for number, handler in on.items()}
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, at least one each."""
        try:
            columns, lines = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return max(columns, 1), max(lines, 1)

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines from the top; only changed lines are written."""
        width, height = self.size
        encoded = [self._encode(line, width) for line in lines[:height]]
        encoded += ["\x1b[K"] * (height - len(encoded))
        shown: Sequence[str | None] = self._shown if len(self._shown) == height else [None] * height
        out = [f"\x1b[{at};1H\x1b[0m{line}\x1b[0m" for at, line in enumerate(encoded, 1) if line != shown[at - 1]]
        self._shown = encoded
        if out:
            self._write("".join(out))

    def redraw(self) -> None:
        """Clear the screen; the next ``draw`` writes all lines. Another program may have written over them."""
        self._shown = []
        self._write("\x1b[2J")

    def copy(self, text: str) -> None:
        """Put text into the clipboard, by the terminal: OSC 52. Many terminals do, some only if they are set to."""
        self._write(f"\x1b]52;c;{base64.b64encode(text.encode('utf-8', 'replace')).decode()}\x07")

    def keys(self, seconds: float) -> list[str]:
        """The keys pressed within ``seconds``, or until ``wake``: characters, or names like "up" and "enter"."""
        ready, _, _ = select.select([self._in, self._wake_read], [], [], seconds)
        if self._wake_read in ready:
            try:
                os.read(self._wake_read, 4096)
            except BlockingIOError:
                pass
        if self._in in ready:
            data = os.read(self._in, 4096)
            if not data:
                return ["eof"]
            self._pending += self._decoder.decode(data)
            while begun := _BEGUN.search(self._pending):
                if not select.select([self._in], [], [], _ESCAPE if begun[0] == "\x1b" else _REST)[0]:
                    break
                data = os.read(self._in, 4096)
                if not data:
                    break
                self._pending += self._decoder.decode(data)
        found, self._pending = read_keys(self._pending), ""
        return found

    def wake(self) -> None:
        """Make ``keys`` return; may be called from any thread and from signal handlers."""
        try:
            os.write(self._wake_write, b"x")
        except OSError:
            pass  # full, so keys() returns anyway; or closed

    @contextmanager
    def suspended(self) -> Iterator[tuple[int, int]]:
        """Lend the terminal to another program, as an editor; its descriptors. Ctrl+C and Ctrl+Z go to that program."""
        self._give_back()
        # A handler, not SIG_IGN: the other program would inherit SIG_IGN.
        on: dict[int, Any] = {
            signal.SIGINT: lambda *_: None, signal.SIGTSTP: signal.SIG_DFL, signal.SIGCONT: signal.SIG_DFL,
        }  # fmt: skip
        before = {number: signal.signal(number, handler) for number, handler in on.items()}
        try:
            yield self._in, self._out
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._take()

    def _encode(self, line: Text, width: int) -> str:
        line = line.copy()
        line.truncate(width, overflow="crop")
        with self._console.capture() as captured:
            self._console.print(line, end="", no_wrap=True, overflow="ignore", crop=False, width=width + 1)
        # Not for a full line: the cursor then stands on its last cell, and would erase it.
        return captured.get().translate(self._glyphs) + ("\x1b[0m\x1b[K" if line.cell_len < width else "")

    def _take(self) -> None:
        tty.setcbreak(self._in)  # Ctrl+C stays a signal, so that it can always end the program
        self._shown = []
        self._write(_ENTER)

    def _give_back(self) -> None:
        try:
            self._write(_LEAVE)
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass  # the terminal is gone

    def _write(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                select.select([], [self._out], [], 1)

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._shown = []
        self.wake()

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        """Ctrl+Z: restore the terminal, stop, and take the terminal again afterwards."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stopped)  # execution continues here
        self._take()
        self.wake()

    def _continued(self, number: int, frame: FrameType | None) -> None:
        """SIGCONT: take the terminal again after a SIGSTOP, which cannot be caught; harmless after Ctrl+Z."""
        self._take()
        self.wake()


def is_dumb() -> bool:
    """Whether the terminal cannot move its cursor: Emacs' shell, a viewed log."""
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")


def glyphs_for(terminal: str, encoding: str) -> dict[int, str]:
    """A table for ``str.translate``; ``terminal`` is the value of TERM."""
    if encoding.lower().replace("_", "-") not in ("utf-8", "utf8"):
        return str.maketrans(_ASCII)
    return str.maketrans(_CODE_PAGE_437) if terminal == "linux" else {}


def read_keys(text: str) -> list[str]:
    """The keys in text from a terminal."""
    found: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\x1b":
            name, size = _sequence(text[at + 1 :])
            found.append(name)
            at += 1 + size
            continue
        at += 1
        if char in _CONTROLS:
            found.append(_CONTROLS[char])
        elif char.isprintable():
            found.append(char)
    return [one for one in found if one]


def _sequence(rest: str) -> tuple[str, int]:
    """The key of an escape sequence ("" if unknown), and the number of its characters."""
    if not rest or rest[0] not in "[O":
        return "escape", 0
    end = 2 if rest.startswith("[[") else 1  # the Linux console's function keys
    while end < len(rest) and not ("@" <= rest[end] <= "~"):
        end += 1
    sequence = rest[: end + 1]
    return _SEQUENCES.get(sequence, ""), len(sequence)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
