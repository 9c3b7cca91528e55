"""The child process: runs tests of one module in a worker of a running loop, or plainly, and reports on a pipe.

Started by path with a job in JSON. Each line of the report is JSON too: a test began, a test is over, or where all
stands. It has no thread and no task beside the tests: the parent asks by a signal where it stands, when a test hangs.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
import unittest
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

#: No test of CPython's own uses it.
ASK = signal.SIGRTMAX - 3
#: In place of a test's name, if the process ended before or after all tests, or there is no such test. Such a failure
#: excuses no other.
DIED = "(outside a test)"


class Report(unittest.TestResult):
    """Tells the parent each outcome as it comes."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._told = False
        self.running = ""

    def tell(self, **line: Any) -> None:
        left = json.dumps(line).encode() + b"\n"
        while left:
            left = left[_write[0](self._fd, left) :]

    def startTest(self, test: Any) -> None:  # noqa: N802
        super().startTest(test)
        self._told = False
        self.running = test.id()
        self.tell(began=test.id())

    def stopTest(self, test: Any) -> None:  # noqa: N802
        super().stopTest(test)
        self.over(test, "passed") if not self._told else None
        self.running = ""

    def over(self, test: Any, outcome: str, why: str = "") -> None:
        self._told = True
        self.tell(over=test.id(), outcome=outcome, why=why)

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        self.over(test, "failed", "".join(traceback.format_exception(*err)))

    addError = addFailure  # noqa: N815

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            self.over(test, "failed", f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self.over(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self.over(test, "failed", "it was expected to fail")


#: In a tuple, where the hooks do not find it: a report is no call of a test's. The parent always reads, so it waits for
#: nothing.
_write = (os.write,)


def flat(tests: Any) -> Iterator[Any]:
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def chosen(job: dict[str, Any], report: Report) -> unittest.TestSuite:
    """The tests that are asked for, and neither done nor on the list of skips."""
    names = [f"{job['module']}.{name}" for name in job["names"]] or [job["module"]]
    done, suite = set(job["done"]), unittest.TestSuite()
    for test in flat(unittest.defaultTestLoader.loadTestsFromNames(names)):
        if test.id() in done:
            continue
        if job["names"] and isinstance(test, unittest.loader._FailedTest):  # type: ignore[attr-defined]
            report.tell(over=f"{test.id()} {DIED}", outcome="failed", why=str(test._exception))
            continue
        short = test.id().removeprefix(job["module"] + ".")
        reason = next((why for pattern, why in job["skips"].items() if fnmatchcase(short, pattern)), None)
        if reason is None:
            suite.addTest(test)
        else:
            report.over(test, "skipped", reason)
    return suite


def stands(report: Report, worker: list[Any]) -> str:
    """All stacks of this process; the worker's first, if it is suspended."""
    parts = []
    for one in worker:
        if one.gr_frame is not None:
            stack = "".join(traceback.format_stack(one.gr_frame))
            parts.append(f"the worker is suspended in {one.call} on {one.on!r:.200}:\n{stack}")
        else:
            parts.append("the worker runs: the loop stands still with it\n")
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {ident:#x}:\n" + "".join(traceback.format_stack(frame)))
    return "".join(parts)


def in_worker(backend: str, run: Any, worker: list[Any]) -> None:
    import anyio
    from greenlet import getcurrent

    from coserver import hooks
    from coserver.hooks import workers

    def live() -> None:
        worker.append(getcurrent())
        run()

    async def main() -> None:
        await workers.run_blocking(live)

    hooks.install()
    options = {"use_uvloop": True} if backend == "uvloop" else {}
    anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)


def main(path: str) -> None:
    with open(path) as file:
        job = json.load(file)
    os.set_inheritable(job["fd"], False)
    report = Report(job["fd"])
    worker: list[Any] = []
    sys.path[0] = job["root"]  # in the place of this file's own folder
    from test import support

    support.use_resources = None if "all" in job["resources"] else ["cpu", "subprocess", "walltime", *job["resources"]]
    support.verbose = 0
    signal.signal(ASK, lambda *_: report.tell(stands=stands(report, worker), test=report.running))
    try:
        importlib.import_module(job["module"])
    except unittest.SkipTest as skip:
        report.tell(over=job["module"], outcome="skipped", why=str(skip))
        report.tell(end=True)
        return
    suite = chosen(job, report)
    run = partial(suite.run, report)
    if job["backend"] == "plain":
        run()
    else:
        in_worker(job["backend"], run, worker)
    report.tell(end=True)


if __name__ == "__main__":
    main(sys.argv[1])
