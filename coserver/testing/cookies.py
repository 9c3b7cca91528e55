"""The cookies of a client: the standard library's cookie jar, as a mapping of names to values.

Requests go to one app, so the mapping knows names only; ``jar`` knows paths and expiry times as well. A test's
connection counts as secure: browsers treat localhost so.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, MutableMapping
from email.message import Message
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy

from ..protocol.cookies import encode_cookie, parse_cookies
from .request import HOST, Outgoing
from .response import Head


class Cookies(MutableMapping[str, str]):
    """``client.cookies["name"]``, as handlers read and set them. A cookie set here goes with every request, for any
    path.

    Setting raises ValueError for an invalid name.
    """

    def __init__(self) -> None:
        self.jar = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))

    def __repr__(self) -> str:
        return f"Cookies({dict(self)!r})"

    def __getitem__(self, name: str) -> str:
        for cookie in self.jar:
            if cookie.name == name:
                return _plain(cookie.value or "")
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        quoted = encode_cookie(name, value, {"secure": True, "path": "/"}).partition("=")[2].partition(";")[0]
        # The jar adds ".local" to a host without a dot.
        host = f"{HOST}.local"
        self.jar.set_cookie(
            Cookie(0, name, quoted, None, False, host, False, False, "/", True, False, None, True, None, None, {})
        )

    def __delitem__(self, name: str) -> None:
        found = [cookie for cookie in self.jar if cookie.name == name]
        if not found:
            raise KeyError(name)
        for cookie in found:
            self.jar.clear(cookie.domain, cookie.path, cookie.name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(cookie.name for cookie in self.jar))

    def __len__(self) -> int:
        return len({cookie.name for cookie in self.jar})

    def give(self, request: Outgoing) -> None:
        """Add the Cookie field, unless the test gave one."""
        if not len(self.jar) or request.has("cookie"):
            return
        asked = _as_urllib(request)
        self.jar.add_cookie_header(asked)
        value = asked.get_header("Cookie")
        if value:
            request.add("cookie", value)

    def take(self, request: Outgoing, head: Head) -> None:
        """Keep the cookies that the answer sets."""
        fields = head.headers.get_all("set-cookie")
        if fields:
            answer = Message()
            for value in fields:
                answer["Set-Cookie"] = value
            self.jar.extract_cookies(_Answer(answer), _as_urllib(request))  # type: ignore[arg-type]


def _plain(value: str) -> str:
    """A value as the app's handlers read it: octal escapes undone."""
    pairs = parse_cookies([b"x=" + value.encode("latin-1", "replace")])
    return pairs[0][1] if pairs else value


class _Answer:
    """The part of a urllib response that the jar uses."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def info(self) -> Message:
        return self._message


def _as_urllib(request: Outgoing) -> urllib.request.Request:
    path = request.target if request.target.startswith("/") else "/"
    return urllib.request.Request(f"http://{HOST}{path}", method=request.method)
