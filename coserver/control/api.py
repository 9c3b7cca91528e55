"""What may be asked of a running server: HTTP and JSON, described in docs/reference/control.md.

Handlers run on the control's own loop; what has to wait for the server's waits in a thread. Answers that go on for as
long as the client stays are lines of JSON.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from ..observe.export.replay import ReplayError
from ..observe.filters import EVERYTHING, Filter, FilterError, parse
from ..observe.metrics import CONTENT_TYPE
from ..observe.snapshot.snapshot import collector_paused
from ..server.handler.endpoint import Endpoint, annotated_types
from ..server.handler.errors import HTTPException, SetupError
from ..server.handler.request import Request
from ..server.handler.response import Response
from ..server.router import Router, split_route
from .feed import Feeds
from .server_handle import ServerHandle
from .steps import Steppers
from .wire_format import PROTOCOL, trace_dict

#: Requests sent again at once; more wait.
REPLAYS = 8
#: Streams at once, of the hundred connections that there may be: whoever asks for a picture finds one free.
STREAMS = 64
#: A logger of coserver's own: a name that a log's line can take.
_logger = re.compile(r"coserver(?:\.\w{1,40}){0,4}")
LEVELS = ("debug", "info", "warning", "error", "critical")

#: The media type of lines of JSON.
JSON_LINES = "application/jsonl"
#: The greatest number that a body may hold; as seconds it is 30,000 years. JSON has numbers that no clock can add.
LARGEST = 1e12

log = logging.getLogger("coserver.control")


class Api:
    """The handlers of one server's control. ``version`` is coserver's, ``check`` raises for whoever may not ask."""

    def __init__(self, server: ServerHandle, version: str, check: Callable[[Request], None]) -> None:
        self.server = server
        self.version = version
        self.check = check
        self.steppers = Steppers(server)
        self.feeds = Feeds(server)
        self._replaying = anyio.CapacityLimiter(REPLAYS)  # each has a thread, and pictures need some too

    def router(self) -> Router:
        """Its routes."""
        router = Router()
        for (method, path), handler in self._table().items():
            names = tuple(text for text, kind in split_route(path) if kind is not None)
            router.add(path, [method], Endpoint(self._guarded(handler), "request", names), annotated_types(handler))
        return router

    def close(self) -> None:
        """The control ends: streams end, and what is held is let go."""
        self.steppers.close()
        self.feeds.close()

    def _table(self) -> dict[tuple[str, str], Callable[..., Awaitable[Any]]]:
        return {
            ("GET", "/v1"): self.about,
            ("GET", "/v1/snapshot"): self.snapshot,
            ("GET", "/v1/events"): self.events,
            ("GET", "/v1/steps"): self.steps,
            ("POST", "/v1/steps"): self.open_step,
            ("DELETE", "/v1/steps/{id:int}"): self.close_step,
            ("POST", "/v1/steps/{id:int}/{what}"): self.do_step,
            ("GET", "/v1/traces"): self.traces,
            ("GET", "/v1/traces/follow"): self.follow_traces,
            ("GET", "/v1/traces/{id:int}"): self.trace,
            ("PUT", "/v1/traces/recording"): self.set_recording,
            ("PUT", "/v1/traces/{id:int}/mark"): self.mark_trace,
            ("POST", "/v1/traces/{id:int}/replay"): self.replay_trace,
            ("GET", "/v1/metrics"): self.metrics,
            ("POST", "/v1/certificates"): self.reload_certificates,
            ("POST", "/v1/drain"): self.drain,
            ("GET", "/v1/log"): self.levels,
            ("PUT", "/v1/log"): self.set_level,
        }

    def _guarded(self, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def guarded(request: Request, /, **params: Any) -> Any:
            self.check(request)
            try:
                found = await handler(request, **params)
                return object_json(found) if isinstance(found, dict) else found
            except FilterError as error:
                raise HTTPException(400, str(error)) from error

        guarded.__qualname__ = f"control.{handler.__name__}"
        return guarded

    # The server.

    async def about(self, request: Request) -> Any:
        """Who this is."""
        server = self.server
        state = "running" if server.accepting else "draining" if server.running else "stopped"
        return {
            "protocol": PROTOCOL,
            "coserver": self.version,
            "server": server.name,
            "pid": os.getpid(),
            "state": state,
        }

    async def snapshot(self, request: Request) -> Any:
        """The picture; ``?filter=`` leaves out other exchanges."""
        wanted = parse(request.query.get("filter", ""))
        text = await anyio.to_thread.run_sync(self._take, wanted)
        return Response(text, content_type="application/json")

    def _take(self, wanted: Filter) -> str:
        with collector_paused():  # until all of it is gone again
            snapshot = self.server.snapshot()
            return (snapshot if wanted is EVERYTHING else snapshot.only(wanted)).to_json()

    async def drain(self, request: Request) -> Any:
        """Begin to stop; ``{"grace": seconds}``."""
        given = _body_of(request, {"grace": (int, float, type(None))})
        grace = given.get("grace")
        if grace is not None and not grace >= 0:
            raise HTTPException(400, f"grace must be 0 seconds or more; got {grace!r}")
        self.server.begin_stop(grace)
        return {"state": "draining"}

    async def metrics(self, request: Request) -> Any:
        """All that was counted, as OpenMetrics text; counted from the first time on that somebody asks."""
        try:
            text = await anyio.to_thread.run_sync(self.server.metrics)
        except RuntimeError as error:  # prometheus-client is not installed
            raise HTTPException(501, str(error)) from error
        return Response(text, content_type=CONTENT_TYPE)

    async def reload_certificates(self, request: Request) -> Any:
        """Read the files of the TLS listeners again, for new connections."""
        if not self.server.has_certificates:
            raise HTTPException(409, "no listener of this server speaks TLS")
        try:
            await anyio.to_thread.run_sync(self.server.reload_certificates)
        except SetupError as error:
            raise HTTPException(400, str(error)) from error
        return {"reloaded": True}

    async def levels(self, request: Request) -> Any:
        """The levels of coserver's own loggers that were set."""
        return {name: logging.getLevelName(one.level).lower() for name, one in _loggers().items() if one.level}

    async def set_level(self, request: Request) -> Any:
        """``{"level": "debug", "logger": "coserver"}``."""
        given = _body_of(request, {"level": (str,), "logger": (str,)})
        level, name = given.get("level"), given.get("logger", "coserver")
        if level not in LEVELS:
            raise HTTPException(400, f"level must be one of {', '.join(LEVELS)}; got {level!r}")
        if not _logger.fullmatch(name):
            raise HTTPException(400, f"logger must be coserver or one below it, like coserver.access; got {name!r:.60}")
        logging.getLogger(name).setLevel(level.upper())
        log.info("%s logs from level %s on, as a client of the control socket asked", name, level)
        return {name: level}

    # What happens.

    async def events(self, request: Request) -> Any:
        """Every event as a line, for as long as the client stays; ``?filter=``."""
        wanted = parse(request.query.get("filter", ""))
        return self._stream(self.feeds.events(wanted))

    def _stream(self, stream: AsyncIterator[dict[str, Any]]) -> Response:
        """Raises HTTPException (503)."""
        if self.feeds.count + self.steppers.count >= STREAMS:
            raise HTTPException(503, f"{STREAMS} streams of events, traces and steppers are open already; close one")
        return _lines(stream)

    async def traces(self, request: Request) -> Any:
        """Those that are kept, the oldest first; ``?filter=``, ``?last=``, ``?whole=1``."""
        wanted = parse(request.query.get("filter", ""))
        last, whole = request.query.get("last", 0, type=int), request.query.get("whole", False, type=bool)
        traces = self.server.traces
        found = await anyio.to_thread.run_sync(traces, wanted)
        kept = found[-last:] if last > 0 else found
        return {
            "recording": traces.recording,
            "dropped": traces.dropped,
            "total": traces.dropped + len(traces),
            "traces": [trace_dict(one, whole=whole) for one in kept],
        }

    async def trace(self, request: Request, id: int) -> Any:
        """One in full, fields and bodies."""
        return trace_dict(await self._trace(id), whole=True)

    async def follow_traces(self, request: Request) -> Any:
        """Each that ends from now on as a line, recorded as long as somebody follows. ``?filter=``, ``?whole=1``."""
        whole = request.query.get("whole", False, type=bool)
        return self._stream(self.feeds.traces(parse(request.query.get("filter", "")), whole=whole))

    async def set_recording(self, request: Request) -> Any:
        """``{"on": true}``."""
        on = _body_of(request, {"on": (bool,)}).get("on")
        if on is None:
            raise HTTPException(400, 'send {"on": true} or {"on": false}')
        (self.server.traces.start if on else self.server.traces.stop)()
        return {"recording": on}

    async def mark_trace(self, request: Request, id: int) -> Any:
        """``{"on": true}``."""
        on = _body_of(request, {"on": (bool,)}).get("on", True)
        self.server.traces.mark(await self._trace(id), on)
        return {"marked": on}

    async def replay_trace(self, request: Request, id: int) -> Any:
        """Send its request again, to the listener that had it, with changes: ``{"target": "/x"}``."""
        kinds: dict[str, tuple[type, ...]] = {
            "method": (str,), "target": (str,), "headers": (dict, list), "body": (str, dict, list)
        }  # fmt: skip
        changes = _body_of(request, kinds)
        trace = await self._trace(id)
        replay = partial(self.server.traces.replay, trace, **changes)
        try:
            found = await anyio.to_thread.run_sync(replay, limiter=self._replaying)
        except (OSError, http.client.HTTPException) as error:
            raise HTTPException(502, f"it could not be sent again: {error}") from error
        except ReplayError as error:
            raise HTTPException(400, str(error)) from error
        return {"status": found.status, "seconds": found.seconds, "size": len(found.content)}

    async def _trace(self, number: int) -> Any:
        try:
            return await anyio.to_thread.run_sync(self.server.traces.find, number)
        except KeyError as error:
            raise HTTPException(404, str(error.args[0])) from error

    # Stepping.

    async def steps(self, request: Request) -> Any:
        """Every stepper, by whom, and what it holds; ``?brief=1`` leaves out the requests."""
        return {"steps": self.steppers.as_list(brief=request.query.get("brief", False, type=bool))}

    async def open_step(self, request: Request) -> Any:
        """Hold what matches for as long as this answer is read: a line for each change of what is held."""
        kinds = {"filter": (str,), "at": (str, list), "limit": (int, float, type(None)), "by": (str,)}
        given = _body_of(request, kinds)
        filter, at, by = given.get("filter", ""), given.get("at", "handler"), given.get("by", "")
        return self._stream(self.steppers.open(filter, at, given.get("limit"), by))

    async def close_step(self, request: Request, id: int) -> Any:
        """Let everything go."""
        self.steppers.find(id).close()
        return {"closed": id}

    async def do_step(self, request: Request, id: int, what: str) -> Any:
        """next, resume, until, edit, respond, abort: with ``held``, the id of what is meant, or the oldest."""
        return self.steppers.do(id, what, request.json() if request.body else {})


def _lines(stream: AsyncIterator[dict[str, Any]]) -> Response:
    """A stream as lines of JSON."""

    async def encoded() -> AsyncIterator[str]:
        try:
            async for each in stream:
                yield json.dumps(each) + "\n"  # in ASCII: a file's name in an error's words may be no text
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    return Response(encoded(), content_type=JSON_LINES)


def object_json(found: dict[str, Any]) -> Response:
    """A JSON object; what UTF-8 cannot say, half a surrogate pair in a file's name, is escaped."""
    try:
        return Response.json(found)
    except (TypeError, ValueError):
        return Response(json.dumps(found), content_type="application/json")


def _body_of(request: Request, known: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """A JSON object that holds known names with values of their types, or nothing. Raises HTTPException (400)."""
    given = request.json() if request.body else {}
    if not isinstance(given, dict):
        raise HTTPException(400, f"the body is a JSON object; got {type(given).__name__}")
    for name, value in given.items():
        if name not in known:
            raise HTTPException(400, f"{name!r:.40} is not known here; there are {', '.join(known)}")
        right = isinstance(value, known[name]) and (not isinstance(value, bool) or bool in known[name])
        if not right or (isinstance(value, int | float) and not abs(value) <= LARGEST):
            raise HTTPException(400, f"{name} may not be {value!r:.40}")
    return given


def _loggers() -> dict[str, logging.Logger]:
    """coserver's own, by name."""
    known = logging.Logger.manager.loggerDict
    return {
        name: one
        for name, one in known.items()
        if isinstance(one, logging.Logger) and (name == "coserver" or name.startswith("coserver."))
    }
