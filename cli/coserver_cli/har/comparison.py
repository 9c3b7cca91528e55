"""``coserver replay FILE.har URL``: the requests of a HAR file again, one by one, and how the answers differ."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from coserver.observe.export.replay import Replayed, ReplayError, edited, resend
from coserver.observe.trace.trace import Trace
from coserver.observe.trace.waterfall import show_seconds
from coserver.views.text import counted, plain

from .. import console
from .har_file import CannotRead, read

_PORTS = {"http": 80, "https": 443}
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Compared:
    """A request that was sent again: what was answered before and now. ``error`` says why there is no answer."""

    method: str
    target: str
    was: int
    was_seconds: float
    status: int = 0
    seconds: float = 0.0
    same_body: bool = False
    error: str = ""

    @property
    def same(self) -> bool:
        return not self.error and self.was == self.status


def run(file: Path, url: str, filter: str, timeout: float, *, as_json: bool) -> int:
    """Send the requests, print a line on each; 0 if each got the status that it had before, else 1."""
    try:
        secure, address, authority = _server(url)
        traces = read(file, filter)
    except CannotRead as error:
        console.error(str(error))
        return error.code
    differ = 0
    screen = Console(file=sys.stdout, highlight=False, emoji=False, soft_wrap=True)
    for one in _again(traces, secure, address, authority, timeout):
        differ += not one.same
        if as_json:
            print(json.dumps({**asdict(one), "same": one.same}, ensure_ascii=False), flush=True)
        else:
            screen.print(_line(one))
    if not as_json:
        said = f"{differ} not answered as before" if differ else "all answered with the status of before"
        print(f"\n{counted(len(traces), 'request')} sent to {url}: {said}")
    return bool(differ)


def _server(url: str) -> tuple[bool, str, str]:
    """Whether the server speaks TLS, its address, and its value of Host. Raises CannotRead."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise CannotRead(f"the server is a URL: 'http://127.0.0.1:8000'; got {url!r}", 2) from None
    if not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise CannotRead(f"the server is a URL without a path: 'http://127.0.0.1:8000'; got {url!r}", 2)
    if parts.scheme == "https" and parts.hostname not in _HERE:
        raise CannotRead(f"https is for this machine, since no certificate is checked; got {url!r}", 2)
    return parts.scheme == "https", f"{parts.hostname}:{port}", parts.netloc.rpartition("@")[2]


def _again(traces: list[Trace], secure: bool, address: str, authority: str, timeout: float) -> Iterator[Compared]:
    for trace in traces:
        before = Compared(trace.method, trace.target, trace.status, trace.seconds)
        try:
            sent = replace(edited(trace, {"headers": {"host": authority}}), secure=secure)
            answer = resend(sent, address, timeout)
        except (ReplayError, OSError, http.client.HTTPException) as error:
            yield replace(before, error=str(error) or type(error).__name__)
            continue
        yield replace(before, status=answer.status, seconds=answer.seconds, same_body=_same_body(trace, answer))


def _same_body(trace: Trace, answer: Replayed) -> bool:
    body = trace.response.body
    return answer.content == body.content if not body.truncated else len(answer.content) == body.size


def _line(one: Compared) -> Text:
    what = Text.assemble((plain(one.method), "bold"), " ", plain(one.target))
    if one.error:
        return Text.assemble(("failed   ", "red"), what, ("  " + plain(one.error), "red"))
    times = f"{show_seconds(one.was_seconds)} -> {show_seconds(one.seconds)}"
    if not one.same:
        return Text.assemble(("differs  ", "red"), what, (f"  {one.was} -> {one.status}", "red"), f"  {times}")
    body = "" if one.same_body else "  another body"
    return Text.assemble(("same     ", "green"), what, f"  {one.status}  {times}{body}")
