"""The command's own log: what goes to stderr, from which level on, as text or as JSON.

Only the command calls ``configure``: an embedded server logs to the standard loggers, and leaves the handlers and
levels of the program around it alone. How the lines are written is ``logwriter``'s to say.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from coserver.app.config.process_settings import DEBUGGED, LogSettings
from coserver.server.handler.errors import FAILURE

from .log_writer import LogHandler, LogWriter

#: Its records are whole lines already, to be read by programs.
_ACCESS = "coserver.access"


def configure(settings: LogSettings, stream: TextIO | None = None) -> LogWriter:
    """Log to ``stream`` (stderr), from ``settings.level`` on: what is coserver's, and what nobody else has a place for.

    The loggers of the app are shown as well, until the app configures the root logger: then they go where it says.
    Called again, it replaces what it set up before. What waits is written at the end of the program.
    """
    stream = stream or sys.stderr
    writer = LogWriter(_descriptor(stream), stream.encoding if stream is not None else "utf-8")
    terminal = stream is not None and stream.isatty()
    form: logging.Formatter
    form = JsonFormat() if settings.format == "json" else TextFormat(terminal=terminal, colour=_colour(terminal))
    handler = LogHandler(writer, form)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    ours = logging.getLogger("coserver")
    for old in [one for one in ours.handlers if isinstance(one, LogHandler)]:
        ours.removeHandler(old)
        old.close()
    ours.addHandler(handler)
    ours.setLevel(level)
    ours.propagate = False  # or every line is said twice where the app configures the root logger
    for shown in DEBUGGED:
        logging.getLogger(f"coserver.{shown}").setLevel(logging.DEBUG if shown in settings.debug else logging.NOTSET)
    logging.getLogger().setLevel(level)
    # Not a handler of the root's: the app's own basicConfig() would then do nothing at all.
    logging.lastResort = handler
    return writer


def writer() -> LogWriter | None:
    """What the log is written by, for other lines that are to stand among it; None before ``configure``."""
    handler = logging.lastResort
    return handler.writer if isinstance(handler, LogHandler) else None


def _descriptor(stream: TextIO | None) -> int:
    # Without stderr (2>&-) there is none to fall back on: number 2 is then some client's socket.
    return os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()


class TextFormat(logging.Formatter):
    """``2026-11-24 03:55:17 WARNING coserver.server: message``; on a terminal without the date, and in colour.

    Access records stand alone: they say when themselves, in a format that was chosen.
    """

    def __init__(self, *, terminal: bool = False, colour: bool = False) -> None:
        super().__init__(datefmt="%H:%M:%S" if terminal else "%Y-%m-%d %H:%M:%S")
        self._colours = _COLOURS if colour else {}

    def format(self, record: logging.LogRecord) -> str:
        """The record as a person reads it."""
        message = message_of(record)
        if record.name != _ACCESS:
            level = record.levelname
            if colour := self._colours.get(record.levelno):
                level = f"\x1b[{colour}m{level}\x1b[0m"
            message = f"{self.formatTime(record, self.datefmt)} {level} {record.name}: {message}"
        text = "\n".join([message, *_appendix(record)])
        return text if text.isprintable() else _UNSAFE.sub(_escape, text)


#: What a terminal obeys, and a client may have written into what is logged; of escape sequences colours go through.
_UNSAFE = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


_COLOURS = {10: "2", 20: "32", 30: "33", 40: "31", 50: "1;31"}  # DEBUG dim, INFO green, yellow, red, CRITICAL bold


def _colour(terminal: bool) -> bool:
    """Colours on a terminal that knows them, unless NO_COLOR is set; FORCE_COLOR asks for them in a pipe too."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (terminal and os.environ.get("TERM") not in (None, "", "dumb"))


class JsonFormat(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, exception, and the record's own attributes.

    Never fails: what JSON cannot say is its repr, and an attribute that takes one of these names gets a ``_``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object on one line."""
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
        }
        if appendix := _appendix(record):
            said["exception"] = "\n".join(appendix)
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                said[f"{name}_" if name in _OURS else name] = value
        try:
            line = _dumps(said)
        except Exception:
            line = _dumps({str(name): _sayable(value) for name, value in said.items()})
        # A lone surrogate is no text: half of the readers refuse it.
        return line if line.isascii() else line.encode("utf-8", "replace").decode()


_OURS = {"time", "level", "logger", "message", "exception"}
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", FAILURE}


def message_of(record: logging.LogRecord) -> str:
    """The message; where its arguments do not fit, it and they apart, for a slip must not hide what it says."""
    try:
        return record.getMessage()
    except Exception as error:
        return f"{_repr(record.msg)} with {_repr(record.args)} ({type(error).__name__} in this log call)"


def _appendix(record: logging.LogRecord) -> list[str]:
    """The exception's traceback and the stack, if the record has any."""
    found = []
    try:
        if record.exc_info and not record.exc_text:
            record.exc_text = _formatter.formatException(record.exc_info)
    except Exception as error:  # an exception whose str() raises
        record.exc_text = f"{record.exc_info[0]} ({type(error).__name__} while it was shown)" if record.exc_info else ""
    if record.exc_text:
        found.append(record.exc_text)
    if record.stack_info:
        found.append(record.stack_info)
    return found


_formatter = logging.Formatter()


def _sayable(value: Any) -> Any:
    try:
        _dumps(value)
    except Exception:
        return _repr(value)
    return value


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}, whose repr() raises>"


_dumps = json.JSONEncoder(default=_repr, ensure_ascii=False, allow_nan=False).encode
