"""An exception as data: its frames with source and variables, its causes, the members of a group.

Reading never raises, however odd the exception is, and all sizes are bounded.
"""

from __future__ import annotations

import linecache
import sysconfig
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, TracebackType

from .masks import LEAF_SIZE, VALUE_SIZE, Masks, cut

#: Frames that are kept at both ends of a long traceback; a recursion has a thousand between them.
FIRST, LAST = 10, 20
#: Lines of source before and after the line of a frame.
AROUND = 4
#: Variables of one frame, causes of one exception, members of one group, groups within groups.
LOCALS, CHAIN, MEMBERS, DEPTH = 40, 8, 8, 3

_paths = sysconfig.get_paths()
#: Code that is not the user's: coserver, the standard library, installed packages.
_NOT_OWN = (str(Path(__file__).parents[2]), _paths["stdlib"], _paths["platstdlib"], "<frozen ")
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Line:
    """A line of source; ``here`` is true for the line that raised."""

    number: int
    text: str
    here: bool


@dataclass(frozen=True)
class Frame:
    """A frame. ``own``: it is the user's code. ``variables`` has name and repr, for own frames and the last frame."""

    file: str
    line: int
    function: str
    own: bool
    source: list[Line] = field(default_factory=list)
    variables: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """One exception. ``frames`` starts with the outermost; ``left_out`` frames are missing after the first ``FIRST``.

    ``relation`` is the relation to the exception before it in the chain. ``members`` has a chain for each member of a
    group.
    """

    kind: str
    message: str
    notes: list[str]
    frames: list[Frame]
    left_out: int
    relation: str
    members: list[list[Failure]]
    more_members: int = 0


def read(error: BaseException, masks: Masks, depth: int = 0) -> list[Failure]:
    """The exception and the exceptions that led to it, at most ``CHAIN``."""
    chain: list[Failure] = []
    seen: set[int] = set()
    at: BaseException | None = error
    relation = ""
    while at is not None and id(at) not in seen and len(chain) < CHAIN:
        seen.add(id(at))
        chain.append(_read_one(at, masks, relation, depth))
        if at.__cause__ is not None:
            at, relation = at.__cause__, "caused by"
        else:
            at, relation = (None if at.__suppress_context__ else at.__context__), "raised while handling"
    return chain


def _read_one(error: BaseException, masks: Masks, relation: str, depth: int) -> Failure:
    steps = _walk(error.__traceback__)
    left_out = max(len(steps) - FIRST - LAST, 0)
    if left_out:
        del steps[FIRST:-LAST]
    frames = [_read_frame(frame, line, masks, last=at == len(steps)) for at, (frame, line) in enumerate(steps, 1)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append(_where_syntax_broke(error))
    members: list[list[Failure]] = []
    more = 0
    if isinstance(error, BaseExceptionGroup):
        shown = error.exceptions[: MEMBERS if depth < DEPTH else 0]
        members = [read(one, masks, depth + 1) for one in shown]
        more = len(error.exceptions) - len(shown)
    kind = type(error)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    notes = getattr(error, "__notes__", None)
    shown_notes = [_text(note, masks) for note in notes[:MEMBERS]] if isinstance(notes, list) else []
    return Failure(
        f"{module}{kind.__qualname__}", _text(error, masks), shown_notes, frames, left_out, relation, members, more
    )


def _walk(trace: TracebackType | None) -> list[tuple[FrameType, int]]:
    """The frames with their lines, without the server's frames before the handler."""
    steps = [(frame, line or frame.f_code.co_firstlineno) for frame, line in traceback.walk_tb(trace)]
    begin = next((at for at, (frame, _) in enumerate(steps) if is_own(frame.f_code.co_filename)), 0)
    inside = all(frame.f_code.co_filename.startswith(_NOT_OWN[0]) for frame, _ in steps[:begin])
    return steps[begin:] if inside else steps


def _text(value: object, masks: Masks) -> str:
    try:
        return cut(masks.text(str(value)), VALUE_SIZE)
    except (Exception, SystemExit, GeneratorExit) as second:
        return f"(its str raises {type(second).__name__})"


def _read_frame(frame: FrameType, line: int, masks: Masks, *, last: bool) -> Frame:
    code = frame.f_code
    own = is_own(code.co_filename)
    linecache.checkcache(code.co_filename)
    source = _around(code.co_filename, line, frame) if own or last else _around(code.co_filename, line, frame, 0)
    variables = _variables(frame, masks) if own or last else []
    return Frame(code.co_filename, line, code.co_qualname, own, source, variables)


def _around(file: str, line: int, frame: FrameType | None, around: int = AROUND) -> list[Line]:
    lines = linecache.getlines(file, frame.f_globals if frame else None)
    numbers = range(max(line - around, 1), min(line + around, len(lines)) + 1)
    return [Line(number, cut(lines[number - 1].rstrip("\r\n"), LEAF_SIZE), number == line) for number in numbers]


def _variables(frame: FrameType, masks: Masks) -> list[tuple[str, str]]:
    """The variables of a frame, without modules, functions and classes, which the source shows.

    ``isinstance`` would ask the value itself, and a proxy may raise then.
    """
    named = [
        (name, value)
        for name, value in frame.f_locals.items()
        if not name.startswith(("__", "@")) and not issubclass(type(value), ModuleType | FunctionType | type)
    ]
    return [(name, masks.value(name, value)) for name, value in named[:LOCALS]]


def _where_syntax_broke(error: SyntaxError) -> Frame:
    """A frame for the place of a syntax error, where no code has run."""
    file, line = str(error.filename), error.lineno or 1
    source = _around(file, line, None) or [Line(line, cut((error.text or "").rstrip(), LEAF_SIZE), True)]
    return Frame(file, line, "cannot be compiled", True, source)


def is_own(file: str) -> bool:
    """Whether this file is the user's, judged by its folder."""
    return not file.startswith(_NOT_OWN) and not any(name in Path(file).parts for name in _INSTALLED)
