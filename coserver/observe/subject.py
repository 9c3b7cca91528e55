"""The subject of a filter: an exchange under way, in a snapshot, or in a trace. All have the same names.

Fields are lines, "name: value", as they are shown. A value that is not known is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Subject(Protocol):
    """One exchange. Its values are read without waiting; ``seconds`` is its duration, or the time so far."""

    @property
    def server(self) -> str:
        """The app's name."""
        ...

    @property
    def protocol(self) -> str:
        """Either "http" or "tcp"."""
        ...

    @property
    def method(self) -> str: ...

    @property
    def url(self) -> str:
        """Scheme, host and target as one; for TCP the listener's name as tcp://name."""
        ...

    @property
    def host(self) -> str: ...

    @property
    def status(self) -> int:
        """The response's status; 0 while there is none."""
        ...

    @property
    def src(self) -> str:
        """The client's address and port."""
        ...

    @property
    def dst(self) -> str:
        """The listener's address and port."""
        ...

    @property
    def phase(self) -> str:
        """The phase that it is in; the phase in which it ended, if it is over."""
        ...

    @property
    def seconds(self) -> float: ...

    @property
    def error(self) -> str:
        """What went wrong, in words; "" if nothing did."""
        ...

    @property
    def marked(self) -> bool: ...

    @property
    def upstreams(self) -> Sequence[str]:
        """The names of the upstreams that it asked, at any depth."""
        ...

    def request_lines(self) -> Iterable[str]: ...

    def response_lines(self) -> Iterable[str]: ...

    def request_content(self) -> bytes:
        """The request's body, as far as it is known."""
        ...

    def response_content(self) -> bytes: ...
