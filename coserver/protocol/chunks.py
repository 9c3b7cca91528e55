"""A guard before the parsers: only sound and complete chunked framing reaches them (RFC 9112 §7.1).

The guard measures and checks; the codec decodes. Both parsers accept framing that smuggles requests (bare LF, NUL, lone
CR, blanks around sizes). So they get only lines that are checked here, and never a byte of the next request. Extensions
are checked and cut out: no parser reads them. Where bare LFs are asked for, the parser gets CRLFs in their place.
"""

from __future__ import annotations

import re

from .errors import RemoteProtocolError
from .syntax import TOKEN, check_field, show

_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]++|\\[\t\x20-\x7e\x80-\xff])*"'  # RFC 9110 §5.6.4
_BWS = rb"[\t\x20]*+"  # "bad white space": a recipient must parse and remove it (RFC 9110 §5.6.3)
_EXTENSION = _BWS + rb";" + _BWS + TOKEN + rb"(?:" + _BWS + rb"=" + _BWS + rb"(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
# 16 hexadecimal digits are 64 bits. Blanks stand only where RFC 9112 §7.1.1 has them: around ";" and "=", never before
# the size nor at the end of the line.
_match_size = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)\r\n").match
_match_plain_size = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n").match
# Old servers pad the size with blanks. They mean nothing, and are cut out with the extensions.
_match_padded_size = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*" + _BWS + rb")\r\n").match
# A bare LF ends a line that has no extension. Behind one it hides a request: parsers end such a line in two places.
_match_size_to_lf = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:((?:" + _EXTENSION + rb")*" + _BWS + rb")\r\n|(" + _BWS + rb")\n)"
).match
# The beginning of a size line, while it is unfinished.
_may_become_size = re.compile(rb"(?:[0-9A-Fa-f]{1,16}(?:\r|" + _BWS + rb"(?:;.*)?))?", re.DOTALL).fullmatch
_may_become_padded_size = re.compile(rb"(?:[0-9A-Fa-f]{1,16}" + _BWS + rb"(?:\r|;.*)?)?", re.DOTALL).fullmatch

# Fields that might make one parser find another end of the body (RFC 9110 §6.5.1). llhttp refuses them too.
_FRAMING = {b"content-length", b"transfer-encoding"}

# The longest line of a chunk: a size and rarely an extension. 4 KiB is nginx's smallest header buffer.
LINE_MAX = 4096

_SIZE, _DATA, _DATA_END, _TRAILER, _DONE = range(5)


class ChunkGuard:
    """Follows one chunked body. ``size`` counts the bytes of data announced so far.

    ``mends`` says what the parser shall not see of the bytes of the last call of ``approve``: each (start, end) is an
    extension, or an empty place where the CR of a line end is missing. ``bare_lf``: a line has ended so.
    """

    __slots__ = (
        "_accept_bare_lf", "_extension_max", "_extension_size", "_left", "_match_size", "_may_become_size",
        "_refused", "_size_max", "_state", "_trailer", "_trailer_max",
        "bare_lf", "mends", "size",
    )  # fmt: skip

    def __init__(
        self,
        size_max: int,
        trailer_max: int,
        extension_max: int,
        *,
        padded: bool = False,
        accept_bare_lf: bool = False,
    ) -> None:
        """``padded``: blanks may follow a size, as in the responses of old servers. ``accept_bare_lf``: a line without
        an extension may end with LF alone; sizes are then padded too.
        """
        self._accept_bare_lf = accept_bare_lf
        self._match_size = _match_size_to_lf if accept_bare_lf else _match_padded_size if padded else _match_size
        self._may_become_size = _may_become_padded_size if padded else _may_become_size
        self._state = _SIZE
        self._left = 0
        self._size_max = size_max
        self._trailer_max = trailer_max
        self._extension_max = extension_max
        self._extension_size = self._trailer = 0
        self._refused: tuple[str, int, str] | None = None
        self.mends: list[tuple[int, int]] = []
        self.bare_lf = False
        self.size = 0

    @property
    def done(self) -> bool:
        """Whether the body is checked to its end, the trailer included."""
        return self._state == _DONE

    def limit(self, size_max: int) -> None:
        """Set the most bytes of data. Raises RemoteProtocolError (413) if more have been announced already."""
        self._size_max = size_max
        self._check_total()

    def approve(self, data: bytes, chunks: int = 1 << 62) -> int:
        """Check bytes. Returns how many leading bytes of ``data`` are sound, complete and part of this body.

        At most ``chunks`` chunks are checked. Raises RemoteProtocolError (400, 413 or 431) on the first byte that is
        wrong, and on every call after that: the place in the framing is lost, and data may look like framing.
        """
        if self._refused:
            raise RemoteProtocolError(*self._refused)
        if self.mends:
            self.mends = []
        at, end = 0, len(data)
        try:
            while at < end and self._state != _DONE:
                if self._state == _SIZE:
                    at, chunks = self._approve_whole(data, at, chunks)
                    if at == end or not chunks:
                        break
                    chunks -= 1
                after = self._approve_data(end, at) if self._state == _DATA else self._approve_line(data, at)
                if not after:
                    break
                at = after
        except RemoteProtocolError as error:
            self._refused = error.reason, error.status, error.limit
            raise
        return at

    def mend(self, data: bytes) -> bytes:
        """``data``, which ``approve`` has just approved, without its extensions, and each line ended by CRLF."""
        pieces, at = [], 0
        for start, end in self.mends:
            pieces.append(data[at:start])
            if start == end:
                pieces.append(b"\r")
            at = end
        pieces.append(data[at:])
        return b"".join(pieces)

    def _approve_whole(self, data: bytes, at: int, chunks: int) -> tuple[int, int]:
        """Check chunks that are there as a whole and have no extensions, so that a flood of tiny ones costs little.

        Returns their end, and how many more may be checked. Stops at the first chunk of another form.
        """
        size, most = self.size, self._size_max
        while chunks and (plain := _match_plain_size(data, at)):
            length = int(plain[1], 16)
            stop = plain.end() + length
            if not length or size + length > most or data[stop : stop + 2] != b"\r\n":
                break
            size += length
            at = stop + 2
            chunks -= 1
        self.size = size
        return at, chunks

    def _approve_data(self, end: int, at: int) -> int:
        step = min(self._left, end - at)
        self._left -= step
        if not self._left:
            self._state = _DATA_END
        return at + step

    def _approve_line(self, data: bytes, at: int) -> int:
        """Check the framing line at ``at``. Returns its end, 0 if it is not complete yet."""
        newline = data.find(b"\n", at)
        if newline < 0:
            self._check_unfinished(data, at)
            return 0
        end = newline + 1
        if self._state == _SIZE:
            return self._approve_size(data, at, end)
        line = data[at:end]
        if self._accept_bare_lf and not line.endswith(b"\r\n"):
            line = line[:-1] + b"\r\n"
            self._mend_line_end(newline)
        if self._state == _DATA_END:
            if line != b"\r\n":
                raise RemoteProtocolError(f"a chunk's data must be followed by CRLF; got {show(data[at:end])}")
            self._state = _SIZE
        elif line == b"\r\n":
            self._state = _DONE
        else:
            self._trailer += end - at
            if self._trailer > self._trailer_max:
                raise self._long_trailer()
            _check_trailer(line)
        return end

    def _mend_line_end(self, newline: int) -> None:
        self.bare_lf = True
        self.mends.append((newline, newline))

    def _approve_size(self, data: bytes, at: int, end: int) -> int:
        line = self._match_size(data, at)
        if not line:
            raise _no_size(data[at:end])
        if line[2]:
            self._extension_size += len(line[2])
            self.mends.append(line.span(2))
        elif line[2] is None:
            if line[3]:
                self.mends.append(line.span(3))
            self._mend_line_end(end - 1)
        if self._extension_size > self._extension_max or end - at > LINE_MAX:
            raise self._long_extensions()
        self._left = int(line[1], 16)
        self.size += self._left
        self._check_total()
        self._state = _DATA if self._left else _TRAILER
        return line.end()

    def _check_total(self) -> None:
        if self.size > self._size_max:
            raise RemoteProtocolError(f"the body is longer than {self._size_max} bytes", 413, "body_size")

    def _check_unfinished(self, data: bytes, at: int) -> None:
        pending = data[at : at + LINE_MAX + 1]
        if self._state == _DATA_END and not b"\r\n".startswith(pending):
            raise RemoteProtocolError(f"a chunk's data must be followed by CRLF; got {show(pending)}")
        longest = self._trailer_max - self._trailer if self._state == _TRAILER else LINE_MAX
        if len(data) - at > longest and pending != b"\r":  # the empty line at the end does not count
            if self._state == _TRAILER:
                raise self._long_trailer()
            raise self._long_extensions()
        if self._state == _SIZE and not self._may_become_size(pending):
            raise _no_size(pending)  # at once, and not at the deadline

    def _long_trailer(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"the trailer is longer than {self._trailer_max} bytes", 431, "trailer_size")

    def _long_extensions(self) -> RemoteProtocolError:
        allowed = f"{LINE_MAX} bytes a line, {self._extension_max} in all"
        return RemoteProtocolError(f"chunk extensions are longer than {allowed}", 400, "extension_size")


def _check_trailer(line: bytes) -> None:
    check_field(line, 0)
    name = line[: line.index(b":")].lower()
    if name in _FRAMING:
        raise RemoteProtocolError(f"a trailer must not hold {name.decode()} (RFC 9110 §6.5.1)")


def _no_size(line: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"a chunk must start with its size in hexadecimal, then ';name=value' at most; got {show(line)}"
    )
