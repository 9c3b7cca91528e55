"""Family "drivers": libraries that need only be told; each is a row of LATE.

psycopg 3's binary build waits in C, but can also wait in Python, which is hooked. Django's ORM refuses to work where an
event loop runs; in a worker it may. lxml's parsers hold a lock of their own in C while they read a file object: a
worker that suspended in its ``read`` would stop the loop at the next parse, so it reads the file first. None of them is
imported for this: a module that is there is changed at once, another one when it is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any

from greenlet import getcurrent

from ..import_hook import ImportHook
from ..install import installed
from ..patch import Shim, set_attribute
from ..workers import Worker


def _psycopg_wait(waiting: Any) -> Callable[..., Any] | None:
    """A replacement of psycopg's ``wait``; None if it waits in Python already, by default or by the user's choice."""
    original = waiting.wait
    if original is not getattr(waiting, "wait_c", None):
        return None
    in_python = getattr(waiting, "wait_poll", waiting.wait_selector)

    def wait(gen: Any, fileno: int, *args: Any, **kwargs: Any) -> Any:
        chosen: Any = in_python if type(getcurrent()) is Worker else original
        return chosen(gen, fileno, *args, **kwargs)

    return wait


def _django_running_loop(django: Any) -> Callable[..., Any]:
    """A replacement of the function that Django calls before each call of the ORM. A worker may block, as a thread."""
    original = django.get_running_loop

    def get_running_loop() -> Any:
        if type(getcurrent()) is Worker:
            raise RuntimeError("no running event loop")
        return original()

    return get_running_loop


def _lxml_parse(module: Any) -> Callable[..., Any]:
    """A replacement of ``parse``: a worker has read the whole source before the parser begins."""
    original = module.parse

    def parse(source: Any, parser: Any = None, *, base_url: str | None = None) -> Any:
        if type(getcurrent()) is Worker:
            source, base_url = _read_first(source, base_url)
        return original(source, parser, base_url=base_url)

    return parse


def _lxml_init(name: str) -> Callable[[Any], Callable[..., Any]]:
    """The same for a class that takes ``file``."""

    def make(module: Any) -> Callable[..., Any]:
        original = getattr(module, name).__init__

        def __init__(self: Any, *args: Any, file: Any = None, **kwargs: Any) -> None:  # noqa: N807
            if file is not None:
                kwargs["file"] = _read_first(file, None)[0] if type(getcurrent()) is Worker else file
            original(self, *args, **kwargs)

        return __init__

    return make


def _read_first(source: Any, base_url: str | None) -> tuple[Any, str | None]:
    """The source's content in memory, and its URL as lxml finds it. A path is left to lxml, which reads it in C."""
    if isinstance(source, str) and source.lower().startswith(("http://", "https://", "ftp://")):
        from urllib.request import urlopen

        with urlopen(source) as answer:
            return BytesIO(answer.read()), base_url or answer.geturl()
    if not callable(getattr(source, "read", None)) or isinstance(source, BytesIO | StringIO):
        return source, base_url
    url = base_url
    if url is None:
        geturl = getattr(source, "geturl", None)
        named = geturl() if callable(geturl) else getattr(source, "name", None) or getattr(source, "filename", None)
        url = named if isinstance(named, str) else None
    content = source.read()
    return (StringIO(content) if isinstance(content, str) else BytesIO(content)), url


Make = Callable[[Any], Callable[..., Any] | None]
#: By module: the names to replace, and the functions that make the replacement, or None, from the module.
LATE: dict[str, dict[str, Make]] = {
    "psycopg.waiting": {"wait": _psycopg_wait},
    "django.utils.asyncio": {"get_running_loop": _django_running_loop},
    "lxml.etree": {
        "parse": _lxml_parse,
        "XMLSchema.__init__": _lxml_init("XMLSchema"),
        "RelaxNG.__init__": _lxml_init("RelaxNG"),
    },
    "lxml.objectify": {"parse": _lxml_parse},
}
#: The originals, by module and name, while they are replaced.
_originals: dict[tuple[str, str], Any] = {}


def _replace(module: Any) -> None:
    for path, make in LATE[module.__name__].items():
        made = make(module)
        if made is not None:
            owner, name = _place(module, path)
            _originals.setdefault((module.__name__, path), getattr(owner, name))
            set_attribute(owner, name, made)


def _put_back(module: Any) -> None:
    for path in LATE[module.__name__]:
        original = _originals.pop((module.__name__, path), None)
        if original is not None:
            set_attribute(*_place(module, path), original)


def _place(module: Any, path: str) -> tuple[Any, str]:
    """The module, or its class, and the name there."""
    holder, _, name = path.rpartition(".")
    return (getattr(module, holder) if holder else module), name


_import_hook = ImportHook(LATE, _replace)


def settle() -> None:
    """After the install and after the uninstall."""
    on = "drivers" in installed()
    if not _import_hook.switch(on):
        return
    for module in filter(None, map(sys.modules.get, LATE)):
        (_replace if on else _put_back)(module)


ROWS: tuple[Shim, ...] = ()
