"""Old names: each works for one release, gives the same object, and warns with the new name at the line that has it."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import coserver
from coserver import deprecated as table
from coserver.control.wire_format import read_trace
from coserver.deprecated import MODULES, NAMES, deprecated, old_name
from coserver.observe.export.har import to_har
from coserver.observe.export.har_reader import read_har
from coserver.observe.snapshot.snapshot import Snapshot

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "tests/observe/export/recorded"
#: What the documentation named before the files moved, by module; all of it must go on.
DOCUMENTED = {
    "coserver": "AppError ClientLeft Event Member Request Subrequest Upstream gather",
    "coserver.app.traces": "Traces",
    "coserver.control.client": "Client RemoteStepper find",
    "coserver.hooks": "OffloadFull install installed offload offloaded uninstall watching",
    "coserver.lifecycle.events": "ConnectionOpened Event HandlerStarted ResponseFinished",
    "coserver.lifecycle.order": "FIRST FOLLOWS HOLDABLE OPENING TRACKS",
    "coserver.lifecycle.phases": "PHASES",
    "coserver.observe.filters": "FilterError parse",
    "coserver.observe.har_reading": "HarError read_har",
    "coserver.observe.held": "Held NotHeld",
    "coserver.observe.resending": "ReplayError Replayed",
    "coserver.observe.snapshot": "ConnectionState ExchangeState ListenerState MemberState Snapshot SubrequestState "
    "Suspension UpstreamState",
    "coserver.observe.stepper": "Stepper",
    "coserver.observe.trace": "Body Message Span Trace",
    "coserver.protocol.errors": "LocalProtocolError RemoteProtocolError",
    "coserver.protocol.framing": "FRAMINGS",
    "coserver.server.blocking_tcp": "BlockingTcpConnection",
    "coserver.server.tcp": "TcpConnection",
    "coserver.testing": "BadStatus Client ClientOptions Conversation Disconnected LeakError OrderCheck OutOfOrder "
    "Response StreamedResponse SyncClient client leak_check order_check serving sync_client",
    "coserver.testing.fixtures": "",
    "coserver.upstream.balance": "POLICIES",
    "coserver.views.dashboard": "Dashboard",
    "coserver.views.exchange": "render",
    "coserver.views.frozen": "",
    "coserver.views.keys": "press",
    "coserver.views.lifecycle_svg": "render",
    "coserver.views.live": "VIEWS",
    "coserver.views.samples": "page",
    "coserver.views.screen": "example_board plain_lines",
    "coserver.views.waterfall": "render",
    "coserver.views.waterfall_svg": "render",
    "coserver_cli.commands": "cli",
}
#: ``python -m`` of these was documented.
RUN = ("debug_page", "exchange", "frozen", "held", "lifecycle_svg", "live", "traces", "underway", "waterfall",
       "waterfall_svg")  # fmt: skip


def is_file(name: str) -> bool:
    """Whether the old module is still there."""
    parent = importlib.import_module(name.rpartition(".")[0])
    return PathFinder.find_spec(name, parent.__path__) is not None


@pytest.fixture(params=sorted(MODULES))
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name = str(request.param)
    if is_file(name):
        pytest.skip("not moved yet")
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_an_old_module_is_the_new_one(module: str) -> None:
    new, public = MODULES[module]
    with pytest.warns(DeprecationWarning, match="goes with the next release") as warned:
        exec(f"import {module}")
    [first] = warned
    words = f"{new} (import its public names from {public})" if public else new
    assert str(first.message) == f"{module} is now {words}; the old name goes with the next release"
    assert first.filename == "<string>"
    assert sys.modules[module] is importlib.import_module(new)
    assert importlib.import_module(new).__spec__.name == new  # type: ignore[union-attr]


def test_an_old_module_comes_from_its_package(module: str) -> None:
    package, _, name = module.rpartition(".")
    if hasattr(importlib.import_module(package), name):
        delattr(importlib.import_module(package), name)
    names: dict[str, Any] = {}
    with pytest.warns(DeprecationWarning, match=module):
        exec(f"from {package} import {name} as found", names)
    assert names["found"] is importlib.import_module(MODULES[module][0])


@pytest.mark.parametrize("old", sorted(NAMES))
def test_an_old_name_is_the_new_one(old: str) -> None:
    module, _, name = old.rpartition(".")
    names: dict[str, Any] = {}
    for _ in range(2):  # each time
        place = importlib.import_module(module)
        line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]
        with pytest.warns(DeprecationWarning, match="goes with the next release") as warned:
            value = getattr(place, name)
        [first] = warned
        assert str(first.message) == f"{old} is now {NAMES[old]}; the old name goes with the next release"
        assert (first.filename, first.lineno) == (__file__, line)
    package, _, new = NAMES[old].rpartition(".")
    assert value is getattr(importlib.import_module(package), new)
    with pytest.warns(DeprecationWarning, match=name):
        exec(f"from {module} import {name} as found", names)
    assert names["found"] is value


@pytest.mark.parametrize("module", sorted(DOCUMENTED))
def test_what_was_documented_is_there(module: str) -> None:
    code = f"import {module}\n" + "".join(f"from {module} import {name}\n" for name in DOCUMENTED[module].split())
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("view", RUN)
def test_what_was_run_is_run(view: str) -> None:
    command = [sys.executable, "-m", f"coserver.views.{view}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert len(done.stdout) > 100
    new = MODULES.get(f"coserver.views.{view}", MODULES.get(f"coserver.views.{view}.__main__", ("", "")))[0]
    warning = f"DeprecationWarning: python -m coserver.views.{view} is now python -m {new}" if new else ""
    assert warning in done.stderr
    assert bool(done.stderr) == bool(new)


def test_a_name_that_never_was_is_an_error() -> None:
    for module in ("coserver", *sorted({old.rpartition(".")[0] for old in NAMES})):
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'never_was'"):
            _ = importlib.import_module(module).never_was
    with pytest.raises(ModuleNotFoundError, match=r"coserver\.never_was"):
        importlib.import_module("coserver.never_was")
    with pytest.raises(AttributeError):
        old_name("coserver", "never_was")


def test_new_names_warn_nobody() -> None:
    code = "import coserver\nfor name in coserver.__all__: getattr(coserver, name)\nimport coserver_cli.commands"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


def test_a_warning_is_the_users_line() -> None:
    def inner() -> None:
        deprecated("connection.exchange", "connection.exchanges")

    called: dict[str, Any] = {"__name__": "coserver.observe.somewhere", "inner": inner}
    exec("def attribute(): inner()", called)
    for function in (inner, called["attribute"]):
        with pytest.warns(DeprecationWarning, match=r"connection\.exchange is now connection\.exchanges") as warned:
            function()
        assert [one.filename for one in warned] == [__file__]


def test_the_old_names_are_told_in_the_news() -> None:
    news = (ROOT / "newsfragments/+house.removal.md").read_text()
    missing = [old for old in (*MODULES, *NAMES) if old.removesuffix(".__main__") not in news]
    assert missing == []


def test_nothing_else_is_found_slower() -> None:
    assert sys.meta_path.count(coserver._OldModules) == 1
    assert coserver._OldModules.find_spec("json.never") is None
    assert coserver._OldModules.find_spec("coserver.never") is None
    assert not inspect.ismodule(getattr(table, "App", None))


def test_a_har_file_from_before_opens() -> None:
    text = (RECORDED / "before_moves.har").read_text()
    traces = read_har(text)
    assert [(one.method, one.raw_target, one.status, one.handler) for one in traces] == [
        ("GET", "/orders/7", 200, "order"),
        ("GET", "/orders/7", 200, "order"),
        ("POST", "/orders", 201, "post"),
        ("GET", "/boom?token=***", 500, "boom"),
    ]
    assert traces[2].request.body.content == b"x=1"
    assert [span.kind for span in traces[0].spans] == ["request", "handler", "response"]
    schema = json.loads((RECORDED.parent / "har-1.2.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(to_har(traces))


def test_the_control_socket_s_json_from_before_is_read() -> None:
    traces = [read_trace(one) for one in json.loads((RECORDED / "before_moves_traces.json").read_text())]
    assert (traces[0].method, traces[0].status, len(traces[0].spans)) == ("GET", 200, 3)
    snapshot = Snapshot.from_json((RECORDED / "before_moves_snapshot.json").read_text())
    [exchange] = snapshot.exchanges
    assert (exchange.handler, exchange.phase, exchange.subrequests[0].upstream) == ("order", "subrequest", "users")
    assert len(snapshot.connections) == 2
