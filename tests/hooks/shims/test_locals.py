"""threading.local in workers: whose values they are, for how long, and everything that attributes can do."""

from __future__ import annotations

import _thread
import copy
import gc
import os
import pickle
import threading
import time
import weakref
from typing import Any

import anyio
import pytest

from coserver import hooks, run_blocking
from coserver.hooks.shims import locals as family
from coserver.hooks.shims.locals import ThreadLocal

from ..side_by_side import both

hooks.uninstall()  # what an app of another test has installed: the next are to be made before
pytestmark = pytest.mark.usefixtures("hooked")
bound_before = threading.local


class Before(threading.local):
    """Derived before the install."""

    def __init__(self, start: int = 0) -> None:
        self.count = start


made_before = threading.local()


def in_thread(function: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("make", [threading.local, bound_before, Before], ids=["module", "bound", "derived"])
async def test_two_handlers_do_not_meet(make: Any) -> None:
    local = threading.local() if make is threading.local else bound_before() if make is bound_before else make()
    local.name = "loop"

    def handler(name: str) -> tuple[bool, str]:
        fresh = not hasattr(local, "name")
        local.name = name
        time.sleep(0.01)
        return fresh, local.name

    assert await both(lambda: handler("a"), lambda: handler("b")) == [(True, "a"), (True, "b")]
    assert local.name == "loop"
    # A pooled worker's next call finds nothing of the last one's.
    assert await run_blocking(handler, "c") == (True, "c")
    assert in_thread(lambda: hasattr(local, "name")) is False


async def test_initialised_once_in_each_call() -> None:
    ran: list[Any] = []

    class Counted(threading.local):
        limit = 3

        def __init__(self, *args: Any, **keywords: Any) -> None:
            ran.append((args, keywords))
            self.count = args[0]

    local = Counted(5, by=2)

    def handler() -> int:
        local.count += 1
        local.count += 1
        return local.count

    assert await both(handler, handler) == [7, 7]
    assert local.count == 5
    assert ran == [((5,), {"by": 2})] * 3


async def test_one_made_in_a_worker_is_initialised_for_the_loop_as_well() -> None:
    def make() -> tuple[Before, int]:
        local = Before(7)
        local.count += 1
        return local, local.count

    local, seen = await run_blocking(make)
    assert seen == 8
    assert local.count == 7
    assert in_thread(lambda: local.count) == 7
    assert await run_blocking(lambda: local.count) == 7


async def test_an_init_that_fails_is_tried_again() -> None:
    fail = [False]

    class Fails(threading.local):
        def __init__(self) -> None:
            self.half = True
            if fail[0]:
                raise OSError("not now")

    local = Fails()
    fail[0] = True

    def handler() -> bool:
        with pytest.raises(OSError, match="not now"):
            local.half  # noqa: B018
        fail[0] = False
        return local.half

    assert await run_blocking(handler)


class Rich(threading.local):
    __slots__ = ("shared",)
    constant = "of the class"

    @property
    def twice(self) -> int:
        return self.__dict__["one"] * 2

    @twice.setter
    def twice(self, value: int) -> None:
        self.one = value // 2

    def method(self) -> Any:
        return self.one  # type: ignore[has-type]

    def __getattr__(self, name: str) -> str:
        if name.startswith("no_"):
            raise AttributeError(name)
        return f"asked for {name}"


def everything() -> list[Any]:
    """What attributes do, as values and messages: to be the same in a worker and in a thread."""
    rich, plain = Rich(), threading.local()

    def complaint(function: Any) -> str:
        with pytest.raises((AttributeError, TypeError)) as raised:
            function()
        return f"{raised.type.__name__} {raised.value} {getattr(raised.value, 'name', None)}"

    told: list[Any] = [rich.constant, rich.missing, complaint(lambda: rich.no_way)]
    rich.twice = 10
    told += [rich.one, rich.twice, rich.method(), rich.__dict__, vars(rich)]
    rich.constant = "own"
    rich.__dict__["constant"] += " too"
    told.append(rich.constant)
    del rich.constant
    told += [rich.constant, complaint(lambda: delattr(rich, "constant")), complaint(lambda: delattr(rich, "twice"))]
    rich.__dict__["twice"] = "hidden by the property"
    told += [rich.twice, complaint(lambda: setattr(rich, "__dict__", {})), complaint(lambda: delattr(rich, "__dict__"))]
    rich.shared = 1
    told.append(rich.shared)
    told += [complaint(lambda: plain.missing), complaint(lambda: delattr(plain, "missing"))]
    plain.__doc__ = "own"
    told += [plain.__doc__, plain.__dict__, "one" in dir(rich), isinstance(plain, threading.local)]
    told += [complaint(lambda: pickle.dumps(plain)), complaint(lambda: copy.copy(plain))]
    told += [complaint(lambda: setattr(plain, "__dict__", {})), complaint(lambda: threading.local(1))]
    told += [threading.local.__name__, threading.local.__module__, weakref.ref(plain)() is plain]
    return told


async def test_attributes_are_those_of_a_thread() -> None:
    def plainly() -> list[Any]:
        hooks.uninstall()
        return everything()

    inside = await run_blocking(everything)
    assert in_thread(everything) == inside
    original = in_thread(plainly)
    # Only the type's own complaints name it a little differently.
    assert [str(one).replace("_thread._local", "_local") for one in original] == [str(one) for one in inside]


async def test_slots_are_shared_and_overrides_are_asked() -> None:
    rich = Rich()
    rich.shared = "all see it"
    asked: list[str] = []

    class Overrides(threading.local):
        def __getattribute__(self, name: str) -> Any:
            asked.append(name)
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value + 1)

    own = Overrides()

    def handler() -> int:
        assert rich.shared == "all see it"
        own.x = 1
        return int(own.x)

    assert await run_blocking(handler) == 2
    assert asked == ["x"]
    assert "x" not in own.__dict__


class Notes:
    def __init__(self, told: list[Any], again: Any = None) -> None:
        self.told, self.again = told, again

    def __del__(self) -> None:
        time.sleep(0.001)
        self.told.append(hooks.workers.in_worker() if hasattr(hooks, "workers") else True)
        if self.again is not None:
            self.again.value = Notes(self.told)


async def test_values_end_with_the_call_in_the_worker() -> None:
    local, told = threading.local(), []

    def handler() -> None:
        local.value = Notes(told, again=local)
        assert not told

    await run_blocking(handler)
    assert told == [True, True]
    assert await run_blocking(lambda: vars(local)) == {}


async def test_values_end_with_their_local() -> None:
    told: list[Any] = []

    def handler() -> None:
        local = threading.local()
        local.value = Notes(told)
        del local
        assert told == [True]
        # A new one in its place begins empty.
        assert all(vars(threading.local()) == {} for _ in range(50))

    await run_blocking(handler)


async def test_a_call_that_fails_or_is_cancelled_leaves_nothing() -> None:
    local = threading.local()
    values: list[Any] = []

    def handler(fail: bool) -> None:
        local.value = Notes([])
        values.append(weakref.ref(local.value))
        if fail:
            raise KeyError("on purpose")
        time.sleep(0.01)
        anyio_wait()

    def anyio_wait() -> None:
        from coserver import await_

        await_(anyio.sleep_forever())

    with pytest.raises(KeyError):
        await run_blocking(handler, True)
    with anyio.move_on_after(0.05):
        await run_blocking(handler, False)
    gc.collect()
    assert [one() for one in values] == [None, None]


async def test_a_call_within_a_call_is_a_call_of_its_own() -> None:
    from coserver import await_

    local = threading.local()

    def handler() -> tuple[str, bool]:
        local.name = "outer"
        inner = await_(run_blocking(lambda: hasattr(local, "name")))
        return local.name, inner

    assert await run_blocking(handler) == ("outer", False)


async def test_what_is_a_threads_own_stays_so() -> None:
    module = {"__name__": "trio._core.something", "threading": threading}
    code = """
one = threading.local()
class Derived(threading.local):
    def __init__(self):
        self.ready = True
two = Derived()
"""
    exec(code, module)
    one, two = module["one"], module["two"]
    assert type(one) is ThreadLocal
    assert isinstance(one, threading.local)
    one.x = two.x = "the thread's"
    assert await run_blocking(lambda: (one.x, two.x, two.ready)) == ("the thread's", "the thread's", True)


async def test_made_before_it_bleeds_and_is_found() -> None:
    older = _Older.one
    older.name = "loop"
    assert await run_blocking(lambda: older.name) == "loop"
    found = family.older()
    assert any(one is older for one in found)
    assert not any(type(one).__module__.startswith(("asyncio", "coserver", "anyio")) for one in found)


class _Older:
    one = made_before


def test_everything_is_put_back() -> None:
    assert Before.__bases__ == (threading.local,)
    assert threading.local is not family.original
    hooks.uninstall()
    assert threading.local is bound_before is _thread._local is family.original
    assert Before.__bases__ == (family.original,)
    assert "locals" not in hooks.installed()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_child_process_has_what_its_call_had() -> None:
    local = threading.local()

    def handler() -> int:
        local.name = "mine"
        pid = os.fork()
        if pid == 0:
            os._exit(0 if getattr(local, "name", "") == "mine" else 3)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert await run_blocking(handler) == 0
