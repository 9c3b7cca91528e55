"""lxml in workers: a source that has to wait is read before the parser takes its lock in C."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from coserver import run_blocking
from coserver.hooks import install, uninstall

etree = pytest.importorskip("lxml.etree")
html = pytest.importorskip("lxml.html")
objectify = pytest.importorskip("lxml.objectify")

pytestmark = pytest.mark.usefixtures("hooked")

XML = b"<a><b>1</b></a>"
XSD = b'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a" type="xs:string"/></xs:schema>'
RNG = b'<element name="a" xmlns="http://relaxng.org/ns/structure/1.0"><text/></element>'


class Slow:
    """A file object whose ``read`` suspends."""

    name = "slow.xml"

    def __init__(self, data: Any) -> None:
        self._file = io.StringIO(data) if isinstance(data, str) else io.BytesIO(data)

    def read(self, size: int = -1) -> Any:
        time.sleep(0.05)
        return self._file.read(size)


PARSES: dict[str, Callable[[], Any]] = {
    "parse": lambda: etree.parse(Slow(XML)).getroot().tag,
    "text": lambda: etree.parse(Slow(XML.decode())).getroot().tag,
    "own parser": lambda: etree.parse(Slow(XML), etree.XMLParser()).getroot().tag,
    "html": lambda: html.parse(Slow(b"<a>x</a>")).find(".//a").tag,
    "objectify": lambda: objectify.parse(Slow(XML)).getroot().tag,
    "iterparse": lambda: [element.tag for _, element in etree.iterparse(Slow(XML))][-1],
    "schema": lambda: etree.XMLSchema(file=Slow(XSD)).validate(etree.fromstring(b"<a>x</a>")) and "a",
    "relaxng": lambda: etree.RelaxNG(file=Slow(RNG)).validate(etree.fromstring(b"<a>x</a>")) and "a",
}


@pytest.mark.parametrize("name", PARSES)
async def test_others_parse_meanwhile(name: str) -> None:
    found: list[Any] = []

    async def one() -> None:
        found.append(await run_blocking(PARSES[name]))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
            await anyio.sleep(0.01)
            assert await run_blocking(lambda: etree.parse(io.BytesIO(XML)).getroot().tag) == "a"
    assert found == ["a"] * 3


async def test_urls_messages_and_paths_are_as_before(tmp_path: Path) -> None:
    path = tmp_path / "file.xml"
    path.write_bytes(XML)

    def parse() -> None:
        assert etree.parse(Slow(XML)).docinfo.URL == "slow.xml"
        assert etree.parse(Slow(XML), base_url="http://x/").docinfo.URL == "http://x/"
        assert str(path) == etree.parse(str(path)).docinfo.URL
        assert etree.parse(path).getroot().tag == "a"
        with path.open("rb") as file:
            assert str(path) == etree.parse(file).docinfo.URL
        with pytest.raises(etree.XMLSyntaxError, match="Opening and ending tag mismatch") as wrong:
            etree.parse(Slow(b"<a><b></a>"))
        assert wrong.value.filename == "slow.xml"
        with pytest.raises(OSError, match=r"nowhere\.xml"):
            etree.parse(str(tmp_path / "nowhere.xml"))
        with pytest.raises(TypeError):
            etree.parse(None)

    await run_blocking(parse)


async def test_a_pipe_is_read_while_others_go_on() -> None:
    reads, writes = os.pipe()

    def parse() -> str:
        with os.fdopen(reads, "rb") as file:
            tag: str = etree.parse(file).getroot().tag
            return tag

    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            await anyio.sleep(0.02)
            os.write(writes, XML)
            os.close(writes)

        tasks.start_soon(write)
        assert await run_blocking(parse) == "a"


def test_uninstall_puts_all_back() -> None:
    before = etree.parse, objectify.parse, etree.XMLSchema.__init__
    uninstall()
    try:
        assert type(etree.parse).__name__ in ("builtin_function_or_method", "cython_function_or_method")
        assert etree.XMLSchema(file=io.BytesIO(XSD))
    finally:
        install()
    assert etree.parse(io.BytesIO(XML)).getroot().tag == "a"
    assert before[0].__name__ == etree.parse.__name__ == "parse"
