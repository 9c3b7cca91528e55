"""Runs a WSGI application for an exchange, in a worker (PEP 3333): its blocking calls suspend only that request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from io import SEEK_CUR
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ..hooks.suspension import await_unseen
from ..hooks.workers import on_loop, run_for, work_for
from ..protocol.errors import RemoteProtocolError
from ..server.handler.bodies import OpenFile
from ..server.handler.errors import ClientLeft
from ..server.http.carrier import APART, SENT, Sent
from .answer import NOTHING, PARTLY, STARTED, WHOLE, Answer, ClientGone
from .asgi import drive, known

if TYPE_CHECKING:
    from ..server.http.exchange import HttpExchange
    from .endpoint import HostedEndpoint
    from .names import Names

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
WsgiApp = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

#: Fields between two neighbours, which an application must not set (PEP 3333, RFC 2616 §13.5.1).
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
     "upgrade"}
)  # fmt: skip
#: Names in the environ, by the names of fields. Bounded, since clients choose names.
_names: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_NAMES_MAX = 256
#: Bytes that are read at once from a file without a descriptor.
_BLOCK = 64 * 1024


class WsgiRun(Answer):
    """One run of a WSGI application."""

    __slots__ = ("_names", "apart", "application", "context", "endpoint", "environ")

    def __init__(self, application: WsgiApp, exchange: HttpExchange, endpoint: HostedEndpoint) -> None:
        super().__init__(exchange)
        self.application = application
        self.endpoint = endpoint
        self.apart = False
        self.context = copy_context()
        self.environ: Environ = {}
        self._names: Names | None = None

    @property
    def name(self) -> str:
        return (self._names or self.endpoint.names_of(self.environ))[0]

    @property
    def route(self) -> str:
        return (self._names or self.endpoint.names_of(self.environ))[1]

    def client_left(self) -> bool:
        if self.endpoint.cancels:
            return False
        self.gone = True
        return True

    def set_apart(self) -> None:
        """The answer is whole, and the application's ``close`` waits: leave the connection to another task."""
        self.apart = self.exchange.set_apart()

    # In the worker.

    def serve(self) -> None:
        """Call the application, send what it returns, and close that."""
        self.environ = make_environ(self)
        iterable = self.application(self.environ, self.start_response)
        try:
            self._send_all(iterable)
        finally:
            if self.state is WHOLE:
                work_for(None)  # type: ignore[arg-type]  # the exchange is over
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take the status and the fields. Raises AssertionError, ValueError, TypeError for what breaks PEP 3333."""
        if exc_info is not None:
            try:
                if self.state not in (NOTHING, STARTED):
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it holds this frame: a cycle
        elif self.state is not NOTHING:
            raise AssertionError("start_response was called already; a second call needs exc_info (PEP 3333)")
        if not isinstance(status, str) or len(status) < 3 or not status[:3].isdigit() or status[3:4].strip():
            raise ValueError(f"a status is three digits and a reason, '200 OK'; got {status!r}")
        fields = []
        for name, value in headers:
            if name.lower() in _HOP_BY_HOP:
                raise ValueError(f"field {name!r} belongs to the connection, which is the server's (PEP 3333)")
            try:
                fields.append((name.encode("latin-1"), value.encode("latin-1")))
            except (AttributeError, UnicodeEncodeError) as error:
                raise TypeError(
                    f"a field is a name and a value, both str of ISO-8859-1; got {name!r}: {value!r}"
                ) from error
        if self.exchange.emitter.heard or self.exchange.connection.service.access is not None:
            self._names = self.endpoint.names_of(self.environ)  # Flask forgets them at the end of the request
        self.begin(int(status[:3]), fields)
        return self._write

    def _write(self, data: bytes) -> None:
        """The ``write`` of PEP 3333."""
        if data:
            await_unseen(self.send_piece(_checked(data)))

    def _send_all(self, iterable: Iterable[bytes]) -> None:
        if type(iterable) is FileWrapper and self._send_file(iterable):
            return
        pieces: Iterator[bytes] | None = None
        if self.state is STARTED and type(iterable) in (list, tuple) and len(iterable) == 1:  # type: ignore[arg-type]
            self._send_whole(_checked(iterable[0]))  # type: ignore[index]
            return
        pieces = iter(iterable)
        for piece in pieces:
            if not piece:
                continue
            if self.state is NOTHING:
                break
            if self.state is STARTED and self.length == len(piece) and type(piece) is bytes:
                self._send_whole(piece)
                continue
            if self.state is WHOLE:
                raise ValueError(f"Content-Length says {self.length}, but the body has more bytes")
            await_unseen(self.send_piece(_checked(piece)))
        if self.state is NOTHING:
            raise AssertionError("the application returned its body before it called start_response (PEP 3333)")
        if self.state is STARTED:
            self._send_whole(b"")
        elif self.state is PARTLY:
            await_unseen(self.finish())

    def _send_whole(self, body: bytes) -> None:
        if not on_loop(self.send_whole_now, body):
            await_unseen(self.send_whole(body))

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Have the kernel send the rest of the file; false if it is no regular one."""
        if self.state is not STARTED:
            return False
        try:
            at = wrapper.filelike.seek(0, SEEK_CUR)
            file = OpenFile(f"/dev/fd/{wrapper.filelike.fileno()}")
        except (AttributeError, OSError, ValueError):  # io.UnsupportedOperation is the last two
            return False
        stop = file.size if self.length is None else min(file.size, at + self.length)
        await_unseen(self.send_part(file, at, max(at, stop)))
        return True


class FileWrapper:
    """``wsgi.file_wrapper`` (PEP 3333): iterates over a file; the server sends a regular one without reading it."""

    def __init__(self, filelike: Any, block: int = _BLOCK) -> None:
        self.filelike = filelike
        self.block = block

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.block)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Close the file, if it can be closed."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


class Input:
    """``wsgi.input``: the request's body, read from the client as the application asks for it."""

    def __init__(self, run: WsgiRun) -> None:
        self._run = run
        self._rest = b""
        self._ended = False
        request = run.exchange._request
        self._file: Any = None  # if the server has read the body already
        if request is not None and run.exchange.body_done and (request.spool is not None or request.content):
            self._file = request.body_file

    def _more(self) -> bool:
        """Read one more piece; false at the end. Raises ClientGone."""
        if self._ended:
            return False
        if self._file is not None:
            piece = self._file.read(_BLOCK)
        else:
            run = self._run
            exchange = run.exchange
            if exchange.body_done:
                piece = b""
            else:
                try:
                    piece = await_unseen(exchange.next_piece())
                except (ClientLeft, RemoteProtocolError) as error:
                    run.refused = error if isinstance(error, RemoteProtocolError) else None
                    run.gone = True
                    raise ClientGone(str(error)) from error
        self._ended = not piece
        self._rest = self._rest + piece if self._rest else piece
        return not self._ended

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes, all if it is None or negative. Fewer only at the end of the body."""
        if size is None or size < 0:
            pieces = [self._take(len(self._rest))]
            while self._more():
                pieces.append(self._take(len(self._rest)))
            return b"".join(pieces)
        if len(self._rest) < size:
            pieces, have = [self._take(len(self._rest))], 0
            have = len(pieces[0])
            while have < size and self._more():
                pieces.append(self._take(size - have))
                have += len(pieces[-1])
            return b"".join(pieces)
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line with its end, at most ``size`` bytes of it."""
        limit = sys.maxsize if size is None or size < 0 else size
        searched = 0
        while (end := self._rest.find(b"\n", searched)) < 0 and len(self._rest) < limit:
            searched = len(self._rest)
            if not self._more():
                break
        return self._take(min(limit, len(self._rest) if end < 0 else end + 1))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Read all lines; with ``hint`` until they have that many bytes together."""
        lines: list[bytes] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint <= size:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line


def make_environ(run: WsgiRun) -> Environ:
    """The environ of a request (PEP 3333), with the names that gunicorn adds: RAW_URI, wsgi.input_terminated."""
    exchange, endpoint = run.exchange, run.endpoint
    head, connection = exchange.head, exchange.connection
    client, server, scheme, _ = known(connection)
    if connection.service.trust is not None:
        request = exchange.request
        if request.trusts_peer:
            scheme = request.scheme
            if (address := request.client) != "unix" and (client is None or address != client[0]):
                client = (address, 0)
    path = head.path
    plain = (unquote_to_bytes(path) if "%" in path else path.encode()).decode("latin-1")
    host, port = server if server is not None else ("localhost", None)
    environ: Environ = {
        "REQUEST_METHOD": head.method,
        "SCRIPT_NAME": endpoint.scope_root_path,
        "PATH_INFO": plain[len(endpoint.mount) :],
        "QUERY_STRING": head.query,
        "RAW_URI": head.target,
        "REQUEST_URI": head.target,
        "SERVER_NAME": host if port is not None else "localhost",
        "SERVER_PORT": str(port if port is not None else 443 if scheme == "https" else 80),
        "SERVER_PROTOCOL": "HTTP/1.1" if head.minor else "HTTP/1.0",
        "SERVER_SOFTWARE": "coserver",
        "REMOTE_ADDR": client[0] if client is not None else "",
        "REMOTE_PORT": str(client[1]) if client is not None else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": Input(run),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    if scheme == "https":
        environ["HTTPS"] = "on"
    for field, raw in head.fields:
        name = _names.get(field)
        if name is None:
            name = _name_of(field, underscores=endpoint.underscores)
        if name:
            value = raw.decode("latin-1")
            if name in environ:
                value = f"{environ[name]}{'; ' if field == b'cookie' else ','}{value}"
            environ[name] = value
    return environ


def _name_of(field: bytes, *, underscores: bool) -> str:
    """The name of a field in the environ; "" if it is left out.

    A name with "_" could stand for one with "-" that a proxy has checked. HTTP_PROXY would set a CGI client's proxy.
    """
    if field == b"proxy":
        return ""
    if b"_" in field:
        return f"HTTP_{field.decode('latin-1').upper().replace('-', '_')}" if underscores else ""
    name = f"HTTP_{field.decode('latin-1').upper().replace('-', '_')}"
    if len(_names) < _NAMES_MAX:
        _names[field] = name
    return name


def _checked(piece: Any) -> bytes:
    if type(piece) is bytes:
        return piece
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"a body's pieces are bytes (PEP 3333); got {type(piece).__name__}: {piece!r:.60}")


async def run_wsgi(application: WsgiApp, exchange: HttpExchange, endpoint: HostedEndpoint) -> Sent:
    """Run an application for the exchange, in a worker. Returns when its answer is whole and it has ended.

    Raises what the application raised before it began to answer; BrokenOff, ClientLeft, RemoteProtocolError.
    """
    run = WsgiRun(application, exchange, endpoint)
    exchange.hosted = run
    failure: BaseException | None = None
    try:
        await drive(run, run_for(exchange, exchange.connection.service.waits, run.serve))
    except BaseException as error:
        failure = error
        if run.state is STARTED:
            run.state = NOTHING  # the fields wait for the first piece (PEP 3333), so another answer can be sent
    try:
        run.end(failure)
    finally:
        del failure  # it holds this frame: a cycle
    return APART if run.apart else SENT
