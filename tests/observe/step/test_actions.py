"""The table of actions, and the methods that call them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from coserver.observe.step.actions import ACTIONS, HeldActions, StepperActions


class Asked(HeldActions):
    def do(self, action: str, /, **arguments: Any) -> None:
        self.asked = (action, arguments)


class AskedStepper(StepperActions[Asked, tuple[str, Any, dict[str, Any]]]):
    def do(self, action: str, /, which: Asked | int | None = None, **arguments: Any) -> tuple[str, Any, dict[str, Any]]:
        return action, which, arguments


@pytest.mark.parametrize("kind", [HeldActions, StepperActions])
@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_a_method_that_says_what_it_does(kind: type, action: str) -> None:
    method = getattr(kind, action)
    assert inspect.getdoc(method)
    named = [name for name in inspect.signature(method).parameters if name not in ("self", "which", "changes")]
    assert named == ([] if action == "edit" else list(ACTIONS[action]))  # an edit takes any of its names


CALLS: list[tuple[str, Callable[[Any], Any], dict[str, Any]]] = [
    ("next", lambda one: one.next(), {}),
    ("resume", lambda one: one.resume(), {}),
    ("until", lambda one: one.until("response"), {"phase": "response"}),
    ("until", lambda one: one.until(phase for phase in ("body", "response")), {"phase": ["body", "response"]}),
    ("edit", lambda one: one.edit(status=404, headers={"x": None}), {"status": 404, "headers": {"x": None}}),
    ("respond", lambda one: one.respond(), {"status": 200, "body": b"", "headers": None}),
    ("respond", lambda one: one.respond(503, "later"), {"status": 503, "body": "later", "headers": None}),
    ("abort", lambda one: one.abort(), {}),
]


@pytest.mark.parametrize(("action", "call", "arguments"), CALLS)
def test_each_call_says_its_action(action: str, call: Callable[[Any], Any], arguments: dict[str, Any]) -> None:
    one = Asked()
    call(one)
    assert one.asked == (action, arguments)
    assert call(AskedStepper()) == (action, None, arguments)


def test_which_is_handed_on() -> None:
    step, one = AskedStepper(), Asked()
    assert step.next(one) == ("next", one, {})
    assert step.until("body", 3) == ("until", 3, {"phase": "body"})
    assert step.edit(3, body="x") == ("edit", 3, {"body": "x"})
    assert step.respond(which=3)[1] == step.resume(3)[1] == step.abort(which=3)[1] == 3
