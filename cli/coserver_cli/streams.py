"""The command's standard streams: characters that they lack, a full disk, a reader that is gone.

An error is one line and an exit code, never a traceback.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: The names of the error handlers: one writes characters as JSON escapes (RFC 8259 §7), the other as ASCII that
#: looks alike.
_JSON, _ALIKE = "coserver.json", "coserver.alike"
#: Errors of a stream that is open already. An error of a file names the file.
_OF_THE_STREAM = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.ECONNRESET}


def prepare(*, as_json: bool) -> None:
    """Have stdout and stderr take any text.

    In the place of a character that the encoding lacks stands one that looks alike, or a ?; in JSON an escape.

    A closed stdout or stderr is replaced by a file that takes all and keeps nothing.
    """
    codecs.register_error(_JSON, _escape)
    codecs.register_error(_ALIKE, _look_alike)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for the process's life
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_JSON if as_json and name == "stdout" else _ALIKE)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)), error.end


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from coserver.views.dashboard.terminal import glyphs_for

    alike = error.object[error.start : error.end].translate(glyphs_for("", "ascii"))
    return "".join(one if one.isascii() else "?" for one in alike), error.end


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with one line for an unwritable stdout, or a removed working folder. A reader that is gone needs no line."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        code = _report(error)
        if code is None:
            raise
        raise SystemExit(code) from None


def _report(error: OSError) -> int | None:
    """Tell a person about the error; the exit code, or None for an error of another kind."""
    from . import console

    if error.errno in _OF_THE_STREAM and error.filename is None:
        _let_go()
        if error.errno != errno.EPIPE:
            console.error(f"the output cannot be written: {error.strerror}; it is not complete")
        return 1
    try:
        os.getcwd()
    except OSError:
        console.error("the current folder is gone", "change into a folder that exists")
        return 1
    return None


def _let_go() -> None:
    """Have stdout take all, and keep nothing: Python would fail at its end, with a traceback and exit code 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
