"""Family "processes": waits for children."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import anyio
import pytest

from coserver import RequestCancelled, run_blocking

from ..side_by_side import ticking

pytestmark = pytest.mark.usefixtures("hooked")


async def test_run_and_wait() -> None:
    def run() -> None:
        code = "import time, sys; time.sleep(0.05); print('out'); sys.exit(3)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (3, "out\n")
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
            assert cat.communicate(b"x" * 300_000)[0] == b"x" * 300_000
        assert subprocess.check_output(["echo", "x"]) == b"x\n"
        with os.popen("echo popen") as file:
            assert file.read() == "popen\n"
        assert os.system("exit 3") >> 8 == 3

    async with ticking() as turns:
        await run_blocking(run)
    assert len(turns) > 2


async def test_a_wait_times_out() -> None:
    def run() -> None:
        with subprocess.Popen(["sleep", "60"]) as child:
            started = time.monotonic()
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.03)
            assert time.monotonic() - started >= 0.03
            child.kill()
            assert child.wait() == -9
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "60"], timeout=0.03, check=False)

    await run_blocking(run)


async def test_a_wait_is_cancelled() -> None:
    events: list[str] = []

    def run() -> None:
        child = subprocess.Popen(["sleep", "60"])
        try:
            child.wait()
        except RequestCancelled:
            events.append("cancelled")
            raise
        finally:
            child.kill()
            events.append(str(child.wait()))

    with anyio.move_on_after(0.05) as scope:
        await run_blocking(run)
    assert scope.cancelled_caught
    assert events == ["cancelled", "-9"]


async def test_waits_by_os(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn() -> int:
        return os.posix_spawnp("sleep", ["sleep", "0.02"], os.environ)

    def run() -> None:
        pid = spawn()
        assert os.waitpid(pid, 0) == (pid, 0)
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)
        pid = spawn()
        assert os.wait4(pid, 0)[:2] == (pid, 0)
        pid = spawn()
        found = os.waitid(os.P_PID, pid, os.WEXITED)
        assert found is not None
        assert found.si_pid == pid
        pid = spawn()
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        assert os.wait() == (pid, 0)
        pid = spawn()
        assert os.wait3(0)[0] == pid

    async with ticking() as turns:
        await run_blocking(run)
        from coserver.hooks.shims import processes

        monkeypatch.setattr(processes, "_pidfd_open", None)
        assert await run_blocking(lambda: subprocess.run(["sleep", "0.02"], check=False).returncode) == 0
    assert len(turns) > 2
