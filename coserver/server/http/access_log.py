"""The access log: one record for each exchange, after its last byte, on the standard logger ``coserver.access``.

A format in Apache's words is compiled once to a function of an Entry. Text from clients is escaped as Apache does it:
no request can add a line, or send control characters to a terminal. The records have all values as attributes too.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ...transport.peer import host_of
from ..handler.errors import SetupError
from ..handler.request import make_request_id

if TYPE_CHECKING:
    from .exchange import HttpExchange

#: The formats that have names (httpd.apache.org, mod_log_config).
FORMATS = {
    "common": '%h %l %u %t "%r" %>s %b',
    "combined": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
}

#: The logged status of a request whose client left before the response began. nginx has introduced it.
CLIENT_LEFT = 499

log = logging.getLogger("coserver.access")


@dataclass(slots=True)
class Entry:
    """The values that can be logged of one exchange. ``at`` is the time of its head, in seconds since 1970.

    ``status`` 0: the server ended the exchange without an answer. ``ended``: why it was broken off, "" if it was not.
    Without a sound head, ``method`` to ``fields`` are empty. ``answer`` is the response's bytes from its head on.
    """

    at: float
    seconds: float
    peer: str
    client: str
    request_id: str
    connection: int
    exchange: int
    status: int
    size: int
    method: str = ""
    target: str = ""
    version: str = ""
    path: str = ""
    query: str = ""
    fields: Sequence[tuple[bytes, bytes]] = ()
    answer: bytes = b""
    handler: str = ""
    served: int = 0
    keep_alive: bool = False
    ended: str = ""

    @property
    def line(self) -> str:
        """The request line."""
        return f"{self.method} {self.target} {self.version}" if self.method else ""


Line = Callable[[Entry], str]

_word = re.compile(r"%[<>]?(?:\{([^{}]*)\})?([a-zA-Z%]?)")

#: The words of a format, each with its value. "" is written as "-". Some also take a {parameter}, see below.
WORDS: dict[str, Callable[[Entry], Any]] = {
    "a": lambda e: e.client,
    "h": lambda e: e.client,
    "l": lambda e: "",
    "u": lambda e: "",
    "t": lambda e: _clf_time(e.at),
    "r": lambda e: e.line,
    "m": lambda e: e.method,
    "U": lambda e: e.path,
    "q": lambda e: f"?{e.query}" if e.query else None,
    "H": lambda e: e.version,
    "s": lambda e: e.status or "",
    "b": lambda e: e.size or "",
    "B": lambda e: e.size,
    "D": lambda e: round(e.seconds * 1e6),
    "T": lambda e: int(e.seconds),
    "k": lambda e: e.served,
    "L": lambda e: e.request_id,
    "P": lambda e: os.getpid(),
    "R": lambda e: e.handler,
    "X": lambda e: "X" if e.ended else "+" if e.keep_alive else "-",
}

_UNITS = {"s": 1, "ms": 1e3, "us": 1e6}


def _in_unit(unit: str) -> Callable[[Entry], Any]:
    if unit not in _UNITS:
        raise SetupError(f"access_format: the unit of %{{...}}T is s, ms or us; got %{{{unit}}}T")
    factor = _UNITS[unit]
    return lambda e: int(e.seconds * factor)


def _request_field(name: str) -> Callable[[Entry], Any]:
    wanted = _field_name(name, "i")
    return lambda e: b", ".join([value for key, value in e.fields if key == wanted]).decode("latin-1")


def _response_field(name: str) -> Callable[[Entry], Any]:
    wanted = _field_name(name, "o")

    def find(entry: Entry) -> str:
        lines = entry.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        found = [value for key, _, value in (line.partition(b":") for line in lines) if key.lower() == wanted]
        return b", ".join([value.strip() for value in found]).decode("latin-1")

    return find


def _address(which: str) -> Callable[[Entry], Any]:
    if which != "c":
        raise SetupError(f"access_format: use %a for the client, or %{{c}}a for the peer; got %{{{which}}}a")
    return lambda e: host_of(e.peer)


def _time_in(form: str) -> Callable[[Entry], Any]:
    try:
        time.strftime(form)
    except ValueError as error:
        raise SetupError(f"access_format: %{{...}}t takes a format of strftime; got {form!r}: {error}") from None
    return lambda e: time.strftime(form, time.localtime(e.at))


#: The words with a {parameter}.
WITH_PARAMETER: dict[str, Callable[[str], Callable[[Entry], Any]]] = {
    "a": _address,
    "i": _request_field,
    "o": _response_field,
    "t": _time_in,
    "T": _in_unit,
}


def compile_format(text: str) -> Line:
    """Make a function from an Entry to its line, by "common", "combined" or a format in Apache's words.

    Raises SetupError, which lists the known words.
    """
    text = FORMATS.get(text, text)
    getters: list[Callable[[Entry], Any]] = []

    def take(match: re.Match[str]) -> str:
        parameter, word = match.groups()
        if match[0] == "%%":
            return "%%"
        if parameter is not None and word in WITH_PARAMETER:
            getters.append(WITH_PARAMETER[word](parameter))
        elif parameter is None and word in WORDS:
            getters.append(WORDS[word])
        else:
            raise SetupError(_unknown(match[0]))
        return "%s"

    template = _word.sub(take, text)
    return lambda entry: template % tuple([_shown(getter(entry)) for getter in getters])


def _unknown(word: str) -> str:
    known = " ".join(f"%{each}" for each in WORDS)
    taking = " ".join(f"%{{...}}{each}" for each in WITH_PARAMETER)
    return (
        f"access_format: unknown word {word!r}; use {known} {taking} and %%, "
        f"or one of the formats {' and '.join(FORMATS)}"
    )


def _field_name(name: str, word: str) -> bytes:
    if not name or not name.isascii():
        raise SetupError(f"access_format: %{{...}}{word} takes a field's name: %{{User-Agent}}{word}; got {name!r}")
    return name.lower().encode()


# Apache's ap_escape_logitem.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 256))}
_ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 13: "\\r", ord('"'): '\\"', ord("\\"): "\\\\"}


def escape(text: str) -> str:
    """Escape all but printable ASCII in ``text``, and its quotes and backslashes."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    text = text.translate(_ESCAPES)
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


def _shown(value: Any) -> str:
    if type(value) is str:
        return escape(value) if value else "-"
    return "" if value is None else str(value)


_clock = (0, "")  # a second, and how it is written


def _clf_time(at: float) -> str:
    """Format a time as [24/Nov/2026:03:55:17 +0000], in the machine's time zone. Made once a second."""
    global _clock
    second, text = _clock
    if second != int(at):
        second = int(at)
        local = time.localtime(second)
        month = _MONTHS[local.tm_mon - 1]  # strftime's would be in the locale's language
        text = time.strftime(f"[%d/{month}/%Y:%H:%M:%S %z]", local)
        _clock = (second, text)
    return text


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def access_writer(text: str) -> Callable[..., None]:
    """Make the function that a Service calls for each exchange: ``access(exchange, ended)``. Raises SetupError.

    ``ended`` says why the exchange was broken off; "" is the usual end. The function never raises: an error of the log
    must not reach the client.
    """
    # Apache's two formats have no word for ``ended``, and a part must not look like the whole.
    mark = " (broken off: %s)" if text in FORMATS else ""
    return partial(_write, compile_format(text), mark)


def _write(line: Line, mark: str, exchange: HttpExchange, ended: str = "") -> None:
    exchange.logged = True
    if not log.isEnabledFor(logging.INFO):
        return
    try:
        entry = entry_of(exchange, ended)
        message = line(entry)
        if ended and mark:
            message += mark % escape(ended)
        # Not log.info: that searches the whole stack for its caller, which is always this function.
        record = logging.getLogRecordFactory()(log.name, logging.INFO, __file__, 0, message, (), None)
        for name in ATTRIBUTES:
            setattr(record, name, getattr(entry, name))
        log.handle(record)
    except Exception:  # a filter or a handler of the user's
        if logging.raiseExceptions and sys.stderr:
            traceback.print_exc()


#: The fields of an Entry that each record has as attributes.
ATTRIBUTES = (
    "method", "target", "status", "size", "seconds", "peer", "client", "request_id", "connection", "exchange",
    "handler", "ended",
)  # fmt: skip


def entry_of(exchange: HttpExchange, ended: str) -> Entry:
    """Make the Entry of an exchange that is over."""
    seconds = max(monotonic() - exchange.started, 0.0)
    connection, head = exchange.connection, exchange.head
    peer = connection.peer
    entry = Entry(
        at=time.time() - seconds,
        seconds=seconds,
        peer=peer,
        client=host_of(peer),
        request_id="",
        connection=connection.id,
        exchange=exchange.id,
        status=exchange.status or (CLIENT_LEFT if ended.startswith("the client") else 0),
        size=exchange.size,
        answer=exchange.answer_head,
        handler=exchange.endpoint.name if exchange.endpoint else "",
        served=connection.served,
        keep_alive=exchange.keep_alive,
        ended=ended,
    )
    if head is None:
        entry.request_id = make_request_id(exchange.id)
        return entry
    entry.client, entry.request_id = exchange.request.client, exchange.request.request_id
    entry.method, entry.target, entry.version = head.method, head.target, f"HTTP/1.{head.minor}"
    entry.path, entry.query, entry.fields = head.path, head.query, head.fields
    return entry
