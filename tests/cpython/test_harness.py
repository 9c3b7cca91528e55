"""A small part of CPython's own tests runs here; ``make conformance`` runs the rest. What hangs or dies is named."""

from __future__ import annotations

import pytest

from . import outside
from .__main__ import FAILED, NOTHING, WRONG, main

pytestmark = pytest.mark.skipif(bool(outside.missing()), reason=outside.missing() or "this Python has its own tests")

SOCKET = ["BasicTCPTest", "NonBlockingTCPTests", "UDPTimeoutTest", "GeneralModuleTests.testSendtoErrors"]
PARTS: list[tuple[str, list[str]]] = [
    ("test_select", []),
    ("test_poll", [f"PollTests.test_poll{name}" for name in ("1", "3", "_unit_tests", "_c_limits")]),  # the rest: 10 s
    ("test_queue", ["CSimpleQueueTest", "CQueueTest"]),
    ("test_socket", SOCKET),
    ("test_signal", ["WakeupSignalTests.test_wakeup_write_error"]),
    ("test_subprocess", ["ProcessTestCase.test_bufsize_equal_one_binary_mode"]),
]


@pytest.mark.parametrize(("module", "names"), PARTS, ids=[module for module, _ in PARTS])
def test_what_a_plain_thread_passes_a_worker_passes(module: str, names: list[str], backend: str) -> None:
    outcome = outside.run(module, backend, names, outside.How())
    assert outcome.of("passed")
    assert not outcome.of("failed"), outcome.of("failed")


def test_one_that_hangs_is_named_with_where_it_stands_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of three tests the second waits for a minute; a second is its limit here.
    monkeypatch.setattr(outside, "PACKAGE", "tests.cpython")
    outcome = outside.run("hanging", "asyncio", [], outside.How(timeout=1, skips=False))
    assert list(outcome.of("passed")) == ["tests.cpython.hanging.Three.test_1", "tests.cpython.hanging.Three.test_3"]
    (why,) = outcome.of("failed").values()
    assert "the worker is suspended in sleep" in why
    assert "hanging.py" in why


def test_one_that_ends_the_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "PACKAGE", "tests.cpython")
    outcome = outside.run("dying", "trio", [], outside.How(timeout=20, skips=False))
    assert list(outcome.of("passed")) == ["tests.cpython.dying.Two.test_2"]
    assert "ended with 3" in outcome.of("failed")["tests.cpython.dying.Two.test_1"]


def ends_with(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["tests.cpython", *arguments])
    return main()


def test_an_unknown_module_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_with(monkeypatch, "test_soket", "--compare") == WRONG
    assert "no module 'test_soket'" in (said := capsys.readouterr().err)
    assert "test_socket" in said


def test_where_nothing_ran_it_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_with(monkeypatch, "test_winsound", "--compare") == NOTHING
    assert "NOTHING RAN of test_winsound on asyncio: " in capsys.readouterr().out


def test_a_test_that_there_is_not_fails_even_if_a_plain_thread_has_it_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends_with(monkeypatch, "test_poll", "NoSuchTests", "--compare") == FAILED
