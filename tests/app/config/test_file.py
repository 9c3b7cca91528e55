"""Configuration files, and which source wins: everything wrong is told at once, by line, never a traceback."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, Limits, SetupError
from coserver.app.config.file import ConfigError, Sourced, read
from coserver.app.config.resolve import Configuration, resolve
from coserver.app.config.table import listener_table, table

TOML_VALUES = st.recursive(
    st.one_of(
        st.integers(-(2**64), 2**70).map(str),
        st.floats().map(repr),
        st.booleans().map(lambda b: str(b).lower()),
        st.sampled_from(['"64k"', '"30s"', '"inf"', '"shop:app"', '"http"', "'''\na\n'''", "1979-05-27", '"\\u0000"']),
        st.text(st.characters(exclude_characters='"\\\x7f', exclude_categories=("Cc", "Cs"))).map(lambda t: f'"{t}"'),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda many: f"[\n{', '.join(many)}\n]"),
        inner.map(lambda one: f"{{ grace = {one} }}"),
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [row.name for row in (*table().values(), *listener_table().values())]
    + ["app", "limits", "log", "listener", "prot", "head-timeout", '"a b"', "limits.grace", "'\\'"]
)
HEADERS = st.sampled_from(["", "[limits]", "[log]", "[[listener]]", "[listener.limits]", "[unknown]", "[[limits]]"])


@given(st.lists(st.tuples(HEADERS, st.lists(st.tuples(KEYS, TOML_VALUES), max_size=4)), max_size=5))
def test_any_document_is_read_or_refused_by_line(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, list[tuple[str, str]]]]
) -> None:
    text = "\n".join(line for header, keys in parts for line in (header, *(f"{key} = {value}" for key, value in keys)))
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8")
    file = read(path)
    lines = text.count("\n") + 1
    for problem in file.problems:
        match = re.match(rf"{re.escape(str(path))}:(\d+): .", problem)
        assert match, problem
        assert 1 <= int(match[1]) <= lines
    try:
        tomllib.loads(text)
    except ValueError:
        assert file.problems
        return
    try:
        configuration = resolve(flags={}, environ={}, config=path)
        configuration.options(Limits(), lambda kind, name: App() if kind == "app" else print)
    except SetupError as error:
        told = error
    else:
        return
    assert isinstance(told, ConfigError), f"{told} is not told by its line"


@given(st.binary(max_size=200))
def test_any_bytes_are_no_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    assert all(str(path) in problem for problem in read(path).problems)


# Files.


def configured(tmp_path: Path, text: str, **sources: Any) -> Configuration:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return resolve(config=path, **{"flags": {}, "environ": {}, **sources})


def problems(tmp_path: Path, text: str, **sources: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, text, **sources)
    return [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems]


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    text = """\
app = 3
prot = 8000
head_timeout = 3
port = "8000"
log = "info"
[limits]
head-timeout = 5
body_size = "10 MB"
grace = nan
backend = "trio"
[[listener]]
hots = "127.0.0.1"
port = 70000
[listener.limits]
grcae = 1
zzz = 1
"""
    assert problems(tmp_path, text) == [
        "shop.toml:1: app must be a text like 'module:app'; got 3",
        "shop.toml:2: 'prot' is no key of the top level; did you mean port?",
        "shop.toml:3: 'head_timeout' is no key of the top level; it belongs under [limits]",
        "shop.toml:4: port must be a whole number; got '8000'",
        "shop.toml:5: log is a table: write [log] above its keys; got 'info'",
        "shop.toml:7: 'head-timeout' is no key of [limits]; did you mean head_timeout?",
        "shop.toml:8: body_size must not be in MB, 1000 to some: write MiB; got '10 MB'",
        "shop.toml:9: grace must be at least 0; got nan",
        "shop.toml:10: 'backend' is no key of [limits]; it belongs at the top, above all tables",
        "shop.toml:12: 'hots' is no key of [[listener]]; did you mean host?",
        "shop.toml:13: port must be from 0 (take a free one) to 65535; got 70000",
        "shop.toml:15: 'grcae' is no key of [listener.limits]; did you mean grace?",
        "shop.toml:16: 'zzz' is no key of [listener.limits]; 'coserver config reference' lists them",
    ]


def test_what_is_wrong_is_told_in_the_files_order(tmp_path: Path) -> None:
    """A listener's own faults too; and a value that is refused is not missed as well."""
    text = """[[listener]]
framing = "lines"
[[listener]]
port = "80"
protocol = "tcp"
handler = 7
[limits]
grace = true
"""
    assert problems(tmp_path, text, environ={"COSERVER_GRACE": "soon"}) == [
        "COSERVER_GRACE: grace must be a number of seconds, or a text like '30s', '5m' or 'inf'; got 'soon'",
        "shop.toml:1: a listener needs an address: port = 8000 (0 takes a free one), or uds = 'shop.sock'",
        "shop.toml:1: framing is for protocol = 'tcp'; this listener speaks http",
        "shop.toml:4: port must be a whole number; got '80'",
        "shop.toml:6: handler must be a text like 'module:name'; got 7",
        "shop.toml:8: grace must be a number of seconds, or a text like '30s', '5m' or 'inf'; got true",
    ]


LISTENERS = {
    "port = 1\nuds = 'a'": "a listener has one address: give uds, or fd, or host and port, not both",
    "host = 'x'": "a listener needs an address: port = 8000 (0 takes a free one), or uds = 'shop.sock'",
    "port = 1\nprotocol = 'tcp'": "a tcp listener needs handler = 'module:function'",
    "port = 1\nprotocol = 'tcp'\nhandler = 'a:b'\napp = 'a:b'": (
        "app is for protocol = 'http'; this listener speaks tcp"
    ),
    "port = 1\nhandler = 'a:b'": "handler is for protocol = 'tcp'; this listener speaks http",
    "port = 1\nframing = 'raw'": "framing is for protocol = 'tcp'; this listener speaks http",
    "port = 1\n[[listener]]\nport = 1": "another listener has this address already (shop.toml:1)",
    "uds = 'a'\n[[listener]]\nuds = 'a'": "another listener has this address already (shop.toml:1)",
}


@pytest.mark.parametrize("text", LISTENERS)
def test_a_listener_that_is_none(tmp_path: Path, text: str) -> None:
    found = [problem.replace(f"{tmp_path}/", "") for problem in problems(tmp_path, f"[[listener]]\n{text}")]
    assert [problem.partition(": ")[2] for problem in found] == [LISTENERS[text]]


def test_free_ports_are_no_same_place(tmp_path: Path) -> None:
    assert len(configured(tmp_path, "[[listener]]\nport = 0\n[[listener]]\nport = 0\n").listeners) == 2


@pytest.mark.parametrize("text", ["listener = 3", "[listener]\nport = 1", "listener = [1]"])
def test_a_listener_that_is_no_table(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == [
        "shop.toml:1: a listener is a table of its own: write [[listener]] above its keys"
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_bytes(b"#" * 300_000)
    (tmp_path / "latin.toml").write_bytes(b"a = 1\nb = '\xe9'\n")
    assert "No such file" in read(tmp_path / "none.toml").problems[0]
    assert "directory" in read(tmp_path).problems[0]
    assert "at most 256 KiB" in read(tmp_path / "large.toml").problems[0]
    assert read(tmp_path / "latin.toml").problems == [f"{tmp_path}/latin.toml:2: a configuration is UTF-8; this is not"]


@pytest.mark.parametrize("text", ["", "\n", "# nothing", "\ufeffport = 1", "port = 1\r\n[limits]\r\ngrace = 1\r\n"])
def test_files_of_every_editor(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_bytes(text.encode())
    assert read(tmp_path / "a.toml").problems == []


def test_a_large_file_is_read_at_once(tmp_path: Path) -> None:
    """The line of the last key is found without reading everything before it for each line."""
    text = "[limits]\n" + "".join(f"unknown_{number} = {number}\n" for number in range(1000))
    found = problems(tmp_path, text)
    assert len(found) == 1000
    assert found[-1].startswith("shop.toml:1001: 'unknown_999'")


# Listeners become settings.


def test_listeners_start_from_the_limits_at_the_top(tmp_path: Path) -> None:
    text = """\
[limits]
grace = 3
[[listener]]
port = 0
app = "shop:app"
[listener.limits]
head_size = "1k"
[[listener]]
protocol = "tcp"
port = 0
handler = "shop:echo"
framing = "shop:Framing"
[[listener]]
protocol = "tcp"
port = 0
handler = "shop:echo"
framing = "lines"
"""
    app, asked = App(), []

    def find(kind: str, named: Sourced) -> Any:
        asked.append((kind, named.value))
        return app if kind == "app" else print

    configuration = configured(tmp_path, text, environ={"COSERVER_IDLE_TIMEOUT": "7"})
    options = configuration.options(Limits(body_timeout=9), find)
    first, second, third = options["listeners"]
    assert first.app is app
    assert first.limits == Limits(grace=3, body_timeout=9, idle_timeout=7, head_size=1024)
    assert second.limits == options["limits"] == Limits(grace=3, body_timeout=9, idle_timeout=7)
    assert (second.handler, second.framing, third.framing) == (print, print, "lines")
    assert asked == [
        ("app", "shop:app"), ("handler", "shop:echo"), ("framing", "shop:Framing"), ("handler", "shop:echo")
    ]  # fmt: skip
    app.settings(options)


# Which source wins.


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("variable", [True, False])
@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_flag_then_environment_then_file_then_the_app(
    tmp_path: Path, flag: bool, variable: bool, file: bool, own: bool
) -> None:
    limits = Limits(head_timeout=4) if own else Limits()
    configuration = configured(
        tmp_path,
        "[limits]\nhead_timeout = '3s'\n" if file else "",
        flags={"limits.head_timeout": 1.0} if flag else {},
        environ={"COSERVER_HEAD_TIMEOUT": "2s"} if variable else {},
    )
    expected = next(
        value
        for here, value in [
            (flag, (1.0, "--head-timeout")),
            (variable, (2.0, "COSERVER_HEAD_TIMEOUT")),
            (file, (3.0, f"{tmp_path}/shop.toml:2")),
            (own, (4, "the app")),
            (True, (10.0, "default")),
        ]
        if here
    )
    assert configuration.limits(limits).head_timeout == expected[0]
    assert [(v, w) for row, v, w in configuration.rows(limits, {}) if row.name == "head_timeout"] == [expected]


@pytest.mark.parametrize(
    ("flags", "environ", "text", "expected"),
    [
        ({"uds": "a"}, {"COSERVER_PORT": "1"}, "port = 2", {"uds": "a"}),
        ({"port": 3}, {"COSERVER_UDS": "b"}, "uds = 'c'", {"port": 3}),
        ({"host": "::"}, {}, "uds = 'c'", {"host": "::"}),
        ({}, {"COSERVER_UDS": "b"}, "host = 'h'\nport = 2", {"host": "h", "uds": "b"}),
        ({}, {"COSERVER_PORT": ""}, "port = 2", {"port": 2}),
        ({}, {"PORT": "5"}, "", {"port": 5}),
        ({}, {"PORT": "5"}, "host = 'h'", {"host": "h", "port": 5}),
        ({}, {"PORT": "5"}, "port = 2", {"port": 2}),
        ({}, {"PORT": "5", "COSERVER_PORT": "6"}, "", {"port": 6}),
        ({"port": 3}, {"PORT": "5"}, "", {"port": 3}),
        ({}, {"PORT": "5"}, "uds = 'c'", {"uds": "c"}),
        ({}, {"PORT": ""}, "", {}),
    ],
)
def test_a_port_or_a_path(
    tmp_path: Path, flags: dict[str, Any], environ: dict[str, str], text: str, expected: dict[str, Any]
) -> None:
    configuration = configured(tmp_path, text, flags=flags, environ=environ)
    assert {key: given.value for key, given in configuration.given.items()} == expected


def test_a_port_that_is_none(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "", environ={"PORT": "http"})
    assert problem.startswith("PORT: ")
    assert "http" in problem


def test_a_port_and_a_path_of_one_source(tmp_path: Path) -> None:
    rule = "a server listens on one address: give uds, or host and port"
    environ = {"COSERVER_UDS": "a", "COSERVER_HOST": "::"}
    assert problems(tmp_path, "port = 1\nuds = 'a'\n", environ=environ) == [
        f"COSERVER_UDS: {rule}; COSERVER_HOST is given too",
        f"shop.toml:2: {rule}; shop.toml:1 is given too",
    ]


def test_a_place_beside_listeners_is_not_lost_silently(tmp_path: Path) -> None:
    found = problems(tmp_path, "[[listener]]\nport = 1\n", flags={"port": 2})
    assert found == [
        "--port: the [[listener]] tables say where to listen (shop.toml:1): change them, or leave port out"
    ]


def test_variables(tmp_path: Path) -> None:
    environ = {
        "COSERVER_PROT": "1",
        "COSERVER_ZZZZZZZZ": "1",
        "COSERVER_INHERIT": "{}",
        "COSERVER_GRACE": "soon",
        "COSERVER_ACCESS_LOG": "off",
        "OTHER": "1",
    }
    assert problems(tmp_path, "", environ=environ) == [
        "COSERVER_GRACE: grace must be a number of seconds, or a text like '30s', '5m' or 'inf'; got 'soon'"
    ]
    del environ["COSERVER_GRACE"]
    configuration = configured(tmp_path, "", environ=environ)
    assert configuration.warnings == (
        "COSERVER_PROT is no variable of coserver's; did you mean COSERVER_PORT?",
        "COSERVER_ZZZZZZZZ is no variable of coserver's; 'coserver config reference' lists them",
    )
    assert configuration.given["access_log"].value is False


def test_the_apps_name(tmp_path: Path) -> None:
    def name(**sources: Any) -> tuple[str, str]:
        app = configured(tmp_path, "app = 'file:app'", **sources).app
        assert app is not None
        return app.value, app.source

    assert name() == ("file:app", "file")
    assert name(environ={"COSERVER_APP": "env:app"}) == ("env:app", "environment")
    assert name(environ={"COSERVER_APP": "env:app"}, target="flag:app") == ("flag:app", "flag")


def test_which_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(flags={}, environ={}).file is None
    for name in ("coserver", "other", "third"):
        (tmp_path / f"{name}.toml").write_text(f"app = '{name}:app'")

    def file(**sources: Any) -> str | None:
        found = resolve(**{"flags": {}, "environ": {}, **sources}).file
        return found.path.stem if found else None

    assert file() == "coserver"
    assert file(target="a:b") is None, "taken silently"
    assert file(target="a:b", config=Path("other.toml")) == "other"
    assert file(environ={"COSERVER_CONFIG": "third.toml"}) == "third"
    assert file(environ={"COSERVER_CONFIG": "third.toml"}, config=Path("other.toml")) == "other"
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        file(environ={"COSERVER_CONFIG": "none.toml"})


def test_a_backend_that_is_not_here_matters_only_if_it_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coserver.app.config.validate.find_spec", lambda name: None)
    assert problems(tmp_path, "backend = 'trio'") == [
        "shop.toml:1: backend 'trio' is not installed; pip install 'coserver[trio]', or take 'asyncio'"
    ]
    assert configured(tmp_path, "backend = 'trio'", flags={"backend": "asyncio"}).given["backend"].value == "asyncio"
