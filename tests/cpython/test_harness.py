"""A small part of CPython's own tests runs here; ``make conformance`` runs the rest. What hangs or dies is named."""

from __future__ import annotations

import pytest

from . import outside

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
