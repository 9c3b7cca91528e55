"""The process of an isolated server: reads the app from standard input, serves it, and ends when the input closes.

``python -m coserver.app.process.child FD``. The process reports on FD, in one line of JSON, that it listens, or the
error that kept it from listening. The parent process holds the other end of standard input: when the parent ends, in
whatever way, this process ends too.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from ...hooks.install import install_for
from ...transport.unix_socket import SocketFile
from .. import registry
from ..sockets import BoundListener

#: Seconds for handlers' ``finally`` blocks when the parent is gone.
_LAST = 1.0
#: The length before each part of the input.
LENGTH = struct.Struct("!Q")
#: What the parent says, after the app, when a successor accepts clients from the same sockets.
REPLACED = b"r"


def main() -> None:
    """Serve until the parent closes its end of the pipe. Report an error at the start to the parent."""
    report = int(sys.argv[1])
    source = sys.stdin.buffer
    try:
        server = _start(source)
    except BaseException as error:
        _report(report, {"error": str(error) or repr(error), "kind": type(error).__name__})
        raise
    control = str(server.control.path) if server.control is not None else ""
    threading.Thread(target=_end_with, args=(source, server, control), name="coserver parent", daemon=True).start()
    _report(report, {"addresses": [asdict(one) for one in server.addresses], "control": control})
    server.wait_for_end()
    _remove_folder(control)


def _start(source: BinaryIO) -> Any:
    before = pickle.loads(_part(source))
    _take_sockets(before["sockets"])
    sys.path[:] = before["path"]
    sys.argv[:] = before["argv"]
    install_for(before["hooks"])  # before the app's own modules are imported
    app, options = pickle.loads(_part(source))
    return app.start(**options)


def _take_sockets(given: list[tuple[str, str, str, SocketFile | None, list[int]]]) -> None:
    """Have the server listen on the sockets that the parent bound: its own, or those of the server it replaces."""
    for name, host, path, file, fds in given:
        sockets = [socket.socket(fileno=fd) for fd in fds]
        for sock in sockets:
            sock.setblocking(False)  # a new socket object does not know that it is, and its dup() would make it block
            sock.set_inheritable(False)
        registry.passed[name] = BoundListener(name, host, path, sockets, kept=True, file=file)


def _part(source: BinaryIO) -> bytes:
    (size,) = LENGTH.unpack(source.read(LENGTH.size))
    return source.read(size)


def _report(fd: int, report: dict[str, Any]) -> None:
    with os.fdopen(fd, "w") as out:
        out.write(json.dumps(report) + "\n")


def _end_with(source: BinaryIO, server: Any, control: str) -> None:
    """Drain when the parent says that another server listens now. Wait for the end of standard input, then end the
    process.
    """
    while os.read(source.fileno(), 1024):  # not through the buffer, whose lock would be held at the end
        registry.taken_over = True  # the parent has said REPLACED
        server.begin_stop()
    server.begin_stop(0)
    threading.Event().wait(_LAST)
    _remove_folder(control)
    os._exit(0)  # a handler that computes must not keep the process alive


def _remove_folder(control: str) -> None:
    """Remove the control socket's folder. The parent made it, but may have been killed."""
    with suppress(OSError):
        os.rmdir(os.path.dirname(control))


if __name__ == "__main__":
    main()
