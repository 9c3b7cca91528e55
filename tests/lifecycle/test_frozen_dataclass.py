"""Frozen classes behave as the dataclasses that they are."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from coserver.lifecycle.frozen_dataclass import frozen, maker


@frozen
class Base:
    """A base."""

    a: int
    b: str = "b"


@frozen
class Derived(Base):
    c: float = dataclasses.field(default=1.0, repr=False, compare=False)


def test_it_is_a_frozen_dataclass() -> None:
    one = Derived(a=1)
    assert (one.a, one.b, one.c, type(one)) == (1, "b", 1.0, Derived)
    assert repr(one) == "Derived(a=1, b='b')"
    assert one == Derived(a=1, c=2.0) != Derived(a=2)
    assert hash(one) == hash(Derived(a=1))
    assert isinstance(one, Base)
    assert dataclasses.replace(one, a=5) == Derived(a=5)
    assert dataclasses.asdict(one) == {"a": 1, "b": "b", "c": 1.0}
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.a = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.a
    assert not hasattr(one, "__dict__")


def test_an_ordinary_subclass() -> None:
    class Plain(Derived):
        pass

    one = Plain(a=1)
    assert (one.a, one.b, one.c, type(one)) == (1, "b", 1.0, Plain)


def test_made_by_its_maker() -> None:
    make = maker(Derived)
    one = make(a=1, c=2.0)
    assert (one, type(one), repr(one)) == (Derived(a=1), Derived, "Derived(a=1, b='b')")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.a = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="a"):
        make()  # type: ignore[call-arg]


def test_its_arguments_are_named_and_none_is_forgotten() -> None:
    with pytest.raises(TypeError, match="a"):
        Derived()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Derived(1)  # type: ignore[misc]
    with pytest.raises(TypeError, match="unknown"):
        Derived(a=1, unknown=2)  # type: ignore[call-arg]


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(TypeError, match="every field of a frozen class is an argument"):

        @frozen
        class _Factory:
            a: list[int] = dataclasses.field(default_factory=list)
