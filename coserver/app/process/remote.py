"""Traces and steppers of a server in another process, by its control socket, used as those of one in this."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, overload

import anyio
import anyio.to_thread

from ...control.client import Client, Refused, Unreachable
from ...observe.filters import parse
from ...observe.snapshot.json_rows import read_exchange
from ...observe.snapshot.snapshot import ExchangeState
from ...observe.step.actions import HeldActions, StepperActions
from ...observe.step.held import NotHeld
from ...observe.trace.trace import Trace
from ..address import proxy_pattern
from ..inspect.display import ShownTrace, ShownTraces, show_traces


class RemoteTraces:
    """``server.traces`` of an isolated server: of each body 64 KiB at most, secrets masked, as they come over."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    def __repr__(self) -> str:
        return f"<RemoteTraces of {self._name!r}>"

    @property
    def recording(self) -> bool:
        return bool(self._client.ask("GET", "/v1/traces?last=1")["recording"])

    def start(self) -> RemoteTraces:
        """Record from now on."""
        self._client.record(True)
        return self

    def stop(self) -> None:
        """Record no more. What was recorded stays."""
        self._client.record(False)

    def __call__(self, expression: Any) -> ShownTraces:
        """Those that match. Raises FilterError."""
        return show_traces(self._client.traces(str(parse(expression)), whole=True))

    def __len__(self) -> int:
        return len(self._client.traces())

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> ShownTrace: ...
    @overload
    def __getitem__(self, at: slice) -> ShownTraces: ...
    def __getitem__(self, at: int | slice) -> ShownTrace | ShownTraces:
        found = self._all()[at]
        return ShownTraces(found) if isinstance(found, list) else found  # type: ignore[return-value]

    def find(self, number: int) -> Trace:
        """The trace of an exchange by its id. Raises KeyError."""
        try:
            return self._client.trace(number)
        except Refused as error:
            raise KeyError(str(error)) from error

    def latest(self, after: int = 0, most: int = 100) -> tuple[int, list[Trace]]:
        """How many were recorded in all, and beyond the first ``after`` the last ``most``, the oldest first."""
        found, total = self._client.latest(1)
        new = min(total - after, most)
        if new > 1:
            found, total = self._client.latest(new)
        return total, found if new > 0 else []

    def har(self, which: Any = "", *, secrets: bool = False) -> dict[str, Any]:
        """Those that match as a HAR 1.2. Secrets stay where they are: they never come over."""
        from ...observe.export.har import to_har

        if isinstance(which, Trace):
            return to_har([which], secrets=secrets)
        return to_har(self(which), secrets=secrets)

    def _all(self) -> ShownTraces:
        return show_traces(self._client.traces(whole=True))

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from ...views.html import traces_bundle

        return traces_bundle(self._all())


class RemoteHeld(HeldActions):
    """What a stepper over there holds; its methods raise NotHeld and ValueError as a Held's do."""

    def __init__(self, step: RemoteStepper, given: dict[str, Any]) -> None:
        self._step = step
        self.id = int(given["id"])
        self.over = False
        self.take(given)

    def take(self, given: dict[str, Any]) -> None:
        """What it is now."""
        self._given = given
        self.phase = str(given["phase"])
        self.title = str(given["title"])
        self.connection = int(given["connection"])
        self.exchange: ExchangeState = read_exchange(given["exchange"])
        self.began = monotonic() - given["seconds"]

    def __repr__(self) -> str:
        state = "let go" if self.over else f"held at {self.phase} for {self.seconds:.3g} s"
        return f"<RemoteHeld {self.id} {self.title}, {state}>"

    @property
    def seconds(self) -> float:
        return float(monotonic() - self.began)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as Held gives them."""
        return self._given

    def do(self, action: str, /, **arguments: Any) -> None:
        """Do one of ACTIONS over there. Raises NotHeld, ValueError."""
        self._step.do(action, self, **arguments)


class RemoteStepper(StepperActions[RemoteHeld, None]):
    """A stepper of an isolated server, as ``server.step`` returns it; a thread of its own hears what is held."""

    def __init__(self, client: Client, server: str, filter: str, at: str | Iterable[str], limit: float | None) -> None:
        """Raises FilterError, ValueError, RuntimeError when the server stops."""
        self.filter = parse(filter)
        self.server = server
        try:
            wanted = str(self.filter) if filter else ""
            self._remote = client.step(wanted, at if isinstance(at, str) else list(at), limit)
        except Refused as error:
            raise (ValueError if error.status == 400 else RuntimeError)(str(error)) from error
        self.at = frozenset(self._remote.first["at"])
        self.limit = float(self._remote.first["limit"])
        self.closed = False
        self._changed = threading.Condition()
        self._held: dict[int, RemoteHeld] = {}
        self._watchers: tuple[Callable[[], None], ...] = ()
        self._panel: Any = None
        threading.Thread(target=self._follow, name="coserver step", daemon=True).start()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self.waiting)} held"
        return f"<Stepper {str(self.filter)!r} at {', '.join(sorted(self.at))}: {state}>"

    def __enter__(self) -> RemoteStepper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def waiting(self) -> list[RemoteHeld]:
        """What is held now, the oldest first."""
        return [one for one in list(self._held.values()) if not one.over]

    def wait(self, timeout: float | None = None) -> RemoteHeld:
        """The oldest that is held, waited for. Raises TimeoutError, NotHeld once it is closed."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.waiting or self.closed, timeout):
                raise TimeoutError(f"{self!r}: nothing for {timeout} s")
        return self.find(None)

    async def wait_async(self, timeout: float | None = None) -> RemoteHeld:  # noqa: ASYNC109 - the twin of wait
        """The same in async code. A cancellation leaves the thread that waits to the next change."""
        return await anyio.to_thread.run_sync(self.wait, timeout, abandon_on_cancel=True)

    def find(self, which: RemoteHeld | int | None = None) -> RemoteHeld:
        """Raises NotHeld."""
        if isinstance(which, RemoteHeld):
            return which
        found = next((one for one in self.waiting if which in (None, one.id)), None)
        if found is None:
            what = "nothing is held" if which is None else f"{which!r} is not held"
            raise NotHeld(f"{what} by {self!r}; step.waiting lists what is")
        return found

    def close(self) -> None:
        """Let everything go and hold nothing more. Twice is fine."""
        self.closed = True
        self._remote.close()
        self._tell()

    def watch(self, call: Callable[[], None]) -> None:
        """Have it called after each change of what is held; it must not wait."""
        self._watchers = (*self._watchers, call)

    def unwatch(self, call: Callable[[], None]) -> None:
        self._watchers = tuple(one for one in self._watchers if one != call)

    def do(self, action: str, /, which: RemoteHeld | int | None = None, **arguments: Any) -> None:
        """Do one of ACTIONS over there. Raises NotHeld, ValueError."""
        held = self.find(which)
        if held.over:
            raise NotHeld(f"{held.title} is not held any more")
        try:
            found = self._remote.do(action, held.id, **arguments)
        except Refused as error:
            raise (ValueError if error.status == 400 else NotHeld)(str(error)) from error
        except Unreachable as error:
            raise NotHeld(str(error)) from error
        if action == "edit":
            held.take(found)
        else:
            held.over = True
        self._tell()

    def _follow(self) -> None:
        try:
            for held in self._remote.changes():
                with self._changed:
                    known, self._held = self._held, {}
                    for one in held:
                        self._held[one["id"]] = known.get(one["id"]) or RemoteHeld(self, one)
                self._tell()
        except Unreachable:
            pass  # its process has ended
        self.closed = True
        self._held = {}
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for call in self._watchers:
            call()

    def _ipython_display_(self) -> None:
        if self._panel is None or self._panel.closed:
            from ...notebook.step import StepPanel

            self._panel = StepPanel(self, self.server, proxy_pattern()[0])
        self._panel.show()
