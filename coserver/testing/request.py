"""A test's request: its parts as written (params, json, form, files), and the bytes and fields made of them.

Pure: no stream, no clock. A request that contradicts itself raises TypeError or ValueError before anything is sent.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict
from urllib.parse import quote, urlencode, urlsplit

Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]
Body = bytes | str | Iterable[bytes | str] | AsyncIterable[bytes | str]
File = tuple[str, bytes | str] | tuple[str, bytes | str, str]

HOST = "testserver"
#: The characters that RFC 3986 allows in a path and query, and the % of escapes.
_TARGET_SAFE = "/%:@!$&'()*+,;=?-._~[]"


class Asked(TypedDict, total=False):
    """The keywords of a request. At most one of ``body``, ``json``, and ``form`` with ``files`` is given.

    ``timeout`` is in seconds, None for no limit: for the whole answer, or with ``stream`` for its head and then for
    each piece. ``files`` maps a field's name to (filename, content) or (filename, content, type), or a list of them.
    """

    params: Pairs
    headers: Pairs
    body: Body | None
    json: Any
    form: Pairs
    files: Mapping[str, File | Sequence[File]]
    timeout: float | None
    follow_redirects: bool


@dataclass
class Outgoing:
    """A request as it is sent. ``body`` is bytes, or an iterable that can be sent once; None is no body at all."""

    method: str
    target: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Any = None

    def __repr__(self) -> str:
        return f"{self.method} {self.target}"

    def has(self, name: str) -> bool:
        return any(key.lower() == name for key, _ in self.headers)

    def add(self, name: str, value: str) -> None:
        """Add a field unless the test gave it."""
        if not self.has(name.lower()):
            self.headers.append((name, value))

    @property
    def waits_for_go(self) -> bool:
        """Whether the body waits for a 100 Continue (RFC 9110 §10.1.1)."""
        return self.body is not None and any(
            key.lower() == "expect" and value.lower() == "100-continue" for key, value in self.headers
        )


def build(method: str, target: str, asked: Asked) -> Outgoing:
    """Make the request. Raises TypeError, ValueError."""
    if unknown := asked.keys() - Asked.__annotations__.keys():
        raise TypeError(f"a request takes no {', '.join(sorted(unknown))}; it takes {', '.join(Asked.__annotations__)}")
    bodies = [name for name in ("body", "json", "form") if asked.get(name) is not None or (name == "json" in asked)]
    if "files" in asked and "form" not in bodies:
        bodies.append("files")
    if len(bodies) > 1:
        raise TypeError(f"a request has one body; given are {' and '.join(bodies)}")
    request = Outgoing(method.upper(), clean_target(target, asked.get("params", ())))
    request.headers = [(str(name), str(value)) for name, value in _pairs(asked.get("headers", ()))]
    if bodies:
        _fill(request, asked, bodies[0])
    return request


def clean_target(target: str, params: Pairs = ()) -> str:
    """The request target: "/path?query", "*", or an http URL of the app, with ``params`` added to its query."""
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        if parts.hostname != HOST:
            raise ValueError(f"the client sends to one app, http://{HOST}; got {target!r}; a path is enough")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if target != "*" and not target.startswith("/"):
        raise ValueError(f'a target begins with "/" (or is "*"); got {target!r}')
    target = quote(target.partition("#")[0], safe=_TARGET_SAFE)
    query = urlencode(list(_pairs(params)), doseq=True)
    return f"{target}{'&' if '?' in target else '?'}{query}" if query else target


def _pairs(given: Pairs) -> Iterable[tuple[str, Any]]:
    return given.items() if isinstance(given, Mapping) else given


def _fill(request: Outgoing, asked: Asked, kind: str) -> None:
    if kind == "body":
        body = asked["body"]
        request.body = body.encode() if isinstance(body, str) else body
        if isinstance(body, bytearray | memoryview):
            request.body = bytes(body)
        elif not isinstance(request.body, bytes | Iterable | AsyncIterable) or isinstance(body, Mapping):
            raise TypeError(f"a body is bytes, str, or an iterable of them; got {body!r:.60} (json=, form= take dicts)")
    elif kind == "json":
        text = json.dumps(asked["json"], separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        # JSON can escape a lone surrogate; UTF-8 cannot encode one.
        request.body = text.encode("utf-8", "backslashreplace")
        request.add("content-type", "application/json")
    elif "files" in asked:
        boundary = secrets.token_hex(16)
        request.body = multipart(asked.get("form", ()), asked["files"], boundary)
        request.add("content-type", f"multipart/form-data; boundary={boundary}")
    else:
        request.body = urlencode(list(_pairs(asked["form"])), doseq=True).encode()
        request.add("content-type", "application/x-www-form-urlencoded")


def multipart(form: Pairs, files: Mapping[str, File | Sequence[File]], boundary: str) -> bytes:
    """A form as multipart/form-data (RFC 7578), names escaped as browsers do."""
    parts: list[bytes] = []

    def add(name: str, more: str, content: Any) -> None:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"{more}\r\n\r\n'
        body = content if isinstance(content, bytes) else str(content).encode()
        parts.append(head.encode() + body + b"\r\n")

    for name, value in _pairs(form):
        for one in value if isinstance(value, list | tuple) else [value]:
            add(name, "", one)
    for name, given in files.items():
        for file in [given] if isinstance(given, tuple) else given:
            filename, content, *kind = file
            kind_of = kind[0] if kind else "application/octet-stream"
            add(name, f'; filename="{_quoted(filename)}"\r\nContent-Type: {kind_of}', content)
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
