"""A server in a process of its own: started on a free port, measured through /proc, ended with all its children.

Every server leads its own process group. So ending a server never ends a process that the benchmark did not start.
Ctrl-C in the terminal reaches only the benchmark, which then ends its server.
"""

import http.client
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import certificate
from benchmarks.rows import LOADS, Load, Server

ROOT = Path(__file__).parent.parent  # modules and files in the commands are relative to this folder
START_SECONDS = 15  # imports from a cold disk take some seconds
STOP_SECONDS = 5
TREE = "BENCHMARK_TREE"  # tells a coserver server from which checkout its coserver must be
#: The cores of servers and of their load; see README, "What is measured".
PLACINGS = ("free", "apart", "together")
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A server did not start, or did not give the answer of its row."""


@dataclass(frozen=True)
class Cores:
    """The cores of all servers, and of the load, as the head of a command; empty: the kernel chooses."""

    server: tuple[str, ...] = ()
    load: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.server:
            return "neither servers nor wrk pinned"
        return f"all servers pinned to core {self.server[-1]}, wrk to core {self.load[-1]}"


@dataclass(frozen=True)
class Running:
    server: Server
    pid: int
    port: int

    @property
    def load(self) -> Load:
        return LOADS[self.server.load]

    def cpu_seconds(self) -> float:
        """User and system time of the server and its descendants so far."""
        return sum(ticks(pid) for pid in descendants(self.pid)) / TICKS

    def memory_kb(self) -> dict[str, int]:
        """Memory that server and descendants allocated (`anonymous`), and `uss`, `pss`, `rss`; in kB as in /proc."""
        total = {"anonymous": 0, "uss": 0, "pss": 0, "rss": 0}
        for pid in descendants(self.pid):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            kb = {key: int(rest.split()[0]) for key, rest in (line.split(":") for line in lines)}
            total["anonymous"] += kb["Anonymous"]
            total["uss"] += kb["Private_Clean"] + kb["Private_Dirty"]
            total["pss"] += kb["Pss"]
            total["rss"] += kb["Rss"]
        return total


def choose_cores(placing: str = "apart") -> Cores:
    """The cores for a row of PLACINGS; on a machine with one core the kernel chooses."""
    allowed = sorted(os.sched_getaffinity(0))
    if placing == "free" or len(allowed) < 2:
        return Cores()
    # The load gets the first core, which more often takes the machine's interrupts.
    load = allowed[1] if placing == "together" else allowed[0]
    return Cores(server=("taskset", "-c", str(allowed[1])), load=("taskset", "-c", str(load)))


def raise_open_files() -> int:
    """Lift the soft limit of open files to the hard limit, and return it; child processes inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def running(server: Server, cores: Cores) -> Iterator[Running]:
    port = free_port()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*cores.server, sys.executable, *arguments(server, port)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": server.tree, TREE: server.tree} if server.tree else None,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            one = Running(server, process.pid, port)
            try:
                _wait_for_right_answer(one, process)
            except Failed as failed:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                reason = "; ".join([str(failed), *lines[-1:]])
                raise Failed(reason.replace(str(ROOT), ".")) from None
            yield one
        finally:
            if not stop(process):
                print(f"{server.name} outlived SIGTERM by {STOP_SECONDS} s and was killed", file=sys.stderr)


def arguments(server: Server, port: int) -> list[str]:
    names = {"port": port}
    if LOADS[server.load].tls:
        names["certificate"], names["key"] = certificate.files()
    command = server.command.format(**names).split()
    if not server.tree:
        return ["-m", *command]
    # Started by its path, with -P, so that only PYTHONPATH says where coserver comes from.
    return ["-P", str(ROOT.joinpath(*command[0].split(".")).with_suffix(".py")), *command[1:]]


def machine_cpu_seconds() -> float:
    """CPU seconds of all cores so far, of every process, including the time that a hypervisor took away."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = _cpu_line()
    return (user + nice + system + irq + softirq + steal) / TICKS


def _cpu_line() -> list[int]:
    return [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def stop(process: subprocess.Popen[bytes]) -> bool:
    """End the process group; false if the leader had to be killed."""
    try:
        _signal_group(process.pid, signal.SIGTERM)
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        _signal_group(process.pid, signal.SIGKILL)  # ends also a worker that outlived its leader
        process.wait()
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _wait_for_right_answer(one: Running, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"ended with status {process.returncode} instead of answering")
        try:
            ask(one)
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
        except OSError as error:
            raise Failed(f"no answer: {error!r}") from error
    raise Failed(f"did not accept within {START_SECONDS} s")


def connect(one: Running) -> http.client.HTTPConnection:
    if not one.load.tls:
        return http.client.HTTPConnection("127.0.0.1", one.port, timeout=5)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", one.port, timeout=5, context=trusting)


def ask(one: Running, connection: http.client.HTTPConnection | None = None) -> None:
    """Send one request and check its answer, since wrk checks only the status. Raises Failed for a wrong answer."""
    load = one.load
    mine = connection or connect(one)
    headers = {"Content-Type": load.content_type} if load.body else {}
    try:
        mine.request(load.method, load.path, body=load.body or None, headers=headers)
        answer = mine.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise Failed(f"no HTTP answer: {error!r}") from error
    finally:
        if connection is None:
            mine.close()
    kind = answer.headers.get_content_type()
    if (answer.status, kind, body) != (200, load.content_type, load.answer):
        raise Failed(f"answered {answer.status} {kind} {body[:40]!r}")


def descendants(pid: int) -> list[int]:
    """The process and all its descendants that still run."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has just ended
    tree = [pid]
    for one in tree:
        tree.extend(children.get(one, ()))
    return tree


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on. The second field, the name, may contain blanks and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def ticks(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)
