"""Measure the cost of coserver beside its peers on the same machine. Run it from the root of a checkout."""

import argparse
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from benchmarks import clients, fanout, hooks, imports, instructions, memory, observe, rounds


@dataclass(frozen=True)
class Command:
    about: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


# A new suite of servers under wrk needs one row with rounds.run here, and its rows in rows.py.
COMMANDS: dict[str, Command] = {
    "http": Command("requests/s and server CPU per request, next to the peers", rounds.add_options, rounds.run),
    "upstream": Command("client CPU per request, next to other clients", clients.add_options, clients.run),
    "fanout": Command("a handler with ten subrequests, next to the peers' handlers", fanout.add_options, fanout.run),
    "hooks": Command("blocking calls in handlers, next to async def and gevent", hooks.add_options, hooks.run),
    "observe": Command("the cost of the recorder and the metrics for a request", observe.add_options, observe.run),
    "memory": Command("memory per idle keep-alive connection", memory.add_options, memory.run),
    "instructions": Command("user instructions a request, by valgrind", instructions.add_options, instructions.run),
    "imports": Command("time of `import coserver`, and the modules that it loads", imports.add_options, imports.run),
}

EPILOG = "Ends with status 1 if a bar was missed or a server failed. benchmarks/README.md says how to read the tables."


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest="suite", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_options(commands.add_parser(name, help=command.about, description=command.about, epilog=EPILOG))
    options = parser.parse_args()
    # SIGTERM and SIGHUP unwind as Ctrl-C does, so that no server is left behind. Under nohup SIGHUP stays ignored.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    if options.json:
        options.json.unlink(missing_ok=True)  # a run that breaks off must not leave the figures of the last run
    try:
        return COMMANDS[options.suite].run(options)
    except KeyboardInterrupt:
        return 130  # a shell's status for "ended by Ctrl-C"


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
