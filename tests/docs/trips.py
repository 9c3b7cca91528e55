"""Counts the files of coserver that a request enters: ``python -m tests.docs.trips`` prints the table of the story.

A trip begins when the listener hands over the accepted socket. It ends when the connection is recycled. Three things
are not counted: the shims that the loop's own libraries call; the files that serve the loop and not the request (its
turns, its sweeper, its poller); and the question whether one more connection may be accepted.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import coserver
from coserver import App
from coserver.control import find
from coserver.views.shell.line_input import LineInput
from coserver.views.shell.step import LineStepper, StepOptions

ROOT = str(Path(coserver.__file__).parent) + "/"
#: The loop's own, the admission that comes before a trip, and the wrapper of a few constructors.
NOT_THE_TRIPS = {"transport/loop", "transport/deadlines", "transport/poller", "server/capacity", "keywords"}


class Trip:
    """The files that are entered while it is ``on``, in their order, in all threads that begin after ``watch``."""

    def __init__(self) -> None:
        self.files: dict[str, None] = {}
        self.on = False

    def watch(self) -> None:
        threading.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if not self.on or event != "call" or not frame.f_code.co_filename.startswith(ROOT):
            return
        name = frame.f_code.co_filename[len(ROOT) :].removesuffix(".py")
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        if name.startswith("hooks/") and not caller.startswith((ROOT, __file__)):
            return
        if name not in NOT_THE_TRIPS:
            self.files[name] = None

    def of(self, request: Callable[[], None]) -> list[str]:
        """The files of a request. The first one loads what is loaded late; of three others the shortest trip counts.

        On a busy machine a request may last until the sweeper looks at it, which enters a file more.
        """
        request()
        found = []
        for _ in range(3):
            self.files.clear()
            self.on = True
            request()
            self.on = False
            found.append(list(self.files))
        return min(found, key=len)


def trips() -> dict[str, list[str]]:
    """By name of the trip, the files that it enters."""
    trip, app, other = Trip(), App("trips"), App("other")

    @app.get("/")
    async def index() -> str:
        return "ok"

    @app.get("/sleep")
    def sleep() -> str:
        time.sleep(0.001)
        return "slept"

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError("for the trip")

    @app.get("/asks")
    async def asks() -> Any:
        return (await app.state.users.get("/")).body

    other.get("/")(lambda: "other")
    log = logging.getLogger("coserver.server")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with other.start(port=0) as second:
            app.state.users = app.upstream("users", f"http://127.0.0.1:{second.port}")
            trip.watch()
            with app.start(port=0, codec="h11", control="auto") as server:

                def ask(path: str) -> Callable[[], None]:
                    def request() -> None:
                        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
                        connection.request("GET", path)
                        connection.getresponse().read()
                        time.sleep(0.005)  # until the connection is recycled, and before a sweep takes notice of it
                        trip.on = False
                        connection.close()
                        time.sleep(0.1)

                    return request

                found = {name: trip.of(ask(path)) for name, path in PATHS.items()}
                found["a step"] = _step(trip, app, server)
                return found
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
        log.setLevel(level)


PATHS = {"a small GET": "/", "time.sleep": "/sleep", "a handler that fails": "/fails", "a subrequest": "/asks"}


def _step(trip: Trip, app: App, server: Any) -> list[str]:
    """From the line that a person types at ``coserver step`` to the release of what is held."""
    control = find(app.name)

    def request() -> None:
        on, trip.on = trip.on, False
        reading, writing = os.pipe()
        with control.step("~u /", at="handler") as step:
            stepper = LineStepper(step, io.StringIO(), StepOptions())
            shell = threading.Thread(target=stepper.run, args=(LineInput(reading),))
            shell.start()
            client = threading.Thread(target=_get, args=(server.port,))
            client.start()
            while not stepper._held:
                time.sleep(0.01)
            time.sleep(0.1)
            trip.on = on
            os.write(writing, b"resume\n")
            client.join()
            trip.on = False
            os.close(writing)
            shell.join()
        os.close(reading)

    return trip.of(request)


def _get(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()


if __name__ == "__main__":
    counted = trips()
    if "--json" in sys.argv:
        print(json.dumps(counted))
    else:
        for name, files in counted.items():
            print(f"| {name} | {len(files)} | {' · '.join(files)} |")
