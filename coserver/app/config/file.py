"""Reads a configuration file: checks each key against the table of options, and reports all problems at once.

Environment, flags and precedence are in ``resolve``. Objects that the file names are not imported here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...server.handler.errors import SetupError
from . import values
from .table import LISTENER, SECTIONS, UPSTREAMS, Option, listener_table, table, upstream_table, upstream_tls_table
from .toml_lines import Document, TomlError

#: The file that is read if neither a file nor an app is named.
USUAL = "coserver.toml"
#: Bytes; far more than any person writes. In a larger file the search for an unclosed quote would take minutes.
_LARGEST = 256 * 1024


class ConfigError(SetupError):
    """A wrong configuration. Each of ``problems`` begins with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class Sourced:
    """A value and its origin. ``source`` is "file", "environment" or "flag"; ``where``: ``shop.toml:3``, ``--port``."""

    value: Any
    source: str
    where: str


@dataclass
class ListenerTable:
    """One ``[[listener]]`` table: its keys, and those of its ``[listener.limits]`` and ``[listener.tls]``.

    ``named`` are all of its keys, even those with an invalid value.
    """

    where: str
    named: frozenset[str] = frozenset()
    given: dict[str, Sourced] = field(default_factory=dict)
    limits: dict[str, Sourced] = field(default_factory=dict)
    tls: dict[str, Sourced] | None = None  # None: as the server's

    def value(self, name: str) -> Any:
        return self.given[name].value if name in self.given else None


@dataclass
class UpstreamTable:
    """One ``[upstreams.NAME]`` table: its keys, by name, and those of its ``[upstreams.NAME.tls]``."""

    name: str
    where: str
    given: dict[str, Sourced] = field(default_factory=dict)
    tls: dict[str, Sourced] = field(default_factory=dict)


@dataclass
class ConfigFile:
    """The valid part of a file. ``given`` is by option key; ``problems`` are sentences, each with its place."""

    path: Path
    app: Sourced | None = None
    given: dict[str, Sourced] = field(default_factory=dict)
    listeners: list[ListenerTable] = field(default_factory=list)
    upstreams: list[UpstreamTable] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def keys(self) -> int:
        """The number of keys that the file sets."""
        in_tables = sum(len(one.given) + len(one.limits) + len(one.tls or ()) for one in self.listeners)
        in_tables += sum(len(one.given) + len(one.tls) for one in self.upstreams)
        return len(self.given) + in_tables + (self.app is not None)


def read(path: Path) -> ConfigFile:
    """Read a file. Errors are collected in ``problems``."""
    file = ConfigFile(path)
    try:
        with path.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise TomlError(1, f"a configuration has at most {_LARGEST // 1024} KiB; this is larger")
        document = Document(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except TomlError as error:
        file.problems.append(f"{path}:{error.line}: {error}")
    except UnicodeDecodeError as error:
        file.problems.append(f"{path}:{content[: error.start].count(10) + 1}: a configuration is UTF-8; this is not")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        file.problems.append(f"{path} cannot be read: {reason}; name another with --config")
    else:
        _Reader(file, document).read()
    return file


class _Reader:
    """Reads a document into a ConfigFile."""

    def __init__(self, file: ConfigFile, document: Document) -> None:
        self.file = file
        self.document = document

    def read(self) -> None:
        rows = {row.name: row for row in table().values() if not row.section}
        for key, raw in self.document.values.items():
            path = (key,)
            if key == "app":
                self._app(path, raw)
            elif key == LISTENER:
                self._listeners(raw)
            elif key == UPSTREAMS:
                self._upstreams(raw)
            elif key in SECTIONS and key:
                self._section(key, path, raw, self._keep)
            else:
                self._key(rows, path, raw, self._keep, "the top level")

    def _keep(self, row: Option, given: Sourced) -> None:
        self.file.given[row.key] = given

    def _app(self, path: tuple[str | int, ...], raw: Any) -> None:
        if isinstance(raw, str) and raw.strip():
            self.file.app = Sourced(raw, "file", self._where(path))
        else:
            self._wrong(path, f"app must be a text like 'module:app'; got {values.shown(raw)}")

    def _listeners(self, raw: Any) -> None:
        if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
            return self._wrong((LISTENER,), "a listener is a table of its own: write [[listener]] above its keys")
        for number, one in enumerate(raw):
            self._listener((LISTENER, number), one)
        return None

    def _listener(self, path: tuple[str | int, ...], raw: Mapping[str, Any]) -> None:
        listener = ListenerTable(self._where(path), frozenset(raw))
        for key, inner in raw.items():
            if key == "limits":
                self._section(key, (*path, key), inner, _keep_in(listener.limits))
            elif key == "tls" and inner is False:
                listener.given["tls"] = Sourced(False, "file", self._where((*path, key)))
            elif key == "tls":
                own = listener.tls = {}
                self._section(key, (*path, key), inner, _keep_in(own))
            else:
                self._key(
                    listener_table(),
                    (*path, key),
                    inner,
                    lambda row, given: listener.given.update({row.name: given}),
                    "[[listener]]",
                )
        self.file.listeners.append(listener)

    def _upstreams(self, raw: Any) -> None:
        if not isinstance(raw, dict) or not all(isinstance(one, dict) for one in raw.values()):
            return self._wrong((UPSTREAMS,), "an upstream is a table of its own: write [upstreams.NAME] above its keys")
        for name, one in raw.items():
            path, title = (UPSTREAMS, name), f"[upstreams.{name}]"
            upstream = UpstreamTable(name, self._where(path))
            for key, inner in one.items():
                if key == "tls":
                    self._upstream_tls((*path, key), inner, upstream, title)
                else:
                    self._key(upstream_table(), (*path, key), inner, _keep_in(upstream.given), title)
            self.file.upstreams.append(upstream)
        return None

    def _upstream_tls(self, path: tuple[str | int, ...], raw: Any, upstream: UpstreamTable, title: str) -> None:
        title = f"{title[:-1]}.tls]"
        if not isinstance(raw, dict):
            return self._wrong(path, f"tls is a table: write {title} above its keys; got {values.shown(raw)}")
        for key, inner in raw.items():
            self._key(upstream_tls_table(), (*path, key), inner, _keep_in(upstream.tls), title)
        return None

    def _section(
        self, section: str, path: tuple[str | int, ...], raw: Any, keep: Callable[[Option, Sourced], None]
    ) -> None:
        title = f"[{LISTENER}.{section}]" if len(path) > 1 else f"[{section}]"
        if not isinstance(raw, dict):
            return self._wrong(path, f"{section} is a table: write {title} above its keys; got {values.shown(raw)}")
        rows = {row.name: row for row in table().values() if row.section == section}
        for key, inner in raw.items():
            self._key(rows, (*path, key), inner, keep, title)
        return None

    def _key(
        self,
        rows: Mapping[str, Option],
        path: tuple[str | int, ...],
        raw: Any,
        keep: Callable[[Option, Sourced], None],
        title: str,
    ) -> None:
        row = rows.get(str(path[-1]))
        if row is None:
            return self._wrong(
                path, f"{values.shown(path[-1])} is no key of {title}; {_suggestion(str(path[-1]), rows)}"
            )
        try:
            value = row.toml(raw)
        except ValueError as error:
            return self._wrong(path, str(error))
        return keep(row, Sourced(value, "file", self._where(path)))

    def _wrong(self, path: tuple[str | int, ...], message: str) -> None:
        self.file.problems.append(f"{self._where(path)}: {message}")

    def _where(self, path: tuple[str | int, ...]) -> str:
        return f"{self.file.path}:{self.document.line(path)}"


def _keep_in(found: dict[str, Sourced]) -> Callable[[Option, Sourced], None]:
    def keep(row: Option, given: Sourced) -> None:
        found[row.name] = given

    return keep


def _suggestion(key: str, rows: Mapping[str, Option]) -> str:
    """The way out for an unknown key."""
    plain = key.lower().replace("-", "_")
    for row in table().values():
        if row.name == plain and row.name not in rows:
            return f"it belongs {f'under [{row.section}]' if row.section else 'at the top, above all tables'}"
    here = list(rows)
    if any(not row.section for row in rows.values()):
        here += ["app", LISTENER, UPSTREAMS, *filter(None, SECTIONS)]
    return nearest(plain, here) or "'coserver config reference' lists them"


def nearest(word: str, words: Iterable[str], prefix: str = "") -> str:
    """``did you mean host?``, or "" if no word is similar."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f"did you mean {prefix}{close[0]}?" if close else ""
