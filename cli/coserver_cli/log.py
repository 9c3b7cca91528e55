"""The command's log on stderr: levels, text format, JSON format.

Only the command calls ``configure``. An embedded server logs to the standard loggers, and changes no handlers or levels
of its program. ``log_writer`` writes the lines.
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
from coserver.server.handler.errors import FAILURE, LEFT_OUT

from .log_writer import LogHandler, LogWriter

#: Records of this logger are complete lines, made for programs.
_ACCESS = "coserver.access"


def configure(settings: LogSettings, stream: TextIO | None = None) -> LogWriter:
    """Log to ``stream`` (stderr) from ``settings.level`` on: coserver's loggers, and all without another handler.

    The app's loggers are shown too, until the app configures the root logger. A second call replaces the first one's
    handlers. Lines that still wait are written at the end of the program.
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
    ours.propagate = False  # else each line is logged twice if the app configures the root logger
    for shown in DEBUGGED:
        logging.getLogger(f"coserver.{shown}").setLevel(logging.DEBUG if shown in settings.debug else logging.NOTSET)
    logging.getLogger().setLevel(level)
    # Not a handler of the root logger: the app's basicConfig() would do nothing then.
    logging.lastResort = handler
    return writer


def writer() -> LogWriter | None:
    """The log's writer, for other lines in the same order; None before ``configure``."""
    handler = logging.lastResort
    return handler.writer if isinstance(handler, LogHandler) else None


def _descriptor(stream: TextIO | None) -> int:
    # Without stderr (2>&-) write to /dev/null: descriptor 2 may be a client's socket then.
    return os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()


class TextFormat(logging.Formatter):
    """``2026-11-24 03:55:17 WARNING coserver.server: message``; on a terminal without the date, and in colour.

    Access records have nothing added: their chosen format has its own time.
    """

    def __init__(self, *, terminal: bool = False, colour: bool = False) -> None:
        super().__init__(datefmt="%H:%M:%S" if terminal else "%Y-%m-%d %H:%M:%S")
        self._colours = _COLOURS if colour else {}

    def format(self, record: logging.LogRecord) -> str:
        """The record as text for a person."""
        message = message_of(record)
        if record.name != _ACCESS:
            level = record.levelname
            if colour := self._colours.get(record.levelno):
                level = f"\x1b[{colour}m{level}\x1b[0m"
            message = f"{self.formatTime(record, self.datefmt)} {level} {record.name}: {message}"
        text = "\n".join([message, *_appendix(record)])
        return text if text.isprintable() else _UNSAFE.sub(_escape, text)


#: Control characters that a client may have sent. Of escape sequences only colours pass.
_UNSAFE = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


_COLOURS = {10: "2", 20: "32", 30: "33", 40: "31", 50: "1;31"}  # DEBUG dim, INFO green, yellow, red, CRITICAL bold


def _colour(terminal: bool) -> bool:
    """Whether to use colours: on a terminal with colours, unless NO_COLOR is set; FORCE_COLOR sets them in pipes."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (terminal and os.environ.get("TERM") not in (None, "", "dumb"))


class JsonFormat(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, exception, and the record's own attributes.

    It never fails: a value that JSON lacks becomes its repr. An attribute with one of these names gets a ``_``.
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
            lines = "\n".join(appendix).splitlines()
            said["exception"] = "\n".join(line for line in lines if LEFT_OUT not in line)  # hidden_frames has it
        for name, value in record.__dict__.items():
            if name not in _STANDARD:
                said[f"{name}_" if name in _OURS else name] = value
        try:
            line = _dumps(said)
        except Exception:
            line = _dumps({str(name): _sayable(value) for name, value in said.items()})
        # A lone surrogate is not text: many readers refuse it.
        return line if line.isascii() else line.encode("utf-8", "replace").decode()


_OURS = {"time", "level", "logger", "message", "exception"}
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", FAILURE}


def message_of(record: logging.LogRecord) -> str:
    """The message. If its arguments do not fit, message and arguments side by side, so that nothing is lost."""
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
    except Exception as error:  # the exception's str() raises
        record.exc_text = (
            f"{record.exc_info[0]} ({type(error).__name__} while formatting it)" if record.exc_info else ""
        )
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
