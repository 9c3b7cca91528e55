"""The client of a control socket, for plain threads: ``top``, ``step`` and ``trace`` ask through it.

Requests are the standard library's HTTP, over a UNIX socket or TCP. Streams are iterators; any thread may close one.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from ..observe.snapshot.snapshot import Snapshot
from ..observe.step.actions import StepperActions
from ..observe.trace.trace import Trace
from . import socket_path as place
from .wire_format import PROTOCOL, read_trace

__all__ = ["Client", "Ended", "Refused", "StepStream", "Stream", "Unreachable", "find"]


#: Seconds for an answer; a server that is stuck is still looked at within a second.
PATIENCE = 10.0
#: ... and of a request that is sent again, to which the server gives 30.
REPLAYED = 40.0


#: Statuses by which a control refuses a client: its token, its place.
_BY_CONTROL = (401, 403, 429, 503)


class Unreachable(Exception):
    """No server can be reached there; the message names those that can."""


class Ended(Unreachable):
    """The server ended a stream or a stepper by itself; the message says why."""


class Refused(Exception):
    """The server refused a request: ``status`` has its number, the message its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def find(what: str | None = None, token: str | None = None) -> Client:
    """The client of a server by its name, its process's number, its socket's path or its URL; of the only one if None.

    Of several by one name the newest. Raises Unreachable.
    """
    if what is not None and (what.startswith(("/", "./", "../", "http://")) or Path(what).is_socket()):
        return Client(what, token)
    there = list(place.running())
    if what is None:
        if len(there) == 1:
            return Client(str(there[0][2]))
        said = "no server is running here" if not there else "several servers run: give the name of one"
        raise Unreachable(f"{said}{_those(there)}")
    for name, pid, path in there:
        if what in (name, str(pid), path.stem):
            return Client(str(path))
    for _, _, path in there:  # a name may have been too long, or too odd, for a file
        try:
            client = Client(str(path))
            if client.about["server"] == what:
                return client
        except (Unreachable, Refused):
            continue
    raise Unreachable(f"no server named {what!r} is reachable{_those(there)}")


def _those(there: list[tuple[str, int, Path]]) -> str:
    if not there:
        return "; start one with 'coserver serve'. A server in your program needs app.start(control='auto')"
    return f"; running are {', '.join(f'{name} (pid {pid})' for name, pid, _ in there)}"


class Client:
    """One server's control. ``where`` is a socket's path or an http:// URL; ``about`` describes the server."""

    def __init__(self, where: str, token: str | None = None) -> None:
        """Connects to the server. Raises Unreachable, Refused."""
        self.where = where
        self._token = token
        self.about: dict[str, Any] = self._introduced()
        if self.about.get("protocol") != PROTOCOL:
            raise Unreachable(
                f"{where} speaks version {self.about.get('protocol')} of the control protocol, and this is version "
                f"{PROTOCOL}: use the coserver that serves there, {self.about.get('coserver')}"
            )

    def _introduced(self) -> dict[str, Any]:
        """The answer of a control. Another server may listen there: the port of the app itself, say."""
        try:
            about = self._ask("GET", "/v1")
        except Refused as error:
            if error.status in _BY_CONTROL:
                raise
            about = None
        except ValueError:  # its answer is no JSON
            about = None
        if isinstance(about, dict) and "protocol" in about:
            return about
        raise Unreachable(
            f"{self.where} answers, but is no control port: it may be the port of the app. 'coserver serve "
            f"--control-port 9000' opens one, http://127.0.0.1:9000; on the same machine a server's name is enough"
            f"{_those(list(place.running()))}"
        )

    def __repr__(self) -> str:
        return f"<Client of {self.name!r} at {self.where}>"

    @property
    def name(self) -> str:
        """The server's name."""
        return str(self.about["server"])

    def ask_about(self) -> dict[str, Any]:
        """The server's name, process, version and present state. Raises Unreachable."""
        self.about = self._ask("GET", "/v1")
        return self.about

    def snapshot(self, filter: str = "") -> Snapshot:
        """The server's snapshot. Raises Unreachable, Refused."""
        return Snapshot.from_json(self._bytes("GET", _target("/v1/snapshot", filter=filter)))

    def traces(self, filter: str = "", last: int = 0, *, whole: bool = False) -> list[Trace]:
        """The recorded traces. Raises Unreachable, Refused."""
        found = self._ask("GET", _target("/v1/traces", filter=filter, last=last or "", whole=int(whole)))
        return [read_trace(one) for one in found["traces"]]

    def latest(self, last: int) -> tuple[list[Trace], int]:
        """The last traces, without fields and bodies, and the number of all recorded. Raises Unreachable, Refused."""
        found = self._ask("GET", _target("/v1/traces", last=last))
        return [read_trace(one) for one in found["traces"]], int(found["total"])

    def trace(self, number: int) -> Trace:
        """One trace in full. Raises Unreachable, Refused (404)."""
        return read_trace(self._ask("GET", f"/v1/traces/{number}"))

    def mark(self, number: int, on: bool = True) -> None:
        """Mark a recorded trace, or remove the mark."""
        self._ask("PUT", f"/v1/traces/{number}/mark", {"on": on})

    def replay(self, number: int, **changes: Any) -> dict[str, Any]:
        """Send its request again, with these changes: method, target, headers, body. Returns ``status``, ``seconds``,
        ``size`` of the answer. Raises Unreachable, Refused.
        """
        path = f"/v1/traces/{number}/replay"
        found: dict[str, Any] = json.loads(self._bytes("POST", path, changes or None, REPLAYED))
        return found

    def record(self, on: bool = True) -> None:
        """Start or stop recording exchanges."""
        self._ask("PUT", "/v1/traces/recording", {"on": on})

    def metrics(self) -> str:
        """The metrics as OpenMetrics text. Raises Unreachable, Refused."""
        return self._bytes("GET", "/v1/metrics").decode()

    def reload_certificates(self) -> None:
        """Make the server read its certificate files again."""
        self._ask("POST", "/v1/certificates")

    def drain(self, grace: float | None = None) -> None:
        """Drain and stop the server, within ``grace`` seconds or its own grace."""
        self._ask("POST", "/v1/drain", {"grace": grace})

    def set_level(self, level: str, logger: str = "coserver") -> None:
        """Set the lowest level that the server logs from now on."""
        self._ask("PUT", "/v1/log", {"level": level, "logger": logger})

    def events(self, filter: str = "") -> Stream:
        """Every event from now on. Raises Unreachable, Refused."""
        return Stream(self, "GET", _target("/v1/events", filter=filter))

    def follow(self, filter: str = "", *, whole: bool = False) -> Stream:
        """Each trace that ends from now on, as ``read_trace`` reads it. Raises Unreachable, Refused."""
        return Stream(self, "GET", _target("/v1/traces/follow", filter=filter, whole=int(whole)))

    def step(
        self, filter: str = "", at: str | list[str] = "handler", limit: float | None = None, *, by: str = "a program"
    ) -> StepStream:
        """Hold matching exchanges until the stepper is closed, or this process ends. Raises Unreachable, Refused.

        ``by`` is the program's name. The server logs it, and shows it to others, with this process's number.
        """
        return StepStream(self, filter, at, limit, f"{by}, process {os.getpid()}")

    # How it is asked.

    def connect(self, timeout: float | None = PATIENCE) -> http.client.HTTPConnection:
        if self.where.startswith("http://"):
            place = urlsplit(self.where)
            return http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout)
        return _UnixConnection(self.where, timeout)

    def fields(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _ask(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        return json.loads(self._bytes(method, target, body))

    def steps(self) -> list[dict[str, Any]]:
        """All open steppers: ``by``, ``filter``, ``at``, and the exchanges that each holds, in brief."""
        return list(self._ask("GET", "/v1/steps?brief=1")["steps"])

    def ask(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Any:
        """Send any request, and read its answer as JSON. Raises Unreachable, Refused."""
        return self._ask(method, target, body)

    def _bytes(
        self, method: str, target: str, body: Mapping[str, Any] | None = None, patience: float = PATIENCE
    ) -> bytes:
        with closing(self.connect(patience)) as connection:
            try:
                connection.request(method, target, None if body is None else json.dumps(body), self.fields())
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise self.unreachable(error) from error
        return _checked(response.status, data)

    def unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, TimeoutError):
            return Unreachable(
                f"the server at {self.where} does not answer: nothing came for {PATIENCE:g} s. Its process is stopped, "
                f"or its loop stands still"
            )
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, BlockingIOError):  # its queue is full; that is all that the system says
            why = "it has as many clients as it takes, and more are waiting"
        return Unreachable(f"no server is reachable at {self.where}: {why}{_those(list(place.running()))}")


class Stream:
    """Lines of JSON as they come, without the heartbeats; {"lost": n} where the reader was too slow. ``close`` ends it.

    Raises Unreachable when the server is gone, Ended when it cannot go on; ends when it ends the stream.
    """

    def __init__(self, client: Client, method: str, target: str, body: Mapping[str, Any] | None = None) -> None:
        """Raises Unreachable, Refused."""
        self._client = client
        self._connection = client.connect()
        try:
            self._connection.request(method, target, None if body is None else json.dumps(body), client.fields())
            self._response = self._connection.getresponse()
            if self._response.status >= 300:
                _checked(self._response.status, self._response.read())
            self.first = json.loads(self._response.readline() or b"{}")
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise client.unreachable(error) from error
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            while line := self._response.readline():
                told = json.loads(line)
                if told.keys() == {"error"}:
                    raise Ended(told["error"])
                if "heartbeat" not in told:
                    yield told
            # Of chunks that break off without the last one http.client makes an end like any other, but for this.
            if not self.closed and getattr(self._response, "chunk_left", None) is not None:
                raise self._client.unreachable(ConnectionResetError("it closed the connection without an answer"))
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            if not self.closed:
                raise self._client.unreachable(error) from error

    @property
    def closed(self) -> bool:
        """Whether this side has closed it."""
        return self._connection.sock is None

    def close(self) -> None:
        """Close the stream, from any thread; its reader sees the end."""
        sock = self._connection.sock
        if sock is not None:
            self._connection.sock = None
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        self._response.close()


class StepStream(StepperActions[Mapping[str, Any], dict[str, Any]]):
    """A stepper of another process. ``changes`` lists what it holds; the other methods are a Stepper's.

    What is held is plain values, as ``Held.as_dict`` gives them; ``which`` is one of those, or its id.
    """

    def __init__(self, client: Client, filter: str, at: str | list[str], limit: float | None, by: str) -> None:
        given: dict[str, Any] = {"filter": filter, "at": at, "limit": limit, "by": by}
        self._client = client
        self._stream = Stream(client, "POST", "/v1/steps", given)
        #: What it held at the beginning, and how it was opened.
        self.first: dict[str, Any] = self._stream.first
        self.number = int(self.first["step"])

    def __enter__(self) -> StepStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def changes(self) -> Iterator[list[dict[str, Any]]]:
        """What is held now, then after each change, until the server lets everything go: it drains.

        Raises Unreachable when it is gone, Ended when its filter takes too long.
        """
        yield self._stream.first["held"]
        for state in self._stream:
            yield state["held"]

    def close(self) -> None:
        """Let everything go; from any thread."""
        self._stream.close()

    def resume_all(self) -> int:
        """Release everything that is held now, and return the number."""
        return int(self._ask("resume_all", {})["let_go"])

    def do(self, action: str, /, which: Mapping[str, Any] | int | None = None, **arguments: Any) -> dict[str, Any]:
        """Do one of ACTIONS, by its name, to ``which``; return its plain values afterwards.

        A body of bytes goes over as text, so it must be UTF-8: else ValueError. Raises Refused, Unreachable.
        """
        given = {name: value.decode() if isinstance(value, bytes) else value for name, value in arguments.items()}
        if which is not None:
            given["held"] = which["id"] if isinstance(which, Mapping) else which
        return self._ask(action, given)

    def _ask(self, what: str, given: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._client.ask("POST", f"/v1/steps/{self.number}/{what}", given)
        return found


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _checked(status: int, data: bytes) -> bytes:
    """The body of an answer that is a yes. Raises Refused."""
    if status >= 300:
        lines = data.decode(errors="replace").strip().splitlines()
        raise Refused(status, "\n".join(lines[1:]) or (lines[0] if lines else f"status {status}"))
    return data


def _target(path: str, **query: Any) -> str:
    given = {name: value for name, value in query.items() if value not in ("", 0)}
    return f"{path}?{urlencode(given, quote_via=quote)}" if given else path


if not TYPE_CHECKING:  # a type checker shall not take every name for known

    def __getattr__(name: str) -> Any:
        from ..deprecated import old_name

        return old_name(__name__, name)
