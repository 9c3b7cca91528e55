"""The traces and steppers of a server in another process, read over its control socket."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from time import monotonic
from typing import Any

from ...control.client import Client, Refused, Unreachable
from ...observe.filters import parse
from ...observe.snapshot.json_rows import read_exchange
from ...observe.snapshot.snapshot import ExchangeState
from ...observe.step.actions import HeldActions
from ...observe.step.held import NotHeld
from ...observe.step.stepper import BaseStepper
from ...observe.trace.trace import Trace
from ..inspect.display import ShownInPanel, ShownTraces, TraceList, show_traces


class RemoteTraces(TraceList):
    """``server.traces`` of an isolated server. Bodies are cut at 64 KiB and secrets are masked: so they are sent."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    def __repr__(self) -> str:
        return f"<RemoteTraces of {self._name!r}>"

    @property
    def recording(self) -> bool:
        """Whether finished exchanges are recorded now."""
        return bool(self._client.ask("GET", "/v1/traces?last=1")["recording"])

    def start(self) -> RemoteTraces:
        """Record from now on."""
        self._client.record(True)
        return self

    def stop(self) -> None:
        """Record no more, and keep the recorded traces."""
        self._client.record(False)

    def _note(self) -> str:
        return "" if self.recording else "nothing is recorded: server.traces.start(), or app.start(record=True)"

    def __call__(self, expression: Any) -> ShownTraces:
        """The traces that match. Raises FilterError."""
        return show_traces(self._client.traces(str(parse(expression)), whole=True))

    def __len__(self) -> int:
        return len(self._client.traces())

    def find(self, number: int) -> Trace:
        """The trace of an exchange by its id. Raises KeyError."""
        try:
            return self._client.trace(number)
        except Refused as error:
            raise KeyError(str(error)) from error

    def latest(self, after: int = 0, most: int = 100) -> tuple[int, list[Trace]]:
        """The number of all recorded traces, and the last ``most`` beyond the first ``after``, the oldest first."""
        found, total = self._client.latest(1)
        new = min(total - after, most)
        if new > 1:
            found, total = self._client.latest(new)
        return total, found if new > 0 else []

    def _all(self) -> ShownTraces:
        return show_traces(self._client.traces(whole=True))


class RemoteHeld(HeldActions):
    """An exchange that is held in the other process. Its methods raise NotHeld and ValueError, as those of Held do."""

    def __init__(self, step: RemoteStepper, given: dict[str, Any]) -> None:
        self._step = step
        self.id = int(given["id"])
        self.over = False
        self.read(given)

    def read(self, given: dict[str, Any]) -> None:
        """Take over the state that the other process sent."""
        self._given = given
        self.phase = str(given["phase"])
        self.connection = int(given["connection"])
        self.exchange: ExchangeState = read_exchange(given["exchange"])
        self.began = monotonic() - given["seconds"]

    @property
    def title(self) -> str:
        """The held thing in a line: GET /page/1."""
        return str(self._given["title"])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as those of Held."""
        return self._given

    def do(self, action: str, /, **arguments: Any) -> None:
        """Do one of ACTIONS in the other process. Raises NotHeld, ValueError."""
        self._step.do(action, self, **arguments)


class RemoteStepper(ShownInPanel, BaseStepper[RemoteHeld]):
    """A stepper of an isolated server, made by ``server.step``. A thread of its own reads what is held."""

    def __init__(self, client: Client, server: str, filter: str, at: str | Iterable[str], limit: float | None) -> None:
        """Raises FilterError, ValueError, RuntimeError when the server stops."""
        parsed = parse(filter)
        self.server = server
        try:
            wanted = str(parsed) if filter else ""
            self._remote = client.step(wanted, at if isinstance(at, str) else list(at), limit)
        except Refused as error:
            raise (ValueError if error.status == 400 else RuntimeError)(str(error)) from error
        super().__init__(parsed, frozenset(self._remote.first["at"]), float(self._remote.first["limit"]))
        threading.Thread(target=self._follow, name="coserver step", daemon=True).start()

    def do(self, action: str, /, which: RemoteHeld | int | None = None, **arguments: Any) -> None:
        """Do one of ACTIONS in the other process. Raises NotHeld, ValueError."""
        held = self.find(which)
        if held.over:
            raise NotHeld(f"{held.title} is no longer held")
        try:
            found = self._remote.do(action, held.id, **arguments)
        except Refused as error:
            raise (ValueError if error.status == 400 else NotHeld)(str(error)) from error
        except Unreachable as error:
            raise NotHeld(str(error)) from error
        if action == "edit":
            held.read(found)
        else:
            held.over = True
        self._changed()

    def close(self) -> None:
        """Let everything go and hold nothing more. Twice is fine."""
        self.closed = True
        self._remote.close()
        self._changed()

    def _follow(self) -> None:
        try:
            for held in self._remote.changes():
                with self._lock:
                    known = self._held
                    self._held = {one["id"]: known.get(one["id"]) or RemoteHeld(self, one) for one in held}
                self._changed()
        except Unreachable:
            pass  # the other process has ended
        with self._lock:
            self._held = {}
            self.closed = True
        self._changed()
