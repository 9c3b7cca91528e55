"""The parent: starts children, reads their reports, asks one that hangs where it stands, and goes on after it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from time import monotonic
from typing import Any

from .inside import ASK, DIED
from .skips import listed

ROOT = Path(__file__).parents[2]
INSIDE = Path(__file__).with_name("inside.py")
#: Where the modules are.
PACKAGE = "test"
#: Seconds that a child has to say where it stands, once it is asked.
ANSWER = 5


@dataclass
class Outcome:
    """What came of one module's tests: ``tests`` is outcome and reason by the test's id."""

    module: str
    backend: str
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, outcome: str) -> dict[str, str]:
        return {test: why for test, (found, why) in self.tests.items() if found == outcome}

    def note(self, test: str, outcome: str, why: str) -> None:
        """A failure stays one, whatever else is told of the same test."""
        before = self.tests.get(test, ("", ""))
        if before[0] == "failed":
            outcome, why = "failed", before[1] if outcome != "failed" else before[1] + why
        self.tests[test] = outcome, why

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.of(outcome))} {outcome}" for outcome in ("passed", "failed", "skipped"))
        return f"{self.module} on {self.backend}: {counts}"


def missing() -> str:
    """What to do if this Python has no tests of its own; "" if it has."""
    if find_spec("test") is None or find_spec("test.test_select") is None:  # Debian's python3 has the support alone
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"{sys.executable} comes without the package 'test': on Debian and Ubuntu it is in "
            f"libpython{version}-testsuite; those of pyenv and python.org have it"
        )
    return ""


def unknown(modules: Iterable[str]) -> str:
    """Which of these this Python does not have, in words; "" if it has them all."""
    for module in modules:
        short = module.removeprefix("test.")
        try:
            found = find_spec(f"{PACKAGE}.{short}")
        except (ImportError, ValueError):  # no package, or a name that is none
            found = None
        if found is None:
            near = get_close_matches(short, [found.name for found in iter_modules(import_module(PACKAGE).__path__)])
            hint = f"; near it: {', '.join(near)}" if near else ""
            return f"there is no module {short!r} in the package {PACKAGE!r} of {sys.executable}{hint}"
    return ""


@dataclass(frozen=True)
class How:
    """``timeout``: seconds for each test. ``skips``: mind the list. ``resources``: more that tests may use, such as
    "network", which some want for the loopback already, others for the world; "all"."""

    timeout: float = 60
    skips: bool = True
    resources: tuple[str, ...] = ()


def run(module: str, backend: str, names: list[str], how: How) -> Outcome:
    """Run a module of the package ``test``. ``backend`` "plain" is no worker, no hooks and no loop."""
    short = module.removeprefix("test.")
    outcome = Outcome(short, backend)
    job: dict[str, Any] = {"module": f"{PACKAGE}.{short}", "names": names, "backend": backend}
    job["skips"] = listed(short) if how.skips else {}
    job["resources"] = how.resources
    while not _child(job, outcome, how.timeout):
        pass
    return outcome


def _child(job: dict[str, Any], outcome: Outcome, timeout: float) -> bool:
    """One process, until its end or its first hanging test; whether all is done."""
    theirs: tuple[int, int] = os.pipe()
    read, write = theirs
    before = len(outcome.tests)
    with tempfile.TemporaryDirectory() as folder, open(read, "rb", buffering=0) as lines:
        job |= {"root": str(ROOT), "fd": write, "done": list(outcome.tests)}
        path, noise = Path(folder, "job.json"), Path(folder, "noise")
        path.write_text(json.dumps(job))
        cwd = Path(folder, "cwd")
        cwd.mkdir()
        with noise.open("wb") as out:
            child = subprocess.Popen(
                [sys.executable, INSIDE, path], cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                pass_fds=[write], start_new_session=True,
            )  # fmt: skip
        os.close(write)
        try:
            ended, running = _follow(child, lines, outcome, timeout)
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
        if ended:
            return True
        if running:
            outcome.note(running, "failed", f"the process ended with {child.returncode}\n{_tail(noise)}")
            if len(outcome.tests) > before:
                return False
        outcome.note(f"{job['module']} {DIED}", "failed", f"ended with {child.returncode}\n{_tail(noise)}")
        return True


def _tail(noise: Path) -> str:
    return noise.read_text(errors="replace")[-4000:]


def _follow(child: Any, lines: Any, outcome: Outcome, timeout: float) -> tuple[bool, str]:
    """Read the report; whether the child came to its end, and which test ran last if not."""
    held, running, until, asked = b"", "", monotonic() + timeout, False
    while True:
        if not select.select([lines], [], [], max(0, until - monotonic()))[0]:
            if asked:
                return False, running
            asked, until = True, monotonic() + ANSWER
            os.kill(child.pid, ASK)
            continue
        read = lines.read(65536)
        if not read:
            child.wait(ANSWER)  # its own end, not ours
            return False, running
        *whole, held = (held + read).split(b"\n")
        for line in whole:
            told = json.loads(line)
            if "end" in told:
                return True, ""
            if "stands" in told:
                outcome.note(running, "failed", f"hangs for {timeout:g} s already\n{told['stands']}")
                return False, running
            running = told.get("began", running)
            if "over" in told:
                outcome.note(told["over"], told["outcome"], told["why"])
            until, asked = monotonic() + timeout, False
