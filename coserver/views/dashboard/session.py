"""The threads between a dashboard and its server: snapshots, held exchanges, traces; and commands, one after the other.

A new command is a method here and a row of COMMANDS. ``run`` runs the dashboard.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ...control.client import Client, Ended, Refused, StepStream, Unreachable, find
from ...control.wire_format import read_trace
from ...observe.export.har import to_har
from ...observe.export.replay import as_curl
from ...observe.filters import needs_whole
from ...observe.snapshot.snapshot import ExchangeState
from ...observe.trace.trace import Trace
from ...whole_file import whole_file
from ..text import counted
from .model import TRACES_MAX, Command, Dashboard

#: Seconds between two snapshots.
REFRESH = 0.5
#: The least seconds between two snapshots, when holds change quickly.
_LEAST = 0.05
#: Seconds between two attempts to reach a server that is gone; a reload may start the next one.
_AGAIN = 1.0
_STOP = Command("")


class Session:
    """A dashboard's connection to its server. ``lock`` guards the board, which three threads change."""

    def __init__(
        self,
        client: Client,
        board: Dashboard,
        wake: Callable[[], None],
        copy: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.copy = copy
        self.client = client
        self.board = board
        self.lock = threading.Lock()
        self.commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        #: The exception of a failed thread: it ends the dashboard.
        self.failure: BaseException | None = None
        self._wake = wake
        self._ended = threading.Event()
        self._hurry = threading.Event()  # a hold has changed: take the next snapshot early
        self._step: StepStream | None = None
        #: Commands to repeat when a lost server runs again.
        self._again: list[Command] = []
        #: The process that held, and the hold that ended with it.
        self._before: tuple[int, Command] | None = None
        self._streams: list[Any] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self.commands.put(Command("follow"))
        self._thread(self._watch)
        self._thread(self._obey)

    def stop(self) -> None:
        """End all threads. All held exchanges are released."""
        self._ended.set()
        self._hurry.set()
        self.commands.put(_STOP)
        self._close_step()
        for stream in self._streams:
            stream.close()
        for thread in self._threads:
            thread.join(1)

    def _thread(self, run: Callable[..., None], *args: Any) -> None:
        def guarded() -> None:
            try:
                run(*args)
            except BaseException as error:
                self.failure = error
                self._wake()

        thread = threading.Thread(target=guarded, name=f"coserver top {run.__name__}", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _watch(self) -> None:
        """Take a snapshot each half second."""
        while not self._ended.is_set():
            began = time.monotonic()
            try:
                if self.board.asked is None:
                    self.board.asked = began
                snapshot = self.client.snapshot()
                self.board.asked = None
                with self.lock:
                    self.board.show(snapshot)
                self._ask_matches()
                self._show_other_holds()
                if self._before is not None and snapshot.state == "running":
                    self._hold_again(snapshot.pid)
                if self._again and snapshot.state == "running":
                    again, self._again = self._again, []
                    for command in again:
                        self.commands.put(command)
            except (Unreachable, Refused) as error:
                if isinstance(error.__cause__, TimeoutError):
                    self._say("the process is stopped, or its loop stands still; top goes on asking", wrong=True)
                    continue
                self.board.asked = None
                self.board.gone = True
                self._say(f"{error}", wrong=True)
                self._ended.wait(_AGAIN)
                self._find_again()
            self._wake()
            self._ended.wait(_LEAST)
            self._hurry.wait(max(REFRESH - (time.monotonic() - began), 0.0))
            self._hurry.clear()

    def _show_other_holds(self) -> None:
        """Show what other clients of the control hold."""
        own = f"coserver top, process {os.getpid()}"  # by name: its own hold may be listed before its number is known
        try:
            found = [one for one in self.client.steps() if one["by"] != own and not one["closed"]]
        except Refused:
            return  # an older server
        rows = []
        if any(one["held"] for one in found):
            full = {one["step"]: one for one in self.client.ask("GET", "/v1/steps")["steps"]}
            for one in found:
                rows += [{**each, "by": one["by"]} for each in full.get(one["step"], {"held": []})["held"]]
        others = [(f"{one['filter'] or 'all'} @{','.join(one['at'])}", one["by"]) for one in found]
        with self.lock:
            new = [one for one in others if one not in self.board.others]
            self.board.others = others
            now = time.monotonic()
            self.board.other_held = [{**one, "since": now - one["seconds"]} for one in rows]
        for what, by in new:
            self._say(f"{by} holds {what}")

    def _hold_again(self, pid: int) -> None:
        """Hold the same again in the same process. In a new one only a person may: this dashboard may be forgotten."""
        assert self._before is not None
        (before, command), self._before = self._before, None
        if pid == before:
            self.commands.put(command)
            return
        filter, at = command.given["filter"], command.given["at"]
        with self.lock:
            self.board.hold_before = f"{filter} @{','.join(at)}".strip()
        self._say(f"process {pid} is new: press i, Enter to hold {command.given['text']} again")

    def _ask_matches(self) -> None:
        """Ask the server for the matches of a filter by fields or bodies, which snapshots lack."""
        with self.lock:
            wanted, following = self.board.filter, self.board.following
        if not needs_whole(wanted):
            return
        try:
            found = {one.id for one in self.client.snapshot(str(wanted)).exchanges}
            if following:
                found.update([one.id for one in self.client.traces(str(wanted), last=TRACES_MAX)])
        except Refused as error:  # the filter takes too long
            self._say(str(error).splitlines()[0], wrong=True)
            found = set()
        with self.lock:
            self.board.matching = (wanted, frozenset(found))

    def _find_again(self) -> None:
        """Find a restarted server by its name; at a control port, take any server."""
        with suppress(Unreachable, Refused):
            if self.client.where.startswith("http://"):
                self.client.ask_about()
            else:
                self.client = find(self.client.name)

    def _obey(self) -> None:
        """Orders, one after the other."""
        while True:
            command = self.commands.get()
            if command is _STOP or self._ended.is_set():
                return
            try:
                COMMANDS[command.what](self, **command.given)
            except (Unreachable, Refused) as error:
                self._say(str(error), wrong=True)
            except (KeyError, ValueError) as error:
                self._say(f"{error}", wrong=True)
            self._wake()

    def _say(self, note: str, *, wrong: bool = False) -> None:
        with self.lock:
            self.board.say(note, wrong=wrong)
        self._wake()

    # Held exchanges.

    def _hold(self, filter: str, at: list[str], text: str) -> None:
        self._close_step()
        self._before = None
        pid = int(self.client.ask_about()["pid"])
        step = self._step = self.client.step(filter, at, by="coserver top")
        with self.lock:
            self.board.hold, self.board.hold_before = text, ""
        self._thread(self._follow_held, step, pid, Command("hold", {"filter": filter, "at": at, "text": text}))
        self._say(f"holding {text}")

    def _release(self) -> None:
        self._before = None
        with self.lock:
            self.board.hold_before = ""
        self._close_step()
        self._say("nothing is held now")

    def _close_step(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            step.close()
        with self.lock:
            self.board.hold = ""
            self.board.leaving.update(self.board.held)
            self.board.show_held([])

    def _follow_held(self, step: StepStream, pid: int, asked: Command) -> None:
        try:
            for held in step.changes():
                with self.lock:
                    if step is not self._step:
                        return
                    self.board.show_held(held)
                self._hurry.set()
                self._wake()
        except Ended as error:
            self._say(str(error).splitlines()[0])
        except Unreachable:
            pass  # _watch reports it
        if step is self._step and not self._ended.is_set():
            self._close_step()
            self._before = pid, asked
            self._wake()

    def _stepper(self) -> StepStream:
        if self._step is None:
            raise ValueError("nothing is held; press i to hold requests")
        return self._step

    def _act(self, which: int, *, action: str, **arguments: Any) -> None:
        """Do an action that releases it."""
        self._stepper().do(action, which, **arguments)
        self._say(_DONE[action].format(which=which, **arguments))

    def _resume_all(self) -> None:
        count = self._stepper().resume_all()
        self._say(f"{count} resumed")

    def _edit(self, which: int, changes: dict[str, Any]) -> None:
        now = self._stepper().edit(which, **changes)
        with self.lock:
            self.board.draft = None
            self.board.show_held([now if one["id"] == which else one for one in self.board.held.values()])
        self._say(f"#{which} is edited: {', '.join(changes)}")

    # Traces.

    def _follow(self) -> None:
        kept = self.client.traces(last=100)
        stream = self.client.follow()
        self._streams.append(stream)
        with self.lock:
            self.board.following = True
            known = {one.id for one in self.board.traces}
            for trace in kept:
                if trace.id not in known:
                    self.board.show_trace(trace, before=True)
        self._thread(self._follow_traces, stream)

    def _follow_traces(self, stream: Any) -> None:
        try:
            for each in stream:
                if "lost" not in each:
                    with self.lock:
                        self.board.show_trace(read_trace(each))
                        looked = self.board.looked
                    if isinstance(looked, Trace) and looked.id == each["id"]:
                        self.commands.put(Command("look", {"id": looked.id}))  # it has ended: load it in full
        except Unreachable:
            pass
        with self.lock:
            self.board.following = False
        if not self._ended.is_set():
            self._again.append(Command("follow"))

    def _look(self, id: int) -> None:
        try:
            trace = self.client.trace(id)
        except Refused:
            with self.lock:
                if isinstance(self.board.looked, ExchangeState):
                    return  # it has ended, and is not recorded
            raise
        with self.lock:
            looked = self.board.looked
            if isinstance(looked, ExchangeState) and looked.id == id:
                self.board.request = trace.request
            elif isinstance(looked, Trace) and looked.id == id:
                self.board.looked = trace

    def _curl(self, id: int) -> None:
        trace = self.client.trace(id)
        with self.lock:
            self.board.look(as_curl(trace))

    def _copy_curl(self, id: int) -> None:
        self.copy(as_curl(self.client.trace(id)))
        self._say("the curl command is copied, if the terminal lets programs write to its clipboard (OSC 52)")

    def _save(self, path: str, filter: str, id: int | None) -> None:
        if not path:
            raise ValueError("nothing is saved: a file needs a name")
        traces = [self.client.trace(id)] if id is not None else self.client.traces(filter, whole=True)
        if Path(path).expanduser().exists():
            raise ValueError(f"{path} exists already, and stays as it is; give another name")
        try:
            with whole_file(Path(path).expanduser(), "w", encoding="utf-8") as file:
                json.dump(to_har(traces), file, ensure_ascii=False)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}") from None
        self._say(f"{counted(len(traces), 'exchange')} saved in {path}")

    def _mark(self, id: int, on: bool) -> None:
        self.client.mark(id, on)

    def _replay(self, id: int) -> None:
        self._say(f"the request of {id} is sent again")
        self._thread(self._send_again, id)  # not here: it may be held, and another command must release it

    def _send_again(self, id: int) -> None:
        try:
            found = self.client.replay(id)
        except (Unreachable, Refused) as error:
            self._say(str(error), wrong=True)
            return
        self._say(f"sent again: {found['status']} in {found['seconds'] * 1e3:.1f} ms, {found['size']} bytes")


#: The note after each action that releases.
_DONE = {
    "next": "#{which} is resumed until its next phase",
    "resume": "#{which} is resumed",
    "abort": "#{which} is aborted",
    "respond": "#{which} is answered with {status}",
}
#: The method of each command.
COMMANDS: dict[str, Callable[..., None]] = {
    "hold": Session._hold,
    "release": Session._release,
    **{action: partial(Session._act, action=action) for action in _DONE},
    "resume_all": Session._resume_all,
    "edit": Session._edit,
    "follow": Session._follow,
    "look": Session._look,
    "mark": Session._mark,
    "save": Session._save,
    "replay": Session._replay,
    "curl": Session._curl,
    "copy_curl": Session._copy_curl,
}
