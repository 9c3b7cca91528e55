"""How an app is run: where it listens, on which backend, with which codec. Checked before anything is started.

The command line's flags, the environment's variables, the configuration's keys and the docs' table are made from the
fields of these dataclasses and of Limits: a new option is a new field and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypedDict

from ..hooks.lines import PERIOD, STRATEGIES, check_mutex
from ..hooks.offloading import THREADS, WAITING, check_threads
from ..hooks.offloads import DRIVERS, check_drivers
from ..hooks.shims import SHIMS
from ..protocol.codecs import choose_codec
from ..protocol.errors import LocalProtocolError
from ..server.errors import AppError
from ..server.limits import Limits
from ..upstream.balance import POLICIES
from ..upstream.limits import UpstreamLimits
from ..upstream.member import Member
from ..upstream.trust import UpstreamTls
from .tls import Tls

if TYPE_CHECKING:
    from .app import App


class Options(TypedDict, total=False):
    """The keywords of ``start``, ``serving``, ``serve`` and ``run``; the fields of Settings."""

    host: str
    port: int
    uds: str | None
    uds_permissions: str | None
    fd: int | None
    backend: str
    codec: str
    tls: Tls | None
    limits: Limits
    listeners: Sequence[ListenerSettings]
    upstreams: Sequence[UpstreamSettings]
    access_log: bool
    access_format: str
    trusted_peers: Sequence[str]
    forwarded_fields: str
    proxy_protocol: bool
    record: bool
    control: str
    control_port: int | None
    control_token: str | None
    debug: bool


_FORWARDED = ("x-forwarded", "forwarded")
#: What ``--debug`` shows: each has a logger, coserver.http and coserver.hooks.
DEBUGGED = ("http", "hooks")
LEVELS = ("debug", "info", "warning", "error", "critical")


def _told(why: str, of: Sequence[str] = (), flag: str = "") -> dict[str, Any]:
    """``of``: the only values there are. ``flag``: the command line's name for it, if it is not the field's."""
    return {"unit": "", "why": why, "of": of, "flag": flag}


def _option(default: Any, why: str, *, of: Sequence[str] = (), flag: str = "", secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={**_told(why, of, flag), "secret": secret})


@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """One listener of several. What is None is the app's own; ``port`` 0 takes a free one. Raises AppError."""

    name: str = _option(
        "", "what it is called in tables and by Server.port_of; its protocol, or its handler's name, if not given"
    )
    protocol: str = _option("http", "what is spoken: http or tcp", of=("http", "tcp"))
    host: str | None = _option(None, "its address; the host above if not given")
    port: int | None = _option(None, "its port; 0 takes a free one")
    uds: str | None = _option(None, "a UNIX socket's path, instead of host and port; @name is an abstract one")
    uds_permissions: str | None = _option(None, "the socket file's permissions, octal as chmod takes them: '660'")
    fd: int | None = _option(None, "a listening socket that the process inherits, by its descriptor")
    app: App | None = field(
        default=None, metadata=_told("http: the App whose routes answer here; the app above if not given")
    )
    handler: Callable[..., Any] | None = field(
        default=None, metadata=_told("tcp: the function that holds the conversation")
    )
    framing: Any = field(
        default="raw", metadata=_told("tcp: raw, lines, length, coserver, or module:name of a class like them")
    )
    proxy_protocol: bool | None = _option(
        None, "whether each connection begins with a PROXY header; as the one above if not given"
    )
    tls: Tls | bool | None = field(default=None)  # False: plain, though the server's others speak TLS
    limits: Limits | None = field(default=None)

    def __post_init__(self) -> None:
        what = f"listener {self.name or self.protocol!r}"
        if self.protocol not in ("http", "tcp"):
            raise AppError(f"{what}: protocol must be 'http' or 'tcp'; got {self.protocol!r}")
        _check_place(self.host, self.port, self.uds, f"{what}: ")
        _check_socket(self.uds_permissions, self.fd, self.uds, f"{what}: ")
        if self.protocol == "tcp" and not callable(self.handler):
            raise AppError(f"{what}: a tcp listener needs a handler, the function that holds the conversation")
        if self.protocol == "http" and self.handler is not None:
            raise AppError(f"{what}: an http listener has an app, no handler; for a handler, protocol is 'tcp'")
        if self.proxy_protocol not in (None, True, False):
            raise AppError(f"{what}: proxy_protocol must be True or False; got {self.proxy_protocol!r}")
        check_tls(self.tls, f"{what}: ", (None, False))
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise AppError(f"{what}: limits must be a Limits; got {self.limits!r}")


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """What a configuration says of one upstream; what is None stays as the app declared it. Raises AppError.

    ``limits`` holds fields of UpstreamLimits.
    """

    name: str
    members: Sequence[str] | None = _option(
        None, 'its members: http://, https://, tcp://, http+unix:PATH; a weight follows, "http://10.0.0.1 weight=2"'
    )
    policy: str | None = _option(None, "which member is asked", of=tuple(POLICIES))
    framing: Any = field(
        default=None, metadata=_told("for tcp members: raw, lines, length, coserver, or module:name of a class")
    )
    limits: Mapping[str, Any] = field(default_factory=dict)
    tls: UpstreamTls | None = None

    def __post_init__(self) -> None:
        try:
            if self.members is not None and not self.members:
                raise ValueError("an upstream has at least one member")
            for member in self.members or ():
                Member.parse(member)
            UpstreamLimits(**self.limits)
        except (ValueError, TypeError) as error:
            raise AppError(f"upstream {self.name!r}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``port`` 0 takes a free one; ``uds`` is a UNIX socket's path, instead of host and port. Raises AppError."""

    host: str = _option("127.0.0.1", "the address to listen on; 0.0.0.0 or :: is all of them")
    port: int = _option(0, "the port to listen on; 0 takes a free one")
    uds: str | None = _option(None, "listen on this UNIX socket instead; @name is an abstract one")
    uds_permissions: str | None = _option(
        None, "the UNIX socket's permissions, octal as chmod takes them, 660 say; what the umask leaves if not given"
    )
    fd: int | None = _option(None, "listen on this inherited socket instead, given by its descriptor")
    backend: str = _option("asyncio", "the event loop: asyncio, uvloop or trio", of=("asyncio", "uvloop", "trio"))
    codec: str = _option(
        "auto", "the HTTP parser: h11, httptools, or auto for the faster one installed", of=("auto", "h11", "httptools")
    )
    tls: Tls | None = None
    limits: Limits = field(default_factory=Limits)
    listeners: Sequence[ListenerSettings] = ()
    upstreams: Sequence[UpstreamSettings] = ()
    access_log: bool = _option(False, "log a line for each answered request, on the logger coserver.access")
    access_format: str = _option("common", "common, combined, or a format string in Apache's words")
    trusted_peers: Sequence[str] = _option(
        (), "proxies whose X-Request-ID and X-Forwarded-For are believed: addresses, networks, or unix"
    )
    forwarded_fields: str = _option(
        "x-forwarded",
        "what those proxies write: x-forwarded (-For, -Proto, -Host), or forwarded (RFC 7239); only that is believed",
        of=_FORWARDED,
    )
    proxy_protocol: bool = _option(
        False, "each connection begins with a PROXY protocol header (v1 or v2) of a trusted peer, or is closed"
    )
    record: bool = _option(False, "keep traces of the last 1,000 exchanges, for Server.traces; 2 to 4 µs a request")
    control: str = _option(
        "off",
        "the control socket, for coserver top and step: auto (in $XDG_RUNTIME_DIR/coserver), a path, or off",
    )
    control_port: int | None = _option(None, "listen for control on this port of 127.0.0.1 too; 0 takes a free one")
    control_token: str | None = _option(
        None, "what whoever controls by that port must know; 16 characters at least", secret=True
    )
    debug: bool = _option(
        False,
        "show what a handler raised to whoever asked, and log what blocks the event loop; for development only",
        flag="debug-pages",
    )

    def __post_init__(self) -> None:
        if self.host is None or self.port is None:
            raise AppError("host and port must be given, port 0 taking a free one; got None")
        _check_place(self.host, self.port, self.uds)
        check_tls(self.tls, "", (None,))
        _check_socket(self.uds_permissions, self.fd, self.uds)
        if not isinstance(self.limits, Limits):
            raise AppError(f"limits must be a Limits; got {self.limits!r}")
        for name in ("access_log", "proxy_protocol", "record", "debug"):
            if not isinstance(getattr(self, name), bool):
                raise AppError(f"{name} must be True or False; got {getattr(self, name)!r}")
        if not isinstance(self.access_format, str) or not self.access_format.strip():
            raise AppError(f"access_format must be common, combined or a format string; got {self.access_format!r}")
        if isinstance(self.trusted_peers, str) or not all(isinstance(one, str) for one in self.trusted_peers):
            raise AppError(f"trusted_peers must be a list of texts; got {self.trusted_peers!r}")
        if self.forwarded_fields not in _FORWARDED:
            raise AppError(f"forwarded_fields must be 'x-forwarded' or 'forwarded'; got {self.forwarded_fields!r}")
        self._check_words()
        self._check_control()
        try:
            object.__setattr__(self, "codec", choose_codec(self.codec))
        except LocalProtocolError as error:
            raise AppError(str(error)) from None
        backend_arguments(self.backend)

    def _check_control(self) -> None:
        if not isinstance(self.control, str) or not self.control or "\0" in self.control:
            raise AppError(f"control must be auto, off or a socket's path; got {self.control!r}")
        _check_place(None, self.control_port, None, "control_")
        if self.control_port is None:
            return
        from ..control.guard import check_token  # not loaded where nobody controls

        try:
            check_token(self.control_token)
        except ValueError as error:
            raise AppError(f"control_port {self.control_port} needs a control_token: {error}") from None

    def _check_words(self) -> None:
        """Those who read these again when the server starts say now what is wrong with them."""
        if self.trusted_peers:
            from ..server.trust import Trust

            Trust(self.trusted_peers)
        if self.access_format not in ("common", "combined"):
            from ..server.access import compile_format  # not loaded where nothing is logged

            compile_format(self.access_format)
            if "%" not in self.access_format:  # every line would be the same: a name misspelt
                from difflib import get_close_matches

                close = get_close_matches(self.access_format, ("common", "combined"), n=1)
                meant = f"did you mean {close[0]}?" if close else "there are common, combined, and words like %h %r %s"
                raise AppError(f"access_format: {self.access_format!r} holds no word like %h; {meant}")


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """Which blocking calls the command hooks, before it imports the app. Raises AppError."""

    families: Sequence[str] = _option(
        ("all",),
        "the families of blocking calls that suspend only their handler; all of them, none, or their names",
        of=("all", "none", *SHIMS),
        flag="hooks",
    )
    off: Sequence[str] = _option((), "families that are left out of those", of=tuple(SHIMS), flag="hooks-off")
    mutex: str = _option(
        "wake",
        "how a blocking handler waits for a lock: wake, by the release; retry, by trying every mutex_period",
        of=STRATEGIES,
    )
    mutex_period: float = field(
        default=PERIOD,
        metadata={**_told("between two tries of mutex = 'retry'; nobody notices 5 ms"), "unit": "seconds"},
    )
    offloaded: Sequence[str] = _option(
        (), "drivers in C whose blocking calls run in threads, each suspending only its handler", of=tuple(DRIVERS)
    )
    offload_threads: int = _option(THREADS, "threads for offloaded calls, in each event loop; a connection pool's size")
    offload_waiting: int = _option(WAITING, "offloaded calls that may wait for a thread; one more fails at once")

    def __post_init__(self) -> None:
        try:
            check_mutex(self.mutex, self.mutex_period)
            check_drivers(self.offloaded)
            check_threads(self.offload_threads, self.offload_waiting)
        except ValueError as error:
            raise AppError(str(error)) from None
        for name, words in (("families", ("all", "none", *SHIMS)), ("off", tuple(SHIMS))):
            given = getattr(self, name)
            if isinstance(given, str) or any(one not in words for one in given):
                raise AppError(f"{name} must be a list of {', '.join(words)}; got {given!r}")
        if "none" in self.families and len(self.families) > 1:
            raise AppError(f"families must be none alone, or others; got {self.families!r}")

    @property
    def chosen(self) -> tuple[str, ...]:
        """What remains of them."""
        wanted = SHIMS if "all" in self.families else self.families
        return tuple(one for one in SHIMS if one in wanted and one not in self.off)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """How the command logs. An embedded server never touches the logging of the program around it. Raises AppError."""

    level: str = _option("info", "how much is logged: debug, info, warning, error or critical", of=LEVELS)
    format: str = _option("text", "text, or json: one object a line", of=("text", "json"))
    debug: Sequence[str] = _option(
        (),
        "what to show in detail: http, each head as it passes, secrets included; hooks, each suspension of a handler, "
        "and what blocks the event loop",
        of=DEBUGGED,
        flag="debug",
    )

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise AppError(f"level must be one of {', '.join(LEVELS)}; got {self.level!r}")
        if self.format not in ("text", "json"):
            raise AppError(f"format must be 'text' or 'json'; got {self.format!r}")
        if isinstance(self.debug, str) or any(one not in DEBUGGED for one in self.debug):
            raise AppError(f"debug must be a list of {', '.join(map(repr, DEBUGGED))}; got {self.debug!r}")


def check_tls(tls: Any, what: str, others: tuple[Any, ...]) -> None:
    """A Tls that has what it needs, or one of ``others``. Raises AppError."""
    if isinstance(tls, Tls):
        try:
            tls.check()
        except AppError as error:
            raise AppError(f"{what}{error}") from None
    elif not any(tls is other for other in others):
        raise AppError(f"{what}tls must be a Tls, Tls(certfile='site.pem', keyfile='site.key'); got {tls!r}")


def _check_place(host: Any, port: Any, uds: Any, what: str = "") -> None:
    if host is not None and not isinstance(host, str):
        raise AppError(f"{what}host must be a text, like '127.0.0.1'; got {host!r}")
    if host == "":  # to the system all addresses, to whoever left a variable empty a surprise
        raise AppError(f"{what}host must be an address or a name; 0.0.0.0 or :: is all of them; got ''")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535):
        raise AppError(f"{what}port must be from 0 (take a free one) to 65535; got {port!r}")
    if uds is not None and (not isinstance(uds, str) or not uds or "\0" in uds):
        raise AppError(f"{what}uds must be a socket's path; got {uds!r}")


def _check_socket(permissions: Any, fd: Any, uds: Any, what: str = "") -> None:
    if permissions is not None and not (isinstance(permissions, str) and re.fullmatch("0?[0-7]{3}", permissions)):
        raise AppError(f"{what}uds_permissions must be three octal digits in a text, like '660'; got {permissions!r}")
    if fd is not None and (isinstance(fd, bool) or not isinstance(fd, int) or fd < 0):
        raise AppError(f"{what}fd must be a descriptor, 3 say; got {fd!r}")
    if fd is not None and uds is not None:
        raise AppError(f"{what}a server listens on one of them: give fd, or uds; got fd={fd} and uds={uds!r}")


def backend_arguments(backend: str) -> dict[str, Any]:
    """What ``anyio.run`` takes for a backend of ours: asyncio, uvloop or trio. Raises AppError if it cannot be had."""
    if backend == "asyncio":
        return {"backend": "asyncio"}
    if backend == "uvloop":
        if not find_spec("uvloop"):
            raise AppError("backend 'uvloop' is not installed; pip install 'coserver[fast]', or take 'asyncio'")
        return {"backend": "asyncio", "backend_options": {"use_uvloop": True}}
    if backend == "trio":
        if not find_spec("trio"):
            raise AppError("backend 'trio' is not installed; pip install 'coserver[trio]', or take 'asyncio'")
        return {"backend": "trio"}
    raise AppError(f"backend must be 'asyncio', 'uvloop' or 'trio'; got {backend!r}")


def seconds(value: float | None) -> float | None:
    """A grace in seconds, or None for the default. Raises ValueError."""
    if value is not None and (math.isnan(value) or value < 0):
        raise ValueError(f"grace must be 0 seconds or more; got {value!r}")
    return value
