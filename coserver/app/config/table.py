"""The table of all options: a row for each described field of the settings and limits dataclasses.

A row gives the TOML key, the environment variable, the flag, the parser of values, and the line of the reference.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any

from ...hosting.application import HostingSettings
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

#: The sections of a configuration file, each with the dataclass that has its keys.
SECTIONS: dict[str, type] = {
    "": Settings, "tls": Tls, "limits": Limits, "hosting": HostingSettings, "hooks": HookSettings, "log": LogSettings,
}  # fmt: skip
#: Sections whose variables and flags begin with a word of their own. The flags for TLS are named as in uvicorn.
_FIRST_WORDS = {"log": "log", "hooks": "hooks", "tls": "ssl"}
PREFIX = "COSERVER_"
LISTENER = "listener"
UPSTREAMS = "upstreams"


@dataclass(frozen=True)
class Option:
    """One setting. ``section`` is a key of SECTIONS, "listener" or "upstreams". ``unit`` is "bytes", "seconds",
    another noun, or "".
    """

    section: str
    name: str
    kind: Kind
    default: Any
    unit: str
    why: str
    of: tuple[str, ...]
    flag_name: str
    owner: type  # the dataclass that checks the value
    secret: bool = False  # the value is never shown

    @property
    def key(self) -> str:
        """``port``, ``limits.head_timeout``, ``log.level``: its key in the file, and its name in messages."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        """``COSERVER_PORT``, ``COSERVER_HEAD_TIMEOUT``, ``COSERVER_LOG_LEVEL``."""
        return f"{PREFIX}{self._own_name}".upper()

    @property
    def flag(self) -> str:
        """``--port``, ``--head-timeout``, ``--log-level``; a switch has a ``--no-`` form too."""
        return f"--{(self.flag_name or self._own_name).replace('_', '-')}"

    @property
    def _own_name(self) -> str:
        first = _FIRST_WORDS.get(self.section)
        return f"{first}_{self.name}" if first else self.name

    @property
    def parameter(self) -> str:
        """Its name as a Python parameter: ``log_level``."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def switch(self) -> bool:
        return self.kind is values.SWITCH

    def text(self, written: str) -> Any:
        """Parse the value of a variable or a flag. Raises ValueError with a whole sentence."""
        return self._checked(self.kind.text, written)

    def toml(self, written: Any) -> Any:
        """Convert the value of a key in the file. Raises ValueError with a whole sentence."""
        return self._checked(self.kind.toml, written)

    def rule(self, value: Any) -> None:
        """Check a value by the dataclass's own rule. Raises SetupError, ValueError, TypeError."""
        self.owner(**{**_PARTNERS.get(self.key, {}), self.name: value})

    def _checked(self, reader: Callable[[Any], Any], written: Any) -> Any:
        try:
            value = reader(written)
        except ValueError as error:
            raise ValueError(f"{self.name} {error}") from None
        # A known word may name something that is not installed: that is checked for the chosen value only. And the
        # fields of a listener or an upstream can only be checked together.
        if not self.of and self.owner not in (ListenerSettings, UpstreamSettings):
            try:
                self.rule(value)
            except (SetupError, ValueError, TypeError, OverflowError) as error:
                raise ValueError(str(error)) from None
        return value


#: For options that are valid only together with another: a valid value of the other. Both real values are checked
#: together when all sources are resolved.
_PARTNERS: dict[str, dict[str, Any]] = {"control_port": {"control_token": "16-characters-and-more"}}


@cache
def table() -> dict[str, Option]:
    """All options but those of listeners and upstreams, by key, in the order of their fields."""
    rows = (row for section, owner in SECTIONS.items() for row in _rows(section, owner))
    return {row.key: row for row in rows}


@cache
def listener_table() -> dict[str, Option]:
    """The keys of a ``[[listener]]`` table."""
    return {row.name: row for row in _rows(LISTENER, ListenerSettings)}


@cache
def upstream_table() -> dict[str, Option]:
    """The keys of an ``[upstreams.NAME]`` table: settings and limits."""
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
            continue  # a field made from other options: limits, listeners
        described = field.metadata
        yield Option(
            section,
            field.name,
            _kind(field, hints[field.name]),
            field.default if field.default is not MISSING else None,
            described["unit"],
            described["why"],
            tuple(described.get("of", ())) or _words(hints[field.name]),
            described.get("flag", ""),
            Settings if section == LISTENER and field.name in _ADDRESS_FIELDS else owner,
            described.get("secret", False),
        )


#: Fields of a listener that follow the same rules as those of Settings.
_ADDRESS_FIELDS = ("host", "port", "uds", "uds_permissions", "fd")


def _words(hint: Any) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


#: Fields of ListenerSettings that hold an object in Python, and the object's name in a file.
_NAMED: dict[str, Kind] = {"app": values.REFERENCE, "handler": values.REFERENCE}


def _kind(field: Field[Any], hint: Any) -> Kind:
    """The kind of value that fits a field's annotation, unit and choices."""
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
