"""The rows of a snapshot as JSON text, and back: one writer and one reader for each class of rows, made of its fields.

A template made of the fields takes 1 µs for a connection. The encoder of the standard library takes 5 µs, since it
needs dictionaries first. Durations are written to the microsecond, infinite limits as null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields
from json.encoder import encode_basestring_ascii
from typing import Any

from ...lifecycle.frozen_dataclass import maker
from .rows import (
    ConnectionState,
    ExchangeState,
    ListenerState,
    MemberState,
    SubrequestState,
    Suspension,
    UpstreamState,
    WorkersState,
)

Writer = Callable[[Any], str]
Reader = Callable[[Mapping[str, Any]], Any]


def mapping_json(given: Mapping[str, Any]) -> str:
    return json.dumps({name: None if value == math.inf else value for name, value in given.items()})


def list_json(write: Writer, rows: Iterable[Any]) -> str:
    return f"[{', '.join([write(row) for row in rows])}]"


class _Texts(dict[str, str]):
    """JSON of texts that many rows repeat. A look-up costs half as much as writing the text."""

    def __missing__(self, text: str) -> str:
        written = encode_basestring_ascii(text)
        if len(self) < _TEXTS_MAX:
            self[text] = written
        return written


_TEXTS_MAX = 1000
#: Fields with few different values.
_FEW = frozenset({"listener", "phase", "protocol", "server"})
#: By a field's annotation: the part of an f-string that writes ``value``.
_WRITES = {
    "int": "{value}",
    "float": "{value:.6f}",
    "float | None": "{'null' if value is None else format(value, '.6f')}",
    "str": "{text(value)}",
    "bool": "{'true' if value else 'false'}",
    "Mapping[str, Any]": "{mapping(value)}",
    "Mapping[str, Any] | None": "{'null' if value is None else mapping(value)}",
}


_texts = _Texts()


def _writer(kind: type, **nested: Writer) -> Writer:
    """Make the function that writes a row of this class. ``nested`` has a writer for each field that holds rows."""
    parts = []
    known = {"text": encode_basestring_ascii, "texts": _texts, "mapping": mapping_json, "list_json": list_json}
    for each in _written(kind):
        name = each.name
        if name not in nested:
            write = "{texts[value]}" if name in _FEW else _WRITES[str(each.type)]
        elif str(each.type).startswith("tuple"):
            write = f"{{list_json(write_{name}, value) if value else '[]'}}"
        else:
            write = f"{{'null' if value is None else write_{name}(value)}}"
        parts.append(f'"{name}": {write.replace("value", f"row.{name}")}')
        known |= {f"write_{name}": nested[name]} if name in nested else {}
    template = "{{" + ", ".join(parts) + "}}"
    writer: Writer = eval(f"lambda row: f'''{template}'''", known)
    return writer


def _written(kind: type) -> list[Field[Any]]:
    return [each for each in fields(kind) if each.metadata.get("json", True)]


write_listener = _writer(ListenerState)
write_workers = _writer(WorkersState)
write_upstream = _writer(UpstreamState, members=_writer(MemberState))
write_exchange = _writer(ExchangeState, suspended=_writer(Suspension), subrequests=_writer(SubrequestState))
_write_connection = _writer(ConnectionState, exchanges=write_exchange)


def write_connection(row: ConnectionState) -> str:
    """A row of connections, with the deprecated name ``exchange`` for the first of ``exchanges``."""
    first = write_exchange(row.exchanges[0]) if row.exchanges else "null"
    return f'{_write_connection(row)[:-1]}, "exchange": {first}}}'


def exchange_dict(row: ExchangeState) -> dict[str, Any]:
    """The row as plain values, as in the JSON of a snapshot."""
    found: dict[str, Any] = json.loads(write_exchange(row))
    return found


def _reader(kind: type, **nested: Reader) -> Reader:
    """Make the function that reads a row of this class.

    It ignores unknown names, and takes the default of a missing one. It raises TypeError, KeyError, AttributeError.
    """
    parts, known = [], {"make": maker(kind)}
    for each in _written(kind):
        value = f"given[{each.name!r}]"
        if each.name in nested:
            known[f"read_{each.name}"] = nested[each.name]
            several = f"tuple([read_{each.name}(one) for one in {value}]) if {value} else ()"
            single = f"{value} and read_{each.name}({value})"
            value = several if str(each.type).startswith("tuple") else single
        parts.append(f"{each.name}={value}")
    read = eval(f"lambda given: make({', '.join(parts)})", known)
    defaults = {each.name: each.default for each in _written(kind) if each.default is not MISSING}

    def read_any(given: Mapping[str, Any]) -> Any:
        try:
            return read(given)
        except KeyError:  # perhaps another version wrote it
            return read({**defaults, **given})

    return read_any


_read_listener = _reader(ListenerState)


def read_listener(given: Mapping[str, Any]) -> ListenerState:
    """Read a listener. A limit that is null is infinite."""
    limits = {name: math.inf if value is None else value for name, value in given["limits"].items()}
    row: ListenerState = _read_listener({**given, "limits": limits})
    return row


read_workers = _reader(WorkersState)
read_upstream = _reader(UpstreamState, members=_reader(MemberState))
read_exchange = _reader(ExchangeState, suspended=_reader(Suspension), subrequests=_reader(SubrequestState))
_read_connection = _reader(ConnectionState, exchanges=read_exchange)


def read_connection(given: Mapping[str, Any]) -> ConnectionState:
    """Takes the older name ``exchange`` too, for one exchange or null."""
    if "exchanges" not in given and given.get("exchange") is not None:
        given = {**given, "exchanges": [given["exchange"]]}
    row: ConnectionState = _read_connection(given)
    return row
