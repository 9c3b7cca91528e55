"""The strict grammar of a head (RFC 9112 §2–5), checked on the raw bytes before any parser sees them.

Neither h11 nor httptools is strict enough alone (bare LF, obs-fold, control characters, odd versions). One regular
expression accepts a head in 0.2 µs; only a refused head is read again, slowly, to say what is wrong with it. Possessive
quantifiers (``++``) keep the matching linear: no input can make it backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .errors import RemoteProtocolError

_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"  # RFC 9110 §5.6.2
TOKEN = _TCHAR + rb"++"
# 24 is far beyond the longest registered method (UPDATEREDIRECTREF, 17 letters).
METHOD = _TCHAR + rb"{1,24}+"
# Visible ASCII without "#": a fragment is never sent (RFC 9112 §3.2), and servers and proxies disagree about raw 8-bit
# bytes in a path.
TARGET = rb"[\x21\x22\x24-\x7e]++"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"  # RFC 9110 §5.5: no control characters; a bare CR or LF never
FIELD = TOKEN + rb":" + VALUE + rb"\r\n"
REQUEST_LINE = METHOD + rb" " + TARGET + rb" HTTP/1\.[01]\r\n"
# Many servers leave out the blank before an empty reason, although RFC 9112 §4 demands it.
STATUS_LINE = rb"HTTP/1\.[01] [1-9][0-9]{2}(?: " + VALUE + rb")?\r\n"

# Groups are repeated greedily: CPython before 3.11.5 matches possessive groups wrongly (gh-106052). Each of these can
# match in one way only, so there is nothing to backtrack to.
is_head = re.compile(REQUEST_LINE + rb"(?:" + FIELD + rb")*\r\n").fullmatch
is_response_head = re.compile(STATUS_LINE + rb"(?:" + FIELD + rb")*\r\n").fullmatch
# A usual head: HTTP/1.1, a path as its target, one Host, and no other field that means something for the framing. One
# match tells that it is sound, and gives method, path, query and host. It is the grammar of ``is_head``, narrower.
_MEANT = rb"(?![hHcCtTeE](?i:ost|ontent-length|onnection|ransfer-encoding|xpect):)"
_OTHERS = rb"(?:" + _MEANT + FIELD + rb"|(?i:connection:[\t ]*+keep-alive[\t ]*+\r\n))*"
match_usual = re.compile(
    rb"(?!CONNECT )(" + METHOD + rb") (/[\x21\x22\x24-\x3e\x40-\x7e]*+)(?:\?([\x21\x22\x24-\x7e]*+))? HTTP/1\.1\r\n"
    + _OTHERS + rb"(?i:host):[\t ]*+([\x21-\x7e]*+)[\t ]*+\r\n" + _OTHERS + rb"\r\n"
).fullmatch  # fmt: skip
is_token = re.compile(TOKEN).fullmatch
is_value = re.compile(VALUE).fullmatch
match_field = re.compile(FIELD).match
# What old servers send besides: a folded line, or blanks before the colon. Only in responses.
_match_old_field = re.compile(rb"(?:" + TOKEN + rb"[\t ]*+:|[\t ])" + VALUE + rb"\r\n").match
_fold = re.compile(rb"[\t ]*\r\n[\t ]+")
_blank_before_colon = re.compile(rb"(\r\n" + TOKEN + rb")[\t ]++:")
_head_end = re.compile(rb"\n\r?\n").search
_bare_lf = re.compile(rb"(?<!\r)\n")
_match_request_line = re.compile(REQUEST_LINE).match
# The beginning of a request line, so that a TLS hello or an SSH banner is refused at once and not at the deadline. Any
# version may come: the whole line then tells which version is not supported.
_may_become_request_line = re.compile(
    METHOD + rb"(?: (?:" + TARGET + rb"(?: (?:H(?:T(?:T(?:P(?:/(?:\d(?:\.(?:\d\r?)?)?)?)?)?)?)?)?)?)?)?"
).fullmatch
_match_other_version = re.compile(METHOD + rb" " + TARGET + rb" (HTTP/[02-9]\.\d)\r\n").fullmatch
_match_status_line = re.compile(STATUS_LINE).match
_BEGINS_RESPONSE = b"HTTP/1."
# Host (RFC 9110 §7.2): a name, an IPv4 address or a bracketed IPv6 one, and a port. No user, no path, no list.
_NAME = rb"[0-9A-Za-z\-._~!$&'()*+;=]*+(?:%[0-9A-Fa-f]{2}[0-9A-Za-z\-._~!$&'()*+;=]*+)*"
is_host = re.compile(rb"(?:\[[0-9A-Fa-f:.]++\]|" + _NAME + rb")(?::[0-9]{0,5}+)?").fullmatch


def check_head(head: bytes) -> None:
    """Check that ``head`` (request line to blank line, CRLFs included) is sound. Raises RemoteProtocolError."""
    if not is_head(head):
        explain(head)


def check_response_head(head: bytes) -> None:
    """Check the head of a response, from the status line on. Raises RemoteProtocolError."""
    if not is_response_head(head):
        explain(head, check_status_line)


def mend_response_head(head: bytes) -> bytes:
    """Check the head of a response after the mending that RFC 9112 asks of clients. Returns the mended head.

    Folded lines become one line with a blank (§5.2), blanks before a colon go (§5.1). Raises RemoteProtocolError.
    """
    end = head.find(b"\n") + 1
    if head[end : end + 1] not in (b" ", b"\t"):  # the status line cannot be folded
        head = _blank_before_colon.sub(rb"\1:", _fold.sub(b" ", head))
    check_response_head(head)
    return head


def end_lines_by_crlf(data: bytes) -> tuple[bytes, int, bool]:
    """End each line of the head that ``data`` begins with by CRLF, where it ends with LF alone.

    Returns the bytes, where the head ends (0 if it is unfinished), and whether anything changed. The bytes after the
    head stay.
    """
    found = _head_end(data)
    head = data[: found.end()] if found else data
    mended, changed = _bare_lf.subn(b"\r\n", head)
    if changed:
        data = mended + data[len(head) :]
    return data, len(mended) if found else 0, changed > 0


def explain(head: bytes, check_first_line: Callable[[bytes], None] | None = None) -> None:
    """Find the mistake in a refused head, and raise it with the rule and the value."""
    end = head.find(b"\n") + 1
    (check_first_line or check_request_line)(head[:end])
    while end < len(head) - 2:
        end = check_field(head, end)
    raise RemoteProtocolError("a head must end with an empty line, each line ended by CRLF")


def check_request_line(line: bytes | bytearray) -> None:
    """Check that ``line`` is ``method SP target SP HTTP/1.x CRLF`` (RFC 9112 §3). Raises RemoteProtocolError."""
    if _match_request_line(line):
        return
    other = _match_other_version(line)
    if other:
        raise RemoteProtocolError(f"{other[1].decode()} is not supported here; use HTTP/1.1", 505)
    raise RemoteProtocolError(_guess(line))


def check_status_line(line: bytes) -> None:
    """Check that ``line`` is ``HTTP/1.x SP status [SP reason] CRLF`` (RFC 9112 §4). Raises RemoteProtocolError."""
    if not _match_status_line(line):
        raise RemoteProtocolError(f"a response must start with 'HTTP/1.1 status reason' and CRLF; got {show(line)}")


def check_partial_response(data: bytes, checked: int) -> int:
    """``check_partial`` for the unfinished head of a response."""
    if not checked:
        checked = data.find(b"\n") + 1
        if not checked:
            if not data.startswith(_BEGINS_RESPONSE[: len(data)]):
                check_status_line(data)
            return 0
        check_status_line(data[:checked])
        if data[checked : checked + 1] in (b" ", b"\t"):
            check_field(data, checked)
    while data.find(b"\n", checked) >= 0:
        old = _match_old_field(data, checked)
        checked = old.end() if old else check_field(data, checked)
    return checked


def check_field(data: bytes | bytearray, start: int) -> int:
    """Check the field line at ``start``. Returns the start of the next one."""
    field = match_field(data, start)
    if field:
        return field.end()
    line = data[start : data.find(b"\n", start) + 1] or data[start:]
    if line[:1] in (b" ", b"\t"):
        raise RemoteProtocolError(f"a field must not be folded over lines (RFC 9112 §5.2); got {show(line)}")
    if not line.endswith(b"\r\n"):
        raise RemoteProtocolError(f"a line must end with CRLF; got {show(line)}")
    name, colon, _ = line.partition(b":")
    if not colon or not is_token(name):
        raise RemoteProtocolError(f"a field must be 'name: value', its name a token; got {show(line)}")
    raise RemoteProtocolError(f"a field value must not hold control characters; got {show(line)}")


def check_partial(data: bytes | bytearray, checked: int, searched: int = 0) -> int:
    """Check the whole lines of an unfinished head after ``checked``. Returns the place up to which they are sound.

    Between ``checked`` and ``searched`` no line ends: that part was searched before.
    """
    if not checked:
        end = data.find(b"\n", searched) + 1
        if not end:
            # A long line is checked anew at every KiB only, since each check begins at its start.
            looked_at = searched and len(data) // 1024 == searched // 1024
            if not looked_at and not _may_become_request_line(data):
                raise RemoteProtocolError(_guess(data))
            return 0
        check_request_line(data[:end])
        checked = end
    while data.find(b"\n", max(checked, searched)) >= 0:
        checked = check_field(data, checked)
    return checked


def show(line: bytes | bytearray) -> str:
    """A line for an error message: printable, at most 60 characters."""
    text = line.rstrip(b"\r\n").decode("latin-1").encode("ascii", "backslashreplace").decode()
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _guess(data: bytes | bytearray) -> str:
    if data.startswith(b"\x16\x03"):
        return "this is a TLS handshake, and the port speaks plain HTTP; use http:// or serve TLS here"
    if data.startswith(b"SSH-"):
        return "this is an SSH client, and the port speaks HTTP"
    if data.endswith(b"\n") and not data.endswith(b"\r\n"):
        return f"a line must end with CRLF; the request line is {show(data)}"
    return f"request line must be 'method target HTTP/1.1', single spaces; got {show(data)}"
