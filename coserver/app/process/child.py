"""The process of an isolated server: reads its app from standard input, serves it, and ends when that is closed.

``python -m coserver.app.process.child FD``: FD is where it reports, one line of JSON,
that it listens, or what kept it from it.
Whoever started it holds the other end of standard input; when that one ends, in whatever way, so does this.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from ...hooks.install import install_for

#: Seconds for handlers' ``finally`` blocks when the parent is gone.
_LAST = 1.0
#: The length before each part of what is sent.
LENGTH = struct.Struct("!Q")


def main() -> None:
    """Serve until the parent's end of the pipe closes; what goes wrong at the start is reported to it."""
    report = int(sys.argv[1])
    given = sys.stdin.buffer
    try:
        server = _start(given)
    except BaseException as error:
        _say(report, {"error": str(error) or repr(error), "kind": type(error).__name__})
        raise
    control = str(server.control.path) if server.control is not None else ""
    threading.Thread(target=_end_with, args=(given, server, control), name="coserver parent", daemon=True).start()
    _say(report, {"addresses": [asdict(one) for one in server.addresses], "control": control})
    server.wait_for_end()
    _remove_folder(control)


def _start(given: BinaryIO) -> Any:
    before = pickle.loads(_part(given))
    sys.path[:] = before["path"]
    sys.argv[:] = before["argv"]
    install_for(before["hooks"])  # before the app's own modules are imported
    app, options = pickle.loads(_part(given))
    return app.start(**options)


def _part(given: BinaryIO) -> bytes:
    (size,) = LENGTH.unpack(given.read(LENGTH.size))
    return given.read(size)


def _say(report: int, what: dict[str, Any]) -> None:
    with os.fdopen(report, "w") as out:
        out.write(json.dumps(what) + "\n")


def _end_with(given: BinaryIO, server: Any, control: str) -> None:
    """Wait for the end of standard input, and end."""
    while os.read(given.fileno(), 1024):  # not through its buffer, whose lock would be held at the end
        pass
    server.begin_stop(0)
    threading.Event().wait(_LAST)
    _remove_folder(control)
    os._exit(0)  # a handler that computes keeps nobody alive


def _remove_folder(control: str) -> None:
    """It was made for the control socket, by the parent, which may have been killed since."""
    with suppress(OSError):
        os.rmdir(os.path.dirname(control))


if __name__ == "__main__":
    main()
