"""`python -m benchmarks instructions`: user instructions a request, counted by valgrind's callgrind.

Times differ by a few percent for no reason; instructions hardly do, whatever else the machine is doing. So this answers
whether a change costs or saves one percent. It does not count the kernel's work, nor caches that miss.
"""

import argparse
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import report
from benchmarks.paced import is_whole
from benchmarks.process import ROOT, TREE, Failed, arguments, free_port, stop
from benchmarks.rows import HEADS, LOADS, SERVERS, Server, beside

START_SECONDS = 120  # valgrind runs a program fifty times as slowly
WARM_REQUESTS = 400
#: Seconds that a lone client pauses: the server has gone to sleep by then.
PAUSE_SECONDS = 0.0015

_total = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE).search


def add_options(parser: argparse.ArgumentParser) -> None:
    only = "coserver-httptools-*"
    parser.add_argument("--only", metavar="NAME,NAME", default=only, help="rows of http; default %(default)s")
    parser.add_argument("--baseline", type=Path, metavar="DIR", help="another checkout, to compare with")
    parser.add_argument("--head", choices=HEADS, default="plain", help="the request's fields; default %(default)s")
    parser.add_argument(
        "--connections", type=int, default=32, help="1: a client that pauses before each request; default %(default)s"
    )
    parser.add_argument("--requests", type=int, default=3200, help="default %(default)s; a tenth with one connection")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")


def run(options: argparse.Namespace) -> int:
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not in PATH; most distributions have a package of that name")
    patterns = options.only.split(",")
    names = [
        name
        for name, row in SERVERS.items()
        if (row.suite, row.load) == ("http", "ok") and any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    servers = beside(names, options.baseline.resolve()) if options.baseline else {name: SERVERS[name] for name in names}
    if not servers:
        raise SystemExit(f"--only {options.only}: no row of http answers to it")
    counted: dict[str, float] = {}
    rows = []
    for name, server in servers.items():
        counted[name] = count(server, options.head, options.connections, options.requests)
        print(f"{name:40} {counted[name]:9.0f} instructions a request", file=sys.stderr)
    for name, server in servers.items():
        other = counted.get(server.against) if options.baseline else None
        ratio = f"{counted[name] / other:.3f}" if other else ""
        rows.append((name, f"{counted[name]:.0f}", ratio))
    print(report.table(("server", "user instructions a request", "against the baseline"), rows))
    report.write_json(options.json, {"suite": "instructions", "head": options.head, "instructions": counted})
    return 0


def count(server: Server, head: str, connections: int, requests: int) -> float:
    """Run the server under callgrind, load it, and return the instructions of one request. Raises Failed."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out.%p",
             sys.executable, *arguments(server, port)],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
                **({"PYTHONPATH": server.tree, TREE: server.tree} if server.tree else {}),
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(process, port)
            sockets = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in range(connections)]
            ask = _ask(sockets, port, head, LOADS[server.load].path)
            if connections == 1:
                requests //= 10
            ask(WARM_REQUESTS if connections > 1 else WARM_REQUESTS // 10)
            _control(process, "-i", "on")
            ask(connections * 2)
            _control(process, "-z")
            ask(requests)
            _control(process, "-d")
            for one in sockets:
                one.close()
            texts = [path.read_text(errors="replace") for path in Path(folder).glob("out.*")]
            found = [match for text in texts if (match := _total(text))]
            if not found:
                raise Failed("callgrind wrote no total")
            return max(int(match[1]) for match in found) / requests
        finally:
            stop(process)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Failed(f"ended with status {process.returncode} instead of answering")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise Failed(f"did not accept within {START_SECONDS} s")


def _control(process: subprocess.Popen[bytes], *words: str) -> None:
    subprocess.run(["callgrind_control", *words, str(process.pid)], capture_output=True, check=True)


def _ask(sockets: list[socket.socket], port: int, head: str, path: str) -> Callable[[int], None]:
    """A function that makes so many requests. Each connection asks again as soon as it is answered."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in HEADS[head])]
    request = ("\r\n".join(lines) + "\r\n\r\n").encode()

    def receive(one: socket.socket) -> None:
        answer = b""
        while not is_whole(answer):
            piece = one.recv(65_536)
            if not piece:
                raise Failed("the server closed the connection")
            answer += piece

    def alone(requests: int) -> None:
        for _ in range(requests):
            time.sleep(PAUSE_SECONDS)
            sockets[0].sendall(request)
            receive(sockets[0])

    def together(requests: int) -> None:
        by_number = {one.fileno(): one for one in sockets}
        with select.epoll() as epoll:
            for one in sockets:
                epoll.register(one, select.EPOLLIN)
                one.sendall(request)
            sent, answered = len(sockets), 0
            while answered < sent:
                for fd, _ in epoll.poll():
                    receive(by_number[fd])
                    answered += 1
                    if sent < requests:
                        by_number[fd].sendall(request)
                        sent += 1

    return alone if len(sockets) == 1 else together


