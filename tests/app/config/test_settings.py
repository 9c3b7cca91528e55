"""Settings: what they refuse, and that each has one name for every place it can be set in."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from coserver import App, Limits, SetupError
from coserver.app.config import values
from coserver.app.config.process_settings import LogSettings
from coserver.app.config.settings import ListenerSettings, Settings
from coserver.app.config.table import listener_table, table

REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (Settings, {"port": -1}, "port must be from 0 (take a free one) to 65535; got -1"),
    (Settings, {"port": 65536}, "port must be from 0 (take a free one) to 65535; got 65536"),
    (Settings, {"port": True}, "got True"),
    (Settings, {"port": "80"}, "got '80'"),
    (Settings, {"port": None}, "host and port must be given"),
    (Settings, {"host": 7}, "host must be a text, like '127.0.0.1'; got 7"),
    (Settings, {"uds": ""}, "uds must be a socket's path; got ''"),
    (Settings, {"uds": "a\0b"}, "uds must be a socket's path"),
    (Settings, {"backend": "gevent"}, "backend must be 'asyncio', 'uvloop' or 'trio'; got 'gevent'"),
    (Settings, {"codec": "pico"}, "'pico'"),
    (Settings, {"limits": 3}, "limits must be a Limits; got 3"),
    (Settings, {"access_log": "yes"}, "access_log must be True or False; got 'yes'"),
    (Settings, {"debug": 1}, "debug must be True or False; got 1"),
    (Settings, {"access_format": " "}, "access_format must be common, combined or a format string; got ' '"),
    (Settings, {"trusted_peers": "10.0.0.1"}, "trusted_peers must be a list of texts; got '10.0.0.1'"),
    (Settings, {"trusted_peers": [1]}, "trusted_peers must be a list of texts; got [1]"),
    (LogSettings, {"level": "loud"}, "level must be one of debug, info, warning, error, critical; got 'loud'"),
    (LogSettings, {"format": "xml"}, "format must be 'text' or 'json'; got 'xml'"),
    (LogSettings, {"debug": "http"}, "debug must be a list of 'http', 'hooks'; got 'http'"),
    (LogSettings, {"debug": ["tcp"]}, "debug must be a list of 'http', 'hooks'; got ['tcp']"),
    (ListenerSettings, {"protocol": "udp"}, "listener 'udp': protocol must be 'http' or 'tcp'; got 'udp'"),
    (ListenerSettings, {"name": "a", "port": 70000}, "listener 'a': port must be from 0 (take a free one) to 65535"),
    (ListenerSettings, {"protocol": "tcp"}, "listener 'tcp': a tcp listener needs a handler"),
    (ListenerSettings, {"handler": print}, "listener 'http': an http listener has an app, no handler"),
    (ListenerSettings, {"limits": {}}, "listener 'http': limits must be a Limits; got {}"),
]


@pytest.mark.parametrize(("owner", "given", "message"), REFUSED)
def test_nonsense_is_refused_early(owner: type, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=re.escape(message)):
        owner(**given)


def test_the_apps_own_limits_hold_unless_others_are_given() -> None:
    app = App(limits=Limits(grace=1))
    assert app.settings({}).limits.grace == 1
    assert app.settings({"limits": Limits(grace=2)}).limits.grace == 2


def test_each_option_has_one_name_in_each_place() -> None:
    rows = list(table().values())
    assert len({row.key for row in rows}) == len({row.variable for row in rows}) == len(rows)
    assert len({row.flag for row in rows}) == len({row.parameter for row in rows}) == len(rows)
    for row in [*rows, *listener_table().values()]:
        assert row.why, f"{row.key} says nothing of itself"
        assert row.kind.metavar or row.switch


def test_every_limit_is_an_option() -> None:
    assert {row.name for row in table().values() if row.section == "limits"} == set(Limits.__dataclass_fields__)


@pytest.mark.parametrize("key", table())
def test_a_default_is_read_again_as_it_is_shown(key: str) -> None:
    row = table()[key]
    shown = values.written(row.default, row.unit)
    assert shown == "none" or row.text(shown) == row.default


@pytest.mark.parametrize(
    ("key", "variable", "flag", "kind"),
    [
        ("port", "COSERVER_PORT", "--port", "whole number"),
        ("limits.head_timeout", "COSERVER_HEAD_TIMEOUT", "--head-timeout", "time"),
        ("limits.body_size", "COSERVER_BODY_SIZE", "--body-size", "size"),
        ("limits.on_half_close", "COSERVER_ON_HALF_CLOSE", "--on-half-close", "choice"),
        ("log.level", "COSERVER_LOG_LEVEL", "--log-level", "choice"),
        ("log.debug", "COSERVER_LOG_DEBUG", "--debug", "list"),
        ("debug", "COSERVER_DEBUG", "--debug-pages", "switch"),
        ("trusted_peers", "COSERVER_TRUSTED_PEERS", "--trusted-peers", "list"),
    ],
)
def test_the_names_of_some(key: str, variable: str, flag: str, kind: str) -> None:
    row = table()[key]
    assert (row.variable, row.flag, row.kind.name) == (variable, flag, kind)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("limits.body_size", "10 MiB", 10 * 1024**2),
        ("limits.head_timeout", "inf", math.inf),
        ("access_log", "ON", True),
        ("trusted_peers", "10.0.0.1, unix", ("10.0.0.1", "unix")),
        ("log.debug", "http", ("http",)),
    ],
)
def test_a_text_becomes_a_value(key: str, text: str, value: Any) -> None:
    assert table()[key].text(text) == value


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("port", "http", "port must be a whole number; got 'http'"),
        ("port", "70000", "port must be from 0 (take a free one) to 65535; got 70000"),
        ("limits.head_size", "0", "head_size must be at least 1; got 0"),
        ("limits.grace", "-1", "grace must be at least 0; got -1.0"),
        ("limits.body_size", "10MB", "body_size must not be in MB, 1000 to some: write MiB; got '10MB'"),
        ("log.debug", "http,tcp", "debug may hold http, hooks; got 'tcp'"),
        ("debug", "http", "debug must be true or false; got 'http'"),
        ("backend", "gevent", "backend may be asyncio, uvloop, trio; got 'gevent'"),
    ],
)
def test_a_text_that_does_not(key: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        table()[key].text(text)
