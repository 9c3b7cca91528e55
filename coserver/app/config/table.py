"""The table of all options: one row for each described field of Settings, Limits, LogSettings and ListenerSettings.

From a row come the TOML key, the environment variable, the flag, the reader of its values, and the reference's line.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any

from ...protocol.framing import FRAMINGS
from ...server.handler.errors import SetupError
from ...server.limits import Limits
from ...upstream.limits import UpstreamLimits
from ...upstream.tls import UpstreamTls
from . import values
from .process_settings import HookSettings, LogSettings
from .settings import ListenerSettings, Settings, UpstreamSettings
from .tls import Tls
from .values import Kind

#: Where each section's keys stand in a file.
SECTIONS: dict[str, type] = {"": Settings, "tls": Tls, "limits": Limits, "hooks": HookSettings, "log": LogSettings}
#: Those whose variables and flags begin with a word of their own; uvicorn's flags for TLS are named so too.
_FIRST_WORDS = {"log": "log", "hooks": "hooks", "tls": "ssl"}
PREFIX = "COSERVER_"
LISTENER = "listener"
UPSTREAMS = "upstreams"


@dataclass(frozen=True)
class Option:
    """One setting. ``section`` is a key of SECTIONS, "listener" or "upstreams"; ``unit`` is "bytes", "seconds", a noun
    or "".
    """

    section: str
    name: str
    kind: Kind
    default: Any
    unit: str
    why: str
    of: tuple[str, ...]
    flag_name: str
    owner: type  # whose rule its value must pass
    secret: bool = False  # nobody is shown its value

    @property
    def key(self) -> str:
        """``port``, ``limits.head_timeout``, ``log.level``: its place in the file, and its name in every message."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """``COSERVER_PORT``, ``COSERVER_HEAD_TIMEOUT``, ``COSERVER_LOG_LEVEL``."""
        return f"{PREFIX}{self._own_name}".upper()

    @property
    def flag(self) -> str:
        """``--port``, ``--head-timeout``, ``--log-level``; a switch has a ``--no-`` twin."""
        return f"--{(self.flag_name or self._own_name).replace('_', '-')}"

    @property
    def _own_name(self) -> str:
        first = _FIRST_WORDS.get(self.section)
        return f"{first}_{self.name}" if first else self.name

    @property
    def parameter(self) -> str:
        """Its name as a parameter of Python's: ``log_level``."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def switch(self) -> bool:
        return self.kind is values.SWITCH

    def text(self, written: str) -> Any:
        """Read what a variable or a flag holds. Raises ValueError, its message a whole sentence."""
        return self._checked(self.kind.text, written)

    def toml(self, written: Any) -> Any:
        """Read what a key of the file holds. Raises ValueError, its message a whole sentence."""
        return self._checked(self.kind.toml, written)

    def rule(self, value: Any) -> None:
        """Hold a value against the dataclass's own rule. Raises SetupError, ValueError, TypeError."""
        self.owner(**{**_PARTNERS.get(self.key, {}), self.name: value})

    def _checked(self, reader: Callable[[Any], Any], written: Any) -> Any:
        try:
            value = reader(written)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None
        # What is one of some words may be right and yet not be had here, which is asked of the chosen value only;
        # and a listener's fields are only right or wrong together.
        if not self.of and self.owner not in (ListenerSettings, UpstreamSettings):
            try:
                self.rule(value)
            except (SetupError, ValueError, TypeError, OverflowError) as error:
                raise ValueError(str(error)) from None
        return value


#: What is right only together with another: one that would do. Both are asked once all is chosen.
_PARTNERS: dict[str, dict[str, Any]] = {"control_port": {"control_token": "16-characters-and-more"}}


@cache
def table() -> dict[str, Option]:
    """All options but the listeners', by key, in the order of their fields."""
    rows = (row for section, owner in SECTIONS.items() for row in _rows(section, owner))
    return {row.key: row for row in rows}


@cache
def listener_table() -> dict[str, Option]:
    """The keys of a ``[[listener]]`` table."""
    return {row.name: row for row in _rows(LISTENER, ListenerSettings)}


@cache
def upstream_table() -> dict[str, Option]:
    """The keys of an ``[upstreams.NAME]`` table: what it is, and its limits."""
    rows = [*_rows(UPSTREAMS, UpstreamSettings), *_rows(UPSTREAMS, UpstreamLimits)]
    return {row.name: row for row in rows}


@cache
def upstream_tls_table() -> dict[str, Option]:
    """The keys of an ``[upstreams.NAME.tls]`` table."""
    return {row.name: row for row in _rows(UPSTREAMS, UpstreamTls)}


def _rows(section: str, owner: type) -> Iterator[Option]:
    hints = typing.get_type_hints(owner, localns={"App": Any})
    for field in fields(owner):
        if not field.metadata:
            continue  # made of other options: limits, listeners
        told = field.metadata
        yield Option(
            section,
            field.name,
            _kind(field, hints[field.name]),
            field.default if field.default is not MISSING else None,
            told["unit"],
            told["why"],
            tuple(told.get("of", ())) or _words(hints[field.name]),
            told.get("flag", ""),
            Settings if section == LISTENER and field.name in _OF_PLACES else owner,
            told.get("secret", False),
        )


#: A listener's fields that have the same rule as those at the top.
_OF_PLACES = ("host", "port", "uds", "uds_permissions", "fd")


def _words(hint: Any) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


#: Fields of ListenerSettings that are objects in Python, and names of objects in a file.
_NAMED: dict[str, Kind] = {"app": values.REFERENCE, "handler": values.REFERENCE}


def _kind(field: Field[Any], hint: Any) -> Kind:
    """The reader that fits a field's annotation, its unit and its choices."""
    if field.name in _NAMED:
        return _NAMED[field.name]
    if field.name == "framing":
        return values.choice(tuple(FRAMINGS), "NAME", else_reference=True)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    many = typing.get_origin(hint) not in (None, typing.Literal)
    if of := (tuple(field.metadata.get("of", ())) or _words(hint)):
        return values.choices(of) if many else values.choice(of)
    if many:
        return values.NAMES
    by_unit = {"bytes": values.SIZE, "seconds": values.TIME}
    by_type = {bool: values.SWITCH, int: values.WHOLE, float: values.TIME, str: values.TEXT}
    return by_unit.get(field.metadata["unit"]) or by_type[hint]
