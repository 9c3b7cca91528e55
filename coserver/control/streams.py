"""What a client of the control reads for as long as it likes: lines as they come, and the stepper that lives by them.

Streams are iterators, closed to end them, from any thread.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client


class Unreachable(Exception):
    """No server can be reached there; the message names those that can."""


class Ended(Unreachable):
    """The server was reached, and has ended what it was asked for; the message says why."""


class Refused(Exception):
    """The server says no: ``status``, and why in words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def checked(status: int, data: bytes) -> bytes:
    """The body of an answer that is a yes. Raises Refused."""
    if status >= 300:
        lines = data.decode(errors="replace").strip().splitlines()
        raise Refused(status, "\n".join(lines[1:]) or (lines[0] if lines else f"status {status}"))
    return data


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
                checked(self._response.status, self._response.read())
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
                raise self._client.unreachable(ConnectionResetError("it has gone without a word"))
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            if not self.closed:
                raise self._client.unreachable(error) from error

    @property
    def closed(self) -> bool:
        return self._connection.sock is None

    def close(self) -> None:
        """From any thread: whoever reads sees the end."""
        sock = self._connection.sock
        if sock is not None:
            self._connection.sock = None
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        self._response.close()


class RemoteStepper:
    """A stepper on the other side. ``changes`` are what it holds, after each change; the other words are a Stepper's.

    What is held is plain values, as ``Held.as_dict`` gives them; ``which`` is one of those, or its id.
    """

    def __init__(self, client: Client, filter: str, at: str | list[str], limit: float | None) -> None:
        given: dict[str, Any] = {"filter": filter, "at": at, "limit": limit}
        self._client = client
        self._stream = Stream(client, "POST", "/v1/steps", given)
        #: What it held at the beginning, and how it was opened.
        self.first: dict[str, Any] = self._stream.first
        self.number = int(self.first["step"])

    def __enter__(self) -> RemoteStepper:
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

    def next(self, which: Any = None) -> dict[str, Any]:
        """Let it go to its next phase."""
        return self.do("next", which)

    def resume(self, which: Any = None) -> dict[str, Any]:
        """Let it go."""
        return self.do("resume", which)

    def resume_all(self) -> int:
        """Let all go that is held now; how many those were."""
        return int(self.do("resume_all", None)["let_go"])

    def until(self, phase: str, which: Any = None) -> dict[str, Any]:
        """Let it go to that phase."""
        return self.do("until", which, phase=phase)

    def edit(self, which: Any = None, **changes: Any) -> dict[str, Any]:
        """Change it; keywords as for ``Held.edit``."""
        return self.do("edit", which, **changes)

    def respond(self, status: int = 200, body: Any = "", headers: Any = None, *, which: Any = None) -> dict[str, Any]:
        """Answer in the handler's place."""
        return self.do("respond", which, status=status, body=body, headers=headers)

    def abort(self, which: Any = None) -> dict[str, Any]:
        """Reset the connection, or cancel the subrequest."""
        return self.do("abort", which)

    def do(self, what: str, which: Any, **given: Any) -> dict[str, Any]:
        """One of those, by its name. Raises Refused, Unreachable."""
        number = which["id"] if isinstance(which, Mapping) else which
        body = given if number is None else {**given, "held": number}
        found: dict[str, Any] = self._client.ask("POST", f"/v1/steps/{self.number}/{what}", body)
        return found
