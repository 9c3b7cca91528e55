"""Forms: urlencoded and multipart, in memory and on disk; uploads are windows onto the body."""

from __future__ import annotations

import gc
import io
import json
import os
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coserver import App, HTTPException, Limits, Request, Upload, testing
from coserver.protocol.fields import Headers
from coserver.protocol.head import RequestHead
from coserver.server.handler.multipart import MultipartReader
from coserver.server.handler.uploads import Spool

from ..clients import connect, get, post, talking, until

URLENCODED = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = "Content-Type: multipart/form-data; boundary=B"
#: What spools: a body longer than this.
SMALL = Limits(body_buffer=100)
BOTH = pytest.mark.parametrize("limits", [Limits(), SMALL], ids=["memory", "disk"])


def part(name: str, content: bytes, filename: str | None = None, *fields: str) -> bytes:
    """One part, with the boundary before it."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = "".join(f"{line}\r\n" for line in ("--B", disposition, *fields, ""))
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def sized(body: bytes, limits: Limits) -> bytes:
    """Long enough to be spooled, if that is wanted: what comes in one piece with its head is in memory already."""
    return body + b" " * (300_000 if limits is SMALL else 0)


def request(body: bytes, content_type: str = MULTIPART) -> Request:
    head = RequestHead("POST", b"/", 1, [(b"host", b"t"), (b"content-type", content_type.partition(": ")[2].encode())])
    made = Request(head, 1, "peer", {})
    made.set_body(body)
    return made


def describe(value: str | Upload) -> Any:
    if isinstance(value, str):
        return value
    return [value.filename, value.content_type, value.size, value.read().decode("latin-1")]


def make() -> App:
    app = App()

    @app.post("/def")
    def plain(request: Request) -> Any:
        assert request.form() is request.form()
        return [[name, describe(value)] for name, value in request.form().pairs()]

    @app.post("/async")
    async def on_the_loop(request: Request) -> Any:
        return plain(request)

    @app.post("/disk")
    async def disk(request: Request) -> str:
        return str(request.spool is not None)

    return app


async def show(client: Any, body: bytes, *fields: str, path: str = "/def") -> Any:
    answer = await client.ask(post(path, body, *fields))
    return answer.status, answer.text


# Urlencoded.


@pytest.mark.parametrize("path", ["/def", "/async"])
async def test_urlencoded(path: str) -> None:
    async with talking(make()) as (_, client):
        fields = [("a", "1"), ("b", "é €+&=%"), ("a", ""), ("", "x")]
        for kind in (URLENCODED, URLENCODED.upper() + " ; charset=UTF-8"):
            answer = await client.ask(post(path, urlencode(fields).encode(), kind))
            assert answer.text == '[["a","1"],["b","é €+&=%"],["a",""],["","x"]]'
        assert (await show(client, b"", URLENCODED, path=path)) == (200, "[]")
        assert (await show(client, b"a=%E9\xff", URLENCODED, path=path)) == (200, '[["a","\ufffd\ufffd"]]')


async def test_urlencoded_has_limits() -> None:
    async with talking(make(), limits=Limits(form_fields=3, form_text=50)) as (_, client):
        assert (await show(client, b"a&b&c", URLENCODED))[0] == 200
        status, text = await show(client, b"a&b&c&d", URLENCODED)
        assert (status, "at most 3 names" in text) == (413, True)
        status, text = await show(client, b"a=" + b"x" * 49, URLENCODED)
        assert (status, "may have 50 bytes; this one has 51" in text) == (413, True)
    async with talking(make(), limits=SMALL) as (_, client):
        assert (await show(client, b"a=" + b"x" * 200_000, URLENCODED))[0] == 200  # spooled


@pytest.mark.parametrize("kind", ["", "Content-Type: application/json", "Content-Type: text/plain\x80"])
async def test_what_is_no_form(kind: str) -> None:
    async with talking(make()) as (_, client):
        answer = await client.ask(post("/def", b"a=1", *([kind] if kind else [])))
        assert answer.status == 415
        assert "A form is wanted: multipart/form-data or application/x-www-form-urlencoded; " in answer.text
        assert answer.headers["accept"] == "multipart/form-data, application/x-www-form-urlencoded"
        assert (await client.ask(get("/def", method="POST"))).status == 415


# Multipart.


@BOTH
@pytest.mark.parametrize("path", ["/def", "/async"])
async def test_multipart(limits: Limits, path: str) -> None:
    content = b"x\r\n--\r\n--b" * 20
    body = form(
        part("a", b"1"),
        part("f", content, "é \u20ac.txt", "Content-Type: text/x; a=b"),
        part("a", "é".encode()),
        part("f", b"", "", "Content-Type: application/octet-stream"),
        part("l", b"\xe9", None, "Content-Type: text/plain; charset=ISO-8859-1"),
        part("bad", b"\xe9"),
        part("e", b""),
    )
    async with talking(make(), limits=limits) as (_, client):
        status, text = await show(client, sized(body, limits), MULTIPART, path=path)
        assert status == 200, text
        assert json.loads(text) == [
            ["a", "1"],
            ["f", ["é €.txt", "text/x; a=b", len(content), content.decode()]],
            ["a", "é"],
            ["f", ["", "application/octet-stream", 0, ""]],
            ["l", "é"],
            ["bad", "\ufffd"],
            ["e", ""],
        ]
        assert await show(client, sized(b"--B--\r\n", limits), MULTIPART, path=path) == (200, "[]")
        assert await show(client, sized(body, limits), MULTIPART, path="/disk") == (200, str(limits is SMALL))


HEAD = b'Content-Disposition: form-data; name="a"\r\n'
FILE = b'Content-Disposition: form-data; name="f"; filename="x"\r\n'
A, B = part("a", b"1"), part("b", b"2")
END = b"--B--\r\n"
LIKE = "\r\n--Bx\r\n--B-\r\n --B\r\n--B  y"
#: As people send it: the body, and the names and values that are in it.
SENT: dict[str, tuple[bytes, list[tuple[str, Any]]]] = {
    "no blank line and no body": (b"--B\r\n" + HEAD + B + END, [("a", ""), ("b", "2")]),
    "the same last": (B + b"--B\r\n" + HEAD + END, [("b", "2"), ("a", "")]),
    "the same alone": (b"--B\r\n" + HEAD + b"--B--", [("a", "")]),
    "the same, a file": (b"--B\r\n" + FILE + B + END, [("f", ["x", "", 0, ""]), ("b", "2")]),
    "a blank line and no body": (b"--B\r\n" + HEAD + b"\r\n" + B + END, [("a", ""), ("b", "2")]),
    "the same at the end": (b"--B\r\n" + FILE + b"\r\n" + END, [("f", ["x", "", 0, ""])]),
    "an empty body": (part("a", b"") + B + END, [("a", ""), ("b", "2")]),
    "a body of a line end": (part("a", b"\r\n") + B + END, [("a", "\r\n"), ("b", "2")]),
    "a preamble": (b"This is a message\r\nin MIME format\r\n" + A + END, [("a", "1")]),
    "a preamble like a boundary": (b"--Bx\r\n\r\n--By\r\n--B-\r\n" + A + END, [("a", "1")]),
    "a preamble with the boundary inside": (b"x --B\r\ny\r\n" + A + END, [("a", "1")]),
    "an empty line before": (b"\r\n" + A + END, [("a", "1")]),
    "only a preamble and the end": (b"x\r\n--B--", []),
    "an epilogue": (A + END + b"bye\r\n" + B + b"\r\n--B\r\n", [("a", "1")]),
    "an epilogue without a line end": (A + b"--B--and so on", [("a", "1")]),
    "blanks after the boundaries": (
        (A + B).replace(b"--B\r\n", b"--B \t \r\n") + b"--B-- \t\r\n",
        [("a", "1"), ("b", "2")],
    ),
    "blanks after the end": (A + b"--B--  ", [("a", "1")]),
    "a folded field": (
        b'--B\r\nContent-Disposition: form-data;\r\n name="f";\r\n\tfilename="x"\r\n'
        b"Content-Type:\r\n  text/x\r\n\r\n1\r\n" + END,
        [("f", ["x", "text/x", 1, "1"])],
    ),
    "content like a boundary": (
        part("f", LIKE.encode(), "x") + B + END,
        [("f", ["x", "", len(LIKE), LIKE]), ("b", "2")],
    ),
    "a charset for all": (
        part("_charset_", b"ISO-8859-1") + part("a", b"\xe4") + END,
        [("_charset_", "ISO-8859-1"), ("a", "ä")],
    ),
    "and one of its own": (
        part("a", b"\xe4") + part("b", "é".encode(), None, "Content-Type: text/plain; charset=utf-8")
        + part("_charset_", b"windows-1252") + part("c", b"\x80") + END,
        [("a", "ä"), ("b", "é"), ("_charset_", "windows-1252"), ("c", "€")],
    ),
    "an empty charset": (part("_charset_", b"") + part("a", "é".encode()) + END, [("_charset_", ""), ("a", "é")]),
}  # fmt: skip


@pytest.mark.parametrize("what", SENT)
def test_as_people_send_it(what: str) -> None:
    """RFC 2046 §5.1.1, RFC 7578; cut at every byte too."""
    body, expected = SENT[what]
    assert [(name, describe(value)) for name, value in request(body).form().pairs()] == expected
    for step in (1, 2, 3, 7):
        reader, whole = MultipartReader(MULTIPART, Limits()), MultipartReader(MULTIPART, Limits())
        whole.feed(body)
        for at in range(0, len(body), step):
            reader.feed(body[at : at + step])
        assert [(p.name, p.filename, p.size, p.fields, b"".join(p.text)) for p in reader.parts()] == [
            (p.name, p.filename, p.size, p.fields, b"".join(p.text)) for p in whole.parts()
        ]
        for one in reader.parts():
            if one.filename is not None:
                content = body[one.offset : one.offset + one.size].decode()
                assert (one.name, content) in [(name, value[3]) for name, value in expected if type(value) is list]


@BOTH
async def test_as_people_send_it_to_a_server(limits: Limits) -> None:
    async with talking(make(), limits=limits) as (_, client):
        for body, expected in SENT.values():
            status, text = await show(client, sized(body, limits), MULTIPART)
            assert (status, json.loads(text)) == (200, [[name, value] for name, value in expected])


@given(st.lists(st.sampled_from([b"\r\n", b"--B", b"--", b" ", b"\r", b"\n", b"x", HEAD, FILE, b"X: y\r\n", b":"])))
def test_cuts_change_nothing(pieces: list[bytes]) -> None:
    body = b"--B\r\n" + FILE + b"".join(pieces) + b"\r\n--B--"
    seen = set()
    for step in (1, 3, len(body)):
        reader = MultipartReader(MULTIPART, Limits())
        for at in range(0, len(body), step):
            reader.feed(body[at : at + step])
        try:
            found = [(p.name, p.filename, p.offset * (p.size > 0), p.size, b"".join(p.text)) for p in reader.parts()]
            seen.add(repr(found))
        except HTTPException as error:
            seen.add(str(error))
    assert len(seen) == 1


def test_a_long_preamble_and_many_pieces_cost_little() -> None:
    reader = MultipartReader(MULTIPART, Limits())
    for _ in range(20_000):
        reader.feed(b"--Bx but no boundary" * 4)
    assert len(reader._rest) < 10
    reader.feed(b"\r\n" + A + END)
    assert [part.name for part in reader.parts()] == ["a"]
BROKEN = {
    "empty": b"",
    "no boundary anywhere": b"hello",
    "another boundary": form(part("a", b"1")).replace(b"--B", b"--C"),
    "cut in a part": part("a", b"1"),
    "cut in a head": b"--B\r\nContent-Dis",
    "cut in the boundary": part("a", b"1") + b"--B-",
    "no disposition": b"--B\r\nX: y\r\n\r\n1\r\n--B--\r\n",
    "no head": b"--B\r\n\r\n1\r\n--B--\r\n",
    "no name": b"--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--\r\n",
    "an attachment": b'--B\r\nContent-Disposition: attachment; name="a"\r\n\r\n1\r\n--B--\r\n',
    "no field": b"--B\r\nnonsense\r\n\r\n1\r\n--B--\r\n",
    "a bare LF in a head": b"--B\r\n" + HEAD.replace(b'"a"', b'"a\n"') + b"\r\n1\r\n--B--\r\n",
    "a bare CR in a head": b"--B\r\n" + HEAD.replace(b'"a"', b'"a\r"') + b"\r\n1\r\n--B--\r\n",
    "a NUL in a head": b"--B\r\n" + HEAD.replace(b'"a"', b'"a\0"') + b"\r\n1\r\n--B--\r\n",
    "folds without end": b"--B\r\n" + HEAD + b" x\r\n" * 5000 + b"\r\n1\r\n--B--\r\n",
    "a fold without a field": b"--B\r\n x\r\n" + HEAD + b"\r\n1\r\n--B--\r\n",
    "two boundaries": b"--B\r\n--B\r\n" + HEAD + b"\r\n1\r\n--B--\r\n",
    "bare LF": form(part("a", b"1")).replace(b"\r\n", b"\n"),
    "base64": form(part("a", b"MQ==", None, "Content-Transfer-Encoding: base64")),
    "no charset": form(part("a", b"1", None, "Content-Type: text/plain; charset=nonsense")),
    "a charset that is none": form(part("a", b"\\ud800", None, "Content-Type: text/plain; charset=unicode_escape")),
    "many fields in a head": b"--B\r\n" + b"X: y\r\n" * 50 + HEAD + b"\r\n1\r\n--B--\r\n",
    "a huge field": b"--B\r\nX: " + b"y" * 10_000 + b"\r\n" + HEAD + b"\r\n1\r\n--B--\r\n",
    "padding": b"--B\r\n" + HEAD + b"\r\n1\r\n--B" + b" " * 1000 + b"\r\n" + HEAD + b"\r\n1\r\n--B--\r\n",
}


@BOTH
async def test_broken_ones(limits: Limits, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(make(), limits=limits) as (_, client):
        for what, body in BROKEN.items():
            status, text = await show(client, sized(body, limits), MULTIPART)
            assert status == 400, (what, text)
            assert text.startswith(
                ("400 Bad Request\nThe body is not a multipart form: ", "400 Bad Request\nThe form field")
            )
            # Who does not ask for the form does not hear of it.
            assert (await show(client, sized(body, limits), MULTIPART, path="/disk"))[1] == str(limits is SMALL)
        for kind in ("", "; boundary=", '; boundary=""', "; boundary=" + "x" * 300):
            body = sized(form(part("a", b"1")), limits)
            assert (await show(client, body, "Content-Type: multipart/form-data" + kind))[0] == 400
    assert not caplog.records


@BOTH
async def test_multipart_has_limits(limits: Limits) -> None:
    few = replace(limits, form_fields=3, form_text=500)
    async with talking(make(), limits=few) as (_, client):
        assert (await show(client, sized(form(*[part("a", b"1")] * 3), limits), MULTIPART))[0] == 200
        status, text = await show(client, sized(form(*[part("a", b"1")] * 4), limits), MULTIPART)
        assert (status, "may have 3 fields" in text) == (413, True)
        status, text = await show(client, sized(form(part("a", b"x" * 500)), limits), MULTIPART)
        assert (status, "may have 500 bytes" in text) == (413, True)
        assert (await show(client, form(part("a", b"x" * 5000, "big")), MULTIPART))[0] == 200  # files do not count
        status, text = await show(client, sized(form(part("a", b"1", "f", "X: " + "y" * 450)), limits), MULTIPART)
        assert (status, "may have 500 bytes" in text) == (413, True)  # but what is told of them does


def test_what_looks_like_boundaries_is_refused_before_it_costs() -> None:
    reader = MultipartReader(MULTIPART, Limits())
    reader.feed(b"--B\r\n" + HEAD.replace(b'"\r', b'"; filename="x"\r') + b"\r\n" + b"\r\n--Bx" * 1_000_000)
    with pytest.raises(HTTPException) as caught:
        reader.parts()
    assert caught.value.status == 413
    reader.feed(b"more")  # changes nothing
    with pytest.raises(HTTPException):
        reader.parts()


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('form-data; name="f"; filename="a\\"b\\\\c.txt"', 'a"b\\c.txt'),
        ('form-data; name="f"; filename="a%22b.txt"', "a%22b.txt"),
        ('form-data; name="f"; filename="a;b=c.txt"', "a;b=c.txt"),
        ("form-data; name=f; filename=plain.txt", "plain.txt"),
        ('FORM-DATA; NAME="f"; FileName="x"', "x"),
        ('form-data; name="f"; filename="../../etc/passwd"', "../../etc/passwd"),
        ("form-data; name=\"f\"; filename*=utf-8''%C3%A9%20x.txt", "é x.txt"),
        ('form-data; name="f"; filename="a"; filename*=utf-8\'\'b', "a"),
        ('form-data; name="f"; filename=""', ""),
        ("form-data; name=\"f\"; filename*=ISO-8859-1''%E4.txt", "ä.txt"),
        ("form-data; name=\"f\"; filename*=\"utf-8''%C3%A9.txt\"", "é.txt"),
        ("form-data; name=\"f\"; filename*=\"UTF-8'en'a%20b;c.txt\"", "a b;c.txt"),
        ("form-data; name=\"f\"; FileName*=windows-1252''%80.txt", "€.txt"),
        ("form-data; name=\"f\"; filename*=nonsense''%C3%A9.txt", "é.txt"),
        ("form-data; name=\"f\"; filename*=utf-8''%E4.txt", "ä.txt"),
        ('form-data; name="f"; filename*=plain.txt', "plain.txt"),
        ("form-data; name*=utf-8''f; filename*=''x", "x"),
        ('form-data; name = "f" ; filename = "x y"', "x y"),
        ('form-data; name="f"; filename="C:\\dir\\x.txt"', "C:\\dir\\x.txt"),
    ],
)
def test_filenames(disposition: str, filename: str) -> None:
    body = b"--B\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n1\r\n--B--"
    upload = request(body).form()["f"]
    assert isinstance(upload, Upload)
    assert upload.filename == filename
    assert upload.headers["content-disposition"] == disposition


@pytest.mark.parametrize(
    ("filename", "safe"),
    [
        ("a.txt", "a.txt"), ("../../etc/passwd", "passwd"), ("C:\\x\\y.txt", "y.txt"), (".bashrc", "bashrc"),
        ("...", "upload"), ("", "upload"), ("a/", "upload"), ("a\0b\r\n.t\x7fxt", "ab.txt"), ("..\\..", "upload"),
        ("é €.txt", "é €.txt"), ("\u202egpj.exe", "gpj.exe"), (" . a ", "a"),
        ("é" * 300 + ".tar.gz", "é" * 126 + ".gz"), ("a." + "x" * 300, "a." + "x" * 253), ("x" * 300, "x" * 255),
    ],
)  # fmt: skip
def test_safe_names(filename: str, safe: str) -> None:
    assert Upload(filename, Headers(), b"", 0, 0).safe_name == safe


def test_a_name_as_long_as_a_head_allows() -> None:
    assert len(Upload("é." * 30_000, Headers(), b"", 0, 0).safe_name) < 256  # and takes no second


@given(st.text(max_size=300))
def test_any_name_is_safe(filename: str) -> None:
    safe = Upload(filename.encode("utf-8", "replace").decode(), Headers(), b"", 0, 0).safe_name
    assert safe == os.path.basename(safe)
    assert not safe.startswith(".")
    assert 0 < len(safe.encode()) <= 255
    assert safe.isprintable()


def test_text_and_upload() -> None:
    made = request(form(part("t", b"5"), part("f", b"1", "x"), part("f", b"2", "y"), part("f", b"", ""))).form()
    assert made.text("t") == "5"
    assert made.upload("f").filename == "x"
    assert [upload.filename for upload in made.uploads("f")] == ["x", "y"]
    assert [upload.filename for upload in made.uploads()] == ["x", "y"]
    assert [bool(value) for value in made.get_all("f")] == [True, True, False]
    assert made.get("t", 0, type=int) == 5
    assert repr(made.upload("f")) == "<Upload 'x' no type, 1 bytes>"
    for call in (lambda: made.text("f"), lambda: made.upload("t"), lambda: made.get("f", type=int), lambda: made["no"]):
        with pytest.raises(HTTPException, match="form field") as caught:
            call()
        assert caught.value.status == 400


# Uploads.


@pytest.fixture
def spool() -> Iterator[Spool]:
    made = Spool(None)
    yield made
    made.close()


def test_a_window_is_a_file(spool: Spool, tmp_path: Path) -> None:
    content = b"before0123456789after"
    spool.write([content])
    for source in (content, spool):
        upload = Upload("f", Headers(), source, 6, 10)
        file = upload.file
        assert file is upload.file
        assert file.read(3) == b"012"
        assert upload.file.read() == b"3456789"
        assert file.read() == b""
        assert file.seek(-2, io.SEEK_END) == 8
        assert file.read(100) == b"89"
        assert file.seek(2) == file.tell() == 2
        assert file.seek(1, io.SEEK_CUR) == 3
        assert file.readline() == b"3456789"
        assert file.seek(50) == 50
        assert file.read() == b""
        assert file.readable()
        assert file.seekable()
        assert file.tell() == 50
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 4 if source is spool else 9)  # SEEK_HOLE, which Linux knows and a window does not
        other = upload.open()
        assert (other.read(1), upload.open().read()) == (b"0", b"0123456789")
        assert upload.read() == b"0123456789"
        upload.save(tmp_path / "x")
        upload.save(str(tmp_path / "x"))
        assert (tmp_path / "x").read_bytes() == b"0123456789"
        assert file.tell() == 50  # nothing of this has moved it
    with pytest.raises(io.UnsupportedOperation):
        upload.open().write(b"y")


def test_several_at_once(spool: Spool, tmp_path: Path) -> None:
    """Interleaved, and from several threads."""
    whole = os.urandom(5_000_000)
    spool.write([whole])
    windows = [(at, 700_000 + at % 7) for at in range(0, 4_000_000, 500_000)]
    uploads = [Upload(f"{at}", Headers(), spool, at, size) for at, size in windows]
    seen: dict[str, bytes] = {upload.filename: b"" for upload in uploads}
    for _ in range(10):
        for upload in uploads:
            seen[upload.filename] += upload.file.read(99_991)
    for at, size in windows:
        assert seen[f"{at}"] == whole[at : at + size]
    threads = [threading.Thread(target=upload.save, args=(tmp_path / upload.filename,)) for upload in uploads * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, size in windows:
        assert (tmp_path / f"{at}").read_bytes() == whole[at : at + size]


def test_when_the_request_is_over(spool: Spool, tmp_path: Path) -> None:
    spool.write([b"x" * 3_000_000])
    upload = Upload("f", Headers(), spool, 0, 3_000_000)
    half_read = upload.open()
    half_read.read(10)
    spool.close()
    spool.close()
    for call in (upload.read, lambda: upload.open().read(), lambda: upload.save(tmp_path / "x"), half_read.read):
        with pytest.raises(ValueError, match=r"read\(\) or save\(\) it in the handler"):
            call()
    assert not (tmp_path / "x").exists()  # a part must not look like the whole


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no disk is ever full here")
def test_a_full_disk() -> None:
    with pytest.raises(OSError, match="No space"):
        Upload("f", Headers(), b"x" * 100_000, 0, 100_000).save("/dev/full")
    assert os.path.exists("/dev/full")  # only a file is taken away again


async def test_over_on_the_wire(tmp_path: Path) -> None:
    app = App()
    kept: list[Upload] = []

    @app.post("/keep")
    async def keep(request: Request) -> str:
        kept.extend(request.form().uploads())
        return "kept"

    async with talking(app, limits=SMALL) as (_, client):
        assert (await show(client, form(part("f", b"x" * 300_000, "x")), MULTIPART, path="/keep")) == (200, "kept")
    with pytest.raises(ValueError, match="in the handler"):
        kept[0].read()


@pytest.mark.parametrize("path", ["/def", "/thread"])
async def test_saving(tmp_path: Path, path: str) -> None:
    """A large one, from a worker, which it suspends while others are served, and from a thread."""
    app = App()
    content = os.urandom(3_000_000)
    threads: list[int] = []
    real = Upload._save

    def watched(self: Upload, target: Any) -> None:
        threads.append(threading.get_ident())
        real(self, target)

    @app.post("/def")
    def plain(request: Request) -> str:
        request.form().upload("f").save(tmp_path / "saved")
        return "saved"

    @app.post("/thread")
    async def thread(request: Request) -> str:
        await anyio.to_thread.run_sync(request.form().upload("f").save, tmp_path / "saved")
        return "saved"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Upload, "_save", watched)
        async with talking(app) as (_, client):
            assert (await show(client, form(part("f", content, "x")), MULTIPART, path=path)) == (200, "saved")
            assert (tmp_path / "saved").read_bytes() == content
    assert threads
    assert threading.get_ident() not in threads


async def test_a_place_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.post("/")
    def save(request: Request) -> None:
        request.form().upload("f").save(tmp_path)

    async with talking(app) as (_, client):
        assert (await show(client, form(part("f", b"x", "x")), MULTIPART, path="/"))[0] == 500
    assert "IsADirectoryError" in caplog.text


# On the way to disk.


async def test_large_ones_are_parsed_where_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    feeders: set[int] = set()
    real = MultipartReader.feed

    def feed(self: MultipartReader, piece: bytes) -> None:
        feeders.add(threading.get_ident())
        real(self, piece)

    monkeypatch.setattr(MultipartReader, "feed", feed)
    async with talking(make()) as (_, client):
        body = form(part("a", b"1"), part("f", b"x" * 2_000_000, "x"), part("b", b"2"))
        answer = await client.ask(post("/async", body, MULTIPART))
        assert answer.status == 200
        assert answer.text.startswith('[["a","1"],["f",["x","",2000000,"xxx')
        assert answer.text.endswith('xxx"]],["b","2"]]')
    assert feeders
    assert threading.get_ident() not in feeders


@BOTH
async def test_nothing_of_a_form_waits_for_the_collector(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload's text must not stay because parts of a reader hold one another."""
    alive: weakref.WeakSet[MultipartReader] = weakref.WeakSet()
    seen: list[int] = []
    real = MultipartReader.__init__

    def make_reader(self: MultipartReader, content_type: str, limits: Limits) -> None:
        alive.add(self)
        seen.append(1)
        real(self, content_type, limits)

    monkeypatch.setattr(MultipartReader, "__init__", make_reader)
    gc.collect()
    gc.disable()
    try:
        async with talking(make(), limits=limits) as (_, client):
            await show(client, sized(part("a", b"1"), limits), MULTIPART, path="/disk")  # and is not asked for
            for body in (
                form(part("a", b"1", "x"), part("b", b"2")),
                b"broken",
                b"--B\r\n" + HEAD * 20,
                part("a", b"1"),
            ):
                await show(client, sized(body, limits), MULTIPART)
            assert (await client.ask(get("/none"))).status == 404
            assert len(seen) == 4 + (limits is SMALL)
            await until(lambda: not alive)  # a pooled thread lets go of its last call a moment later
    finally:
        gc.enable()


@BOTH
async def test_a_trickle(limits: Limits) -> None:
    body = form(part("a", b"1"), part("f", b"\r\n--\r\r\n-" * 20, "x"), part("b", b"2"))
    sent = post("/async", body, MULTIPART)
    async with talking(make(), limits=limits) as (_, client):
        for at in range(0, len(sent), 11):
            await client.send(sent[at : at + 11])
            await anyio.lowlevel.checkpoint()
        answer = await client.answer()
        assert answer.status == 200
        assert '["f",["x","",160,"' in answer.text


async def test_two_at_once_and_a_pipeline() -> None:
    async with testing.serving(make(), limits=SMALL) as server:

        async def one(letter: str) -> None:
            body = form(part("f", letter.encode() * 300_000, letter), part("a", letter.encode()))
            async with connect(server.port) as client:
                await client.send(post("/def", body, MULTIPART) * 2)
                for _ in range(2):
                    text = (await client.answer()).text
                    assert text == f'[["f",["{letter}","",300000,"{letter * 300_000}"]],["a","{letter}"]]'

        async with anyio.create_task_group() as tasks:
            for letter in "abcd":
                tasks.start_soon(one, letter)


async def test_a_client_that_leaves_in_the_middle() -> None:
    async with testing.serving(make(), limits=SMALL) as server:
        async with connect(server.port) as client:
            await client.send(
                get("/def", "Content-Length: 1000000", MULTIPART, method="POST") + part("f", b"x" * 9000, "x")
            )
            await anyio.sleep(0.03)
        await until(lambda: not server.connections)


async def test_the_server_stops_in_the_middle() -> None:
    """No descriptor and no thread is left of it."""
    async with testing.serving(make(), limits=SMALL) as server, connect(server.port) as client:
        await client.send(get("/def", "Content-Length: 5000000", MULTIPART, method="POST") + part("f", b"x" * 99, "x"))
        await client.send(b"x" * 2_000_000)
        await until(lambda: server.connections)
        server.stop(0)
        assert b" 200 " not in await client.gone()


async def test_a_streamed_route_has_no_form() -> None:
    app = App()
    raised: list[RuntimeError] = []

    @app.post("/", stream=True)
    async def handler(request: Request) -> str:
        try:
            request.form()
        except RuntimeError as error:
            raised.append(error)
        return str(sum([len(piece) async for piece in request.stream()]))

    async with talking(app) as (_, client):
        body = form(part("a", b"1"))
        assert (await show(client, body, MULTIPART, path="/")) == (200, str(len(body)))
    assert "stream=True" in str(raised[0])
    assert "request.stream()" in str(raised[0])


# Anything.

contents = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"B", b"--B", b"\r\n--", b"x", b"\0\xff", b" "]), max_size=12
).map(b"".join)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=8)
parts = st.lists(st.tuples(names, contents, st.none() | names), max_size=5)


@given(parts, st.lists(st.integers(1, 30), max_size=40))
def test_what_was_sent_is_found(sent: list[tuple[str, bytes, str | None]], sizes: list[int]) -> None:
    """Whatever the pieces: every window lies where its content is."""
    sent = [each for each in sent if b"\r\n--B" not in b"\r\n" + each[1] + b"\r\n"]
    body = form(*(part(*each) for each in sent))
    reader = MultipartReader(MULTIPART, Limits())
    at = 0
    for size in sizes:
        reader.feed(body[at : at + size])
        at += size
    reader.feed(body[at:])
    found = [
        (
            each.name,
            b"".join(each.text) if each.filename is None else body[each.offset : each.offset + each.size],
            each.filename,
        )
        for each in reader.parts()
    ]
    assert found == sent


@given(
    st.lists(
        st.sampled_from(
            [
                b"--B",
                b"\r\n",
                b"--B\r\n",
                b"\r\n--B--",
                b"\r\n--B\r\n",
                HEAD,
                b"\r\n\r\n",
                b"x",
                b":",
                b"\xff",
                b" ",
                b"--",
                b";",
            ]
        )
        | st.binary(max_size=6),
        max_size=20,
    ),
    st.integers(1, 50),
)
def test_any_octets(pieces: list[bytes], size: int) -> None:
    body = b"".join(pieces)
    reader, whole = MultipartReader(MULTIPART, Limits()), MultipartReader(MULTIPART, Limits())
    for at in range(0, len(body), size):
        reader.feed(body[at : at + size])
    whole.feed(body)
    outcomes = []
    for each in (reader, whole):
        try:
            outcomes.append(
                [(p.name, p.filename, b"".join(p.text), p.offset if p.size else 0, p.size) for p in each.parts()]
            )
        except HTTPException as error:
            assert error.status in (400, 413)  # noqa: PT017
            error.detail.encode()
            outcomes.append([])
    assert outcomes[0] == outcomes[1]


@given(st.text(max_size=40), st.binary(max_size=60))
def test_any_content_type(kind: str, body: bytes) -> None:
    for content_type in (
        f"x: {kind}",
        f"x: multipart/form-data; {kind}",
        f"x: multipart/form-data; boundary={kind}",
        URLENCODED,
    ):
        head = RequestHead("POST", b"/", 1, [(b"host", b"t"), (b"content-type", content_type[3:].encode())])
        made = Request(head, 1, "peer", {})
        made.set_body(body)
        try:
            made.form()
        except HTTPException as error:
            assert error.status in (400, 413, 415)  # noqa: PT017
            error.detail.encode()
            [value.encode("latin-1") for value in error.headers.values()]
