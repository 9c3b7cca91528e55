"""Send a file: decide which part of it the request gets (RFC 9110 §13, §14), and send the bytes.

All this happens on the loop, without a thread. A small file costs four system calls of 1 to 4 µs; a trip to a thread
costs 120 µs. The kernel copies a large file, half a MiB at a time, mostly from its cache.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from copy import copy
from time import monotonic, time_ns
from typing import TYPE_CHECKING

from ...protocol import responses
from ...protocol.conditions import CONDITIONAL, conditional_fields, judge, range_applies
from ...protocol.dates import format_date, parse_date
from ...protocol.ranges import Span, content_range, frame_parts, no_range, parse_ranges
from ..handler.bodies import FileBody, FilePart, OpenFile
from ..handler.errors import HTTPException
from ..handler.response import Response
from .carrier import NO_BODY
from .response_head import ONE_WRITE
from .send_stream import BrokenOff, NothingSent

if TYPE_CHECKING:
    from .exchange import HttpExchange

#: Bytes read at once if the kernel cannot copy the file.
READ_CHUNK = 128 * 1024
#: Nanoseconds after which a file's date identifies its content: dates have whole seconds, and clocks differ a little.
_SETTLED = 2_000_000_000
#: Fields that a 304 leaves out: they describe the body, which is not sent. It must repeat others (RFC 9110 §15.4.5).
_OF_A_BODY = frozenset({"content-disposition", "content-encoding", "content-language", "content-type"})

log = logging.getLogger("coserver.server")


def usual_file(exchange: HttpExchange, response: Response) -> tuple[int, bytes, bytes] | None:
    """Make status, start of the head and body of a usual answer: a whole small file, asked for by GET.

    None for any other, and for a file that cannot be read. Then nothing has been done; call ``settle``.
    """
    head, body = exchange.head, response.body
    assert isinstance(body, FileBody)
    if head.method != "GET" or response.fields or response.status != 200:
        return None
    for name, _ in head.fields:
        if name in CONDITIONAL:
            return None
    try:
        file = body.open()
    except OSError:
        return None
    if file.size > ONE_WRITE:
        body.give_back(file)
        return None
    try:
        content = _read(file, (0, file.size))
        start = responses.encode_start(200, response.content_type)
    except Exception:
        return None
    finally:
        file.close()
    exchange.connection.service.date(monotonic())
    modified = min(file.modified, exchange.connection.service.date_seconds)
    etag, date = file.etag.encode(), format_date(modified).encode()
    return 200, b"%betag: %b\r\nlast-modified: %b\r\naccept-ranges: bytes\r\n" % (start, etag, date), content


def settle(exchange: HttpExchange, response: Response) -> Response:
    """Copy ``response``, whose body is a FileBody, and fit it to this request's conditions and ranges.

    Those apply to a GET or HEAD that would be answered with 200. Raises NothingSent with the error to answer: 412, 416,
    a field that cannot be sent, a file that cannot be read any more.
    """
    body = response.body
    assert isinstance(body, FileBody)
    try:
        file = body.open()
    except OSError as error:
        raise NothingSent(error) from error
    try:
        answer = _settle(exchange, copy(response), file)
        if not isinstance(answer.body, FilePart):
            file.close()
    except Exception as error:  # a handler may give any object as a field, a number or None too
        file.close()
        raise NothingSent(error) from error
    except BaseException:
        file.close()
        raise
    return answer


def _settle(exchange: HttpExchange, answer: Response, file: OpenFile) -> Response:
    """Raises HTTPException, OSError."""
    method, spans = exchange.head.method, None
    given = {name.lower(): value for name, value in answer.fields}
    latest = _origination(exchange, given)
    modified: int | None = min(file.modified, latest)
    if "last-modified" in given:
        modified = parse_date(given["last-modified"])
        if modified is not None and modified > latest:
            modified = latest
            date = ("last-modified", format_date(latest))
            answer.fields = [date if name.lower() == date[0] else (name, value) for name, value in answer.fields]
    if answer.status == 200:
        etag = given.get("etag", file.etag)
        own = {"etag": file.etag, "last-modified": format_date(modified or 0), "accept-ranges": "bytes"}
        answer.fields = [*answer.fields, *(field for field in own.items() if field[0] not in given)]
        asked = conditional_fields(exchange.head.fields) if method in ("GET", "HEAD") else {}
        if asked:
            verdict = judge(asked, etag, modified)
            if verdict == 412:
                raise HTTPException(412)
            if verdict == 304:
                return _not_modified(answer)
        # Only GET has ranges (RFC 9110 §14.2).
        if method == "GET" and b"range" in asked and given.get("accept-ranges", "").lower() != "none":
            settled = file.modified_ns + _SETTLED < time_ns()
            if range_applies(asked.get(b"if-range"), etag, modified, settled=settled):
                spans = parse_ranges(asked[b"range"], file.size)
    part = FilePart(file, [(0, file.size)], file.size) if spans is None else _partial(answer, file, spans)
    answer.body = _in_memory(part) if part.size <= ONE_WRITE and method != "HEAD" else part
    return answer


def _origination(exchange: HttpExchange, given: Mapping[str, str]) -> int:
    """The answer's Date in seconds since 1970: no Last-Modified may be later (RFC 9110 §8.8.2.1)."""
    service = exchange.connection.service
    service.date(monotonic())
    date = parse_date(given["date"]) if "date" in given else None
    return service.date_seconds if date is None else date


def _not_modified(answer: Response) -> Response:
    answer.status, answer.body, answer.content_type = 304, b"", ""
    answer.fields = [field for field in answer.fields if field[0].lower() not in _OF_A_BODY]
    return answer


def _partial(answer: Response, file: OpenFile, spans: list[Span]) -> FilePart:
    """Raises HTTPException (416)."""
    if not spans:
        raise HTTPException(416, f"The file has {file.size} bytes", {"content-range": no_range(file.size)})
    answer.status = 206
    if len(spans) == 1:
        span = spans[0]
        answer.fields = [*answer.fields, ("content-range", content_range(span, file.size))]
        return FilePart(file, [span], span[1] - span[0])
    boundary = os.urandom(16).hex()  # random, so that no file contains it
    pieces, size = frame_parts(spans, file.size, answer.content_type, boundary)
    answer.content_type = f"multipart/byteranges; boundary={boundary}"
    return FilePart(file, pieces, size)


def _in_memory(part: FilePart) -> bytes:
    """Raises OSError."""
    return b"".join([piece if isinstance(piece, bytes) else _read(part.file, piece) for piece in part.pieces])


def _read(file: OpenFile, span: Span) -> bytes:
    """Raises OSError if the file has become shorter."""
    start, stop = span
    content = os.pread(file.fd, stop - start, start)
    while len(content) < stop - start:
        more = os.pread(file.fd, stop - start - len(content), start + len(content))
        if not more:
            raise _truncated(file, start + len(content))
        content += more
    return content


def _truncated(file: OpenFile, at: int) -> OSError:
    return OSError(f"{file.path} was cut to {at} bytes while it was being sent; it had {file.size}")


async def send_file(exchange: HttpExchange, part: FilePart, head: bytes) -> None:
    """Send the head and, unless the framing is NO_BODY, the part. Closes the file.

    Raises BrokenOff if the file cannot be read to the end that the head has announced.
    """
    carrier = exchange.carrier
    try:
        if exchange.framing == NO_BODY:
            await carrier.send_end(exchange, prefix=head)
            return
        data = b""  # the bytes of a multipart body before the next span
        for piece in part.pieces:
            if isinstance(piece, bytes):
                data += piece
                exchange.size += len(piece)
                continue
            await carrier.send_data(exchange, data, head)
            data = head = b""
            await _send_span(exchange, part.file, piece)
        await carrier.send_data(exchange, data, head)
        await carrier.send_end(exchange)
    except OSError as error:
        log.error("%r: the response is broken off: %s", exchange, error)
        raise BrokenOff(f"a file could not be read to its end: {error!s:.120}") from error
    finally:
        part.close()


async def _send_span(exchange: HttpExchange, file: OpenFile, span: Span) -> None:
    start, stop = span
    connection, carrier = exchange.connection, exchange.carrier
    if connection.emitter.taps and (begin := os.pread(file.fd, min(stop - start, READ_CHUNK), start)):
        connection.emitter.pass_on(exchange, begin, sent=True)  # the kernel sends the span without us: show its begin
    start = await carrier.send_file(exchange, file.fd, start, stop)
    while start < stop:
        content = os.pread(file.fd, min(stop - start, READ_CHUNK), start)
        if not content:
            raise _truncated(file, start)
        await carrier.send_data(exchange, content)
        start += len(content)
        exchange.size += len(content)
        await connection.service.loop.checkpoint()
