"""The settings of a server: addresses, backend, codec and so on. They are checked before the server starts.

The flags, the environment's variables, the configuration's keys and the reference are made from the fields of these
dataclasses, of those in ``process_settings``, and of Limits. A new option is a new field and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from ...field import option
from ...keywords import checked_fields
from ...protocol.codecs import choose_codec
from ...protocol.errors import LocalProtocolError
from ...server.handler.errors import SetupError
from ...server.limits import Limits
from ...upstream.limits import UpstreamLimits
from ...upstream.member import UpstreamMember
from ...upstream.pool.balance import POLICIES
from ...upstream.tls import UpstreamTls
from .tls import Tls
from .validate import backend_arguments, check_place, check_socket, check_tls

if TYPE_CHECKING:
    from ..app import App


class Options(TypedDict, total=False):
    """The keywords of ``start``, ``serving``, ``serve`` and ``run``: the fields of Settings."""

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
    stuck_after: float
    debug: bool


_FORWARDED = ("x-forwarded", "forwarded")
_TLS = "it is a value of tls: tls=Tls(certfile='site.pem', keyfile='site.key')"
_DEV = "it is 'coserver dev module:app', which starts again after a change"
_ONE = "a server is one process with one loop; start several behind nginx, see docs/guide/deploying.md"
#: Options of uvicorn, gunicorn, hypercorn, Flask and aiohttp.
_ELSEWHERE = {
    "bind": "they are host and port", "address": "host", "hostname": "host", "interface": "host", "path": "uds",
    "unix_socket": "uds", "sock": "fd", "loop": "backend", "http": "codec", "worker_class": "backend",
    "forwarded_allow_ips": "trusted_peers", "proxy_headers": "trusted_peers", "access_log_format": "access_format",
    "access_logformat": "access_format", "accesslog": "access_log", "server_name": "host",
    **dict.fromkeys(("ssl", "ssl_context", "certfile", "keyfile", "ssl_certfile", "ssl_keyfile", "ca_certs"), _TLS),
    **dict.fromkeys(("reload", "use_reloader", "auto_reload"), _DEV),
    **dict.fromkeys(("workers", "processes", "threads", "threaded"), _ONE),
    **dict.fromkeys(("log_level", "log_config"), "a server logs to the standard loggers: logging.basicConfig"),
    **dict.fromkeys(
        ("timeout", "timeout_keep_alive", "keep_alive", "timeout_graceful_shutdown", "backlog", "limit_concurrency"),
        "it is one of the limits: limits=Limits(...)",
    ),
}  # fmt: skip


@checked_fields("a listener", **_ELSEWHERE)
@dataclass(frozen=True, kw_only=True)
class ListenerSettings:
    """One of several listeners. Fields that are None are as in Settings; ``port`` 0 takes a free one.

    Raises SetupError.
    """

    name: str = option("", "its name in tables and for Server.port_of; its protocol or its handler's name if not given")
    protocol: str = option("http", "the protocol: http or tcp", of=("http", "tcp"))
    host: str | None = option(None, "its address; the host above if not given")
    port: int | None = option(None, "its port; 0 takes a free one")
    uds: str | None = option(None, "a UNIX socket's path, instead of host and port; @name is an abstract one")
    uds_permissions: str | None = option(None, "the socket file's permissions, octal as for chmod: '660'")
    fd: int | None = option(None, "a listening socket that the process inherits; a descriptor")
    app: App | None = option(None, "http: the App that answers here; the app above if not given")
    handler: Callable[..., Any] | None = option(None, "tcp: the function that serves each connection")
    framing: Any = option("raw", "tcp: raw, lines, length, coserver, or module:name of a class like them")
    proxy_protocol: bool | None = option(
        None, "require a PROXY header at the start of each connection; as above if not given"
    )
    tls: Tls | bool | None = field(default=None)  # False: plain, even if the server's other listeners speak TLS
    limits: Limits | None = field(default=None)

    def __post_init__(self) -> None:
        what = f"listener {self.name or self.protocol!r}"
        if self.protocol not in ("http", "tcp"):
            raise SetupError(f"{what}: protocol must be 'http' or 'tcp'; got {self.protocol!r}")
        check_place(self.host, self.port, self.uds, f"{what}: ")
        check_socket(self.uds_permissions, self.fd, self.uds, f"{what}: ")
        if self.protocol == "tcp" and not callable(self.handler):
            raise SetupError(f"{what}: a tcp listener needs a handler, the function that serves each connection")
        if self.protocol == "http" and self.handler is not None:
            raise SetupError(f"{what}: an http listener has an app, no handler; a handler needs protocol='tcp'")
        if self.proxy_protocol not in (None, True, False):
            raise SetupError(f"{what}: proxy_protocol must be True or False; got {self.proxy_protocol!r}")
        check_tls(self.tls, f"{what}: ", (None, False))
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise SetupError(f"{what}: limits must be a Limits; got {self.limits!r}")


@checked_fields("an upstream")
@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """The configuration of one upstream. A field that is None stays as the app declared it. Raises SetupError.

    ``limits`` holds fields of UpstreamLimits.
    """

    name: str
    members: Sequence[str] | None = option(
        None, 'its members: http://, https://, tcp://, http+unix:PATH; a weight follows, "http://10.0.0.1 weight=2"'
    )
    policy: str | None = option(None, "how a member is chosen", of=tuple(POLICIES))
    framing: Any = option(None, "for tcp members: raw, lines, length, coserver, or module:name of a class")
    accept_bare_lf: bool | None = option(
        None, "take answers whose lines end with LF alone, as old servers send them; each ends its connection"
    )
    limits: Mapping[str, Any] = field(default_factory=dict)
    tls: UpstreamTls | None = None

    def __post_init__(self) -> None:
        try:
            if self.members is not None and not self.members:
                raise ValueError("an upstream has at least one member")
            for member in self.members or ():
                UpstreamMember.parse(member)
            UpstreamLimits(**self.limits)
        except (ValueError, TypeError) as error:
            raise SetupError(f"upstream {self.name!r}: {error}") from None


@checked_fields("a server", **_ELSEWHERE)
@dataclass(frozen=True, kw_only=True)
class Settings:
    """``port`` 0 takes a free one; ``uds`` is a UNIX socket's path, instead of host and port.

    Raises SetupError; TypeError for an unknown option, with the name that was meant.
    """

    host: str = option(
        "127.0.0.1",
        "the address to listen on, or several: a, b; may be repeated; 0.0.0.0 is all of IPv4, :: all addresses",
    )
    port: int = option(0, "the port to listen on; 0 takes a free one")
    uds: str | None = option(None, "listen on this UNIX socket instead; @name is an abstract one")
    uds_permissions: str | None = option(
        None, "the UNIX socket's permissions, octal as for chmod: 660; as the umask leaves them if not given"
    )
    fd: int | None = option(None, "listen on this inherited socket instead; a descriptor")
    backend: str = option("asyncio", "the event loop: asyncio, uvloop or trio", of=("asyncio", "uvloop", "trio"))
    codec: str = option(
        "auto", "the HTTP parser: h11, httptools, or auto for the faster one installed", of=("auto", "h11", "httptools")
    )
    tls: Tls | None = None
    limits: Limits = field(default_factory=Limits)
    listeners: Sequence[ListenerSettings] = ()
    upstreams: Sequence[UpstreamSettings] = ()
    access_log: bool = option(False, "log a line for each answered request, on the logger coserver.access")
    access_format: str = option(
        "common", "the format of the access log: common, combined, or a string with Apache's words"
    )
    trusted_peers: Sequence[str] = option(
        (), "proxies whose X-Request-ID and X-Forwarded-For are trusted: addresses, networks, or unix"
    )
    forwarded_fields: str = option(
        "x-forwarded",
        "the headers of those proxies that count: x-forwarded (-For, -Proto, -Host) or forwarded (RFC 7239)",
        of=_FORWARDED,
    )
    proxy_protocol: bool = option(
        False, "require a PROXY protocol header (v1 or v2) from a trusted peer at the start of each connection"
    )
    record: bool = option(
        False, "keep traces of the last 1,000 exchanges, for Server.traces; costs 2 to 4 µs a request"
    )
    control: str = option(
        "off",
        "the control socket, for coserver top and step: auto (in $XDG_RUNTIME_DIR/coserver), a path, or off",
    )
    control_port: int | None = option(None, "listen for control on this port of 127.0.0.1 too; 0 takes a free one")
    control_token: str | None = option(
        None, "the secret for control over that port; 16 characters at least", secret=True
    )
    stuck_after: float = option(
        10.0,
        "the time for which the event loop may stand still before that is logged, with the line where it stands; 0: "
        "never",
        unit="seconds",
    )
    debug: bool = option(
        False,
        "show clients the exceptions of handlers, and log calls that block the event loop; for development only",
        flag="debug-pages",
    )

    def __post_init__(self) -> None:
        if self.host is None or self.port is None:
            raise SetupError("host and port must be given (port 0 takes a free one); got None")
        check_place(self.host, self.port, self.uds)
        check_tls(self.tls, "", (None,))
        check_socket(self.uds_permissions, self.fd, self.uds)
        if not isinstance(self.limits, Limits):
            raise SetupError(f"limits must be a Limits; got {self.limits!r}")
        if isinstance(self.stuck_after, bool) or not isinstance(self.stuck_after, int | float) or self.stuck_after < 0:
            raise SetupError(f"stuck_after is a number of seconds, 0 for never; got {self.stuck_after!r}")
        for name in ("access_log", "proxy_protocol", "record", "debug"):
            if not isinstance(getattr(self, name), bool):
                raise SetupError(f"{name} must be True or False; got {getattr(self, name)!r}")
        if not isinstance(self.access_format, str) or not self.access_format.strip():
            raise SetupError(f"access_format must be common, combined or a format string; got {self.access_format!r}")
        if isinstance(self.trusted_peers, str) or not all(isinstance(one, str) for one in self.trusted_peers):
            raise SetupError(f"trusted_peers must be a list of texts; got {self.trusted_peers!r}")
        if self.forwarded_fields not in _FORWARDED:
            raise SetupError(f"forwarded_fields must be 'x-forwarded' or 'forwarded'; got {self.forwarded_fields!r}")
        self._check_words()
        self._check_control()
        try:
            object.__setattr__(self, "codec", choose_codec(self.codec))
        except LocalProtocolError as error:
            raise SetupError(str(error)) from None
        backend_arguments(self.backend)

    def _check_control(self) -> None:
        if not isinstance(self.control, str) or not self.control or "\0" in self.control:
            raise SetupError(f"control must be auto, off or a socket's path; got {self.control!r}")
        check_place(None, self.control_port, None, "control_")
        if self.control_port is None:
            return
        from ...control.auth import check_token  # not loaded for a server without control

        try:
            check_token(self.control_token)
        except ValueError as error:
            raise SetupError(f"control_port {self.control_port} needs a control_token: {error}") from None

    def _check_words(self) -> None:
        """Check the texts that are parsed when the server starts."""
        if self.trusted_peers:
            from ...server.handler.trusted_proxies import Trust

            Trust(self.trusted_peers)
        if self.access_format not in ("common", "combined"):
            from ...server.http.access_log import compile_format  # not loaded for a server without an access log

            compile_format(self.access_format)
            if "%" not in self.access_format:  # a misspelt name: every line would be the same
                from difflib import get_close_matches

                close = get_close_matches(self.access_format, ("common", "combined"), n=1)
                meant = f"did you mean {close[0]}?" if close else "there are common, combined, and words like %h %r %s"
                raise SetupError(f"access_format: {self.access_format!r} holds no word like %h; {meant}")
