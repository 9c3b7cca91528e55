"""A static folder: what is in it is served, and nothing else is, however it is asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coserver import App, HTTPException, Request, Server, SetupError
from coserver.app.static import StaticFolder
from coserver.testing import order_check

from .get import TIMEOUT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a secret beside it, and one inside it."""
    top = tmp_path_factory.mktemp("top")
    (top / "secret.txt").write_text("secret")
    (top / "site-secret").mkdir()
    (top / "site-secret" / "a.txt").write_text("secret")
    site = top / "site"
    for folder in ("sub", "bare", ".git", "a:b", "evil.example", "pipes"):
        (site / folder).mkdir(parents=True)
    (site / "index.html").write_text("index")
    (site / "a.txt").write_text("a")
    (site / "é ü.txt").write_text("e")
    (site / "sub" / "index.html").write_text("sub index")
    (site / "sub" / "b.txt").write_text("b")
    (site / "a:b" / "index.html").write_text("colon")
    (site / "evil.example" / "index.html").write_text("evil")
    (site / "bare" / "c.txt").write_text("c")
    (site / ".git" / "config").write_text("secret")
    (site / ".env").write_text("secret")
    (site / "inside").symlink_to("sub")
    (site / "outside").symlink_to(top)
    (site / "outside.txt").symlink_to(top / "secret.txt")
    (site / "twin").symlink_to(top / "site-secret")
    (site / "loop").symlink_to("loop")
    (site / "bare" / "index.html").symlink_to(top / "secret.txt")
    os.mkfifo(site / "pipe")
    return site


def make(site: Path) -> App:
    inner = App()
    inner.static("/files", site)
    inner.static("/", site / "sub")
    app = App()
    app.static("/files", site)
    app.static("/all", site, hidden=True, index=None)
    app.mount("/api", inner)

    @app.get("/files/special")
    async def special(request: Request) -> str:
        return "special"

    @app.error(404)
    async def not_found(error: HTTPException) -> str:
        return "nothing here"

    return app


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    app = make(site)
    with order_check(app), app.start() as server:
        yield server


def ask(server: Server, target: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, Location and body; the target goes out exactly as it stands, which a library would not let it."""
    with socket.create_connection((server.host, server.port), TIMEOUT) as client:
        client.sendall(f"{method} {target} HTTP/1.1\r\nHost: t.example\r\nConnection: close\r\n\r\n".encode("latin-1"))
        data = b""
        while piece := client.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    locations = [line.partition(": ")[2] for line in lines if line.startswith("location: ")]
    return int(lines[0].split()[1]), "".join(locations), body.decode("utf-8", "replace")


@pytest.mark.parametrize("prefix", ["/files", "/api/files"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/a.txt", "a"),
        ("/", "index"),
        ("/index.html", "index"),
        ("/sub/", "sub index"),
        ("/sub/b.txt", "b"),
        ("/%61.txt?v=1", "a"),
        ("/%C3%A9%20%C3%BC.txt", "e"),
        ("/inside/b.txt", "b"),
        ("/inside/", "sub index"),
        ("/bare/c.txt", "c"),
    ],
)
def test_what_is_there(server: Server, prefix: str, path: str, body: str) -> None:
    assert ask(server, prefix + path) == (200, "", body)
    assert ask(server, prefix + path, "HEAD") == (200, "", "")


@pytest.mark.parametrize(
    "path",
    [
        *("/nowhere", "/a.txt/", "/a.txt/x", "/sub/nowhere", "/sub//b.txt", "//a.txt", "/bare/", "/bare"),
        *("/../secret.txt", "/%2e%2e/secret.txt", "/%2E./secret.txt", "/..%2fsecret.txt", "/sub/../a.txt", "/./a.txt"),
        *("/sub/%2e%2e/%2e%2e/secret.txt", "/..", "/../", "/sub/..", "/sub%2fb.txt", "/sub%2Fb.txt"),
        *("/pipes", "/pipe", "/%2fetc%2fpasswd"),
        *("//etc/passwd", "/..\\secret.txt", "/..%5csecret.txt", "/sub%5Cb.txt", "/sub\\b.txt", "/a.txt%00", "/%00"),
        *("/a.txt%00.html", "/%FF", "/%ED%A0%80", "/" + "x" * 300, "/" + "x/" * 2000, "/~root", "/C:/boot.ini"),
        *("/.env", "/.git/config", "/.git/", "/.git", "/%2eenv", "/sub/.hidden"),
        *("/outside/secret.txt", "/outside/", "/outside", "/outside.txt", "/twin/a.txt", "/loop", "/loop/a"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["/files", "/api/files"])
def test_what_is_not(server: Server, prefix: str, path: str) -> None:
    status, _, body = ask(server, prefix + path)
    assert (status, body) == (404, "nothing here")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/files", "./files/"),
        ("/files?a=b&c=%20d", "./files/?a=b&c=%20d"),
        ("/files/sub", "./sub/"),
        ("/files/sub?//evil.example", "./sub/?//evil.example"),
        ("/files/inside", "./inside/"),
        ("/files/a:b", "./a:b/"),  # not a scheme
        ("/files/evil.example", "./evil.example/"),
        ("/api/files/s%75b", "./s%75b/"),
        ("/api", "./api/"),
        ("http://t.example/files/sub?q", "./sub/?q"),
    ],
)
def test_a_directory_without_its_slash(server: Server, target: str, location: str) -> None:
    assert ask(server, target)[:2] == (302, location)


@pytest.mark.parametrize("target", ["//evil.example", "//evil.example/", "/files//evil.example", "/api//evil.example"])
def test_no_open_redirect(server: Server, target: str) -> None:
    assert ask(server, target)[:2] == (404, "")


def test_below_nothing(server: Server) -> None:
    assert ask(server, "/api/") == (200, "", "sub index")
    assert ask(server, "/api/b.txt") == (200, "", "b")


def test_hidden_ones_and_no_index(server: Server) -> None:
    assert ask(server, "/all/.env") == (200, "", "secret")
    assert ask(server, "/all/.git/config") == (200, "", "secret")
    assert ask(server, "/all/sub/b.txt") == (200, "", "b")
    for path in ("/all", "/all/", "/all/sub", "/all/sub/", "/all/..", "/all/../secret.txt", "/all/outside.txt"):
        assert ask(server, path)[0] == 404


def test_other_methods_and_other_routes(server: Server) -> None:
    assert ask(server, "/files/special") == (200, "", "special")
    assert ask(server, "/files/a.txt", "POST")[0] == 405
    assert ask(server, "/files/a.txt", "OPTIONS")[0] == 204


@pytest.mark.skipif(not os.geteuid(), reason="root may read everything")
def test_what_may_not_be_read(server: Server, site: Path) -> None:
    (site / "locked.txt").write_text("x")
    (site / "locked.txt").chmod(0)
    assert ask(server, "/files/locked.txt")[0] == 403


def test_conditions_and_ranges_come_with_it(server: Server) -> None:
    with socket.create_connection((server.host, server.port), TIMEOUT) as client:
        client.sendall(b"GET /files/index.html HTTP/1.0\r\nRange: bytes=1-2\r\n\r\n")
        data = client.recv(65536)
    assert data.startswith(b"HTTP/1.1 206 ")
    assert data.endswith(b"\r\n\r\nnd")


segment = st.sampled_from(
    ["..", ".", "", "%2e%2e", "%2f", "%5c", "\\", "%00", "sub", "outside", "secret.txt", "twin", "a.txt", "%252e%252e"]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(st.lists(segment | st.text("./%2eEfF5cC0\\ab", max_size=8), max_size=8))
def test_no_path_leads_to_a_secret(server: Server, segments: list[str]) -> None:
    status, location, body = ask(server, "/files/" + "/".join(segments).replace(" ", ""))
    assert status in (200, 302, 404)
    assert "secret" not in body
    assert not location or location.startswith("./")


def test_what_is_named_wrongly(site: Path) -> None:
    app = App()
    with pytest.raises(SetupError, match=r"must exist.*nowhere"):
        app.static("/files", site / "nowhere")
    with pytest.raises(SetupError, match="must exist"):
        app.static("/files", site / "a.txt")
    with pytest.raises(SetupError, match="a prefix starts with '/'"):
        app.static("files", site)
    with pytest.raises(SetupError, match="a prefix starts with '/'"):
        app.static("/files/", site)
    with pytest.raises(SetupError, match="index is the name of a file"):
        app.static("/files", site, index="../secret.txt")
    with pytest.raises(SetupError, match="index is the name of a file"):
        app.static("/files", site, index="")
    assert app.routes == []


def test_a_folder_that_is_a_link_and_one_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to("real")
    app = App()
    app.static("/", tmp_path / "link")
    with order_check(app), app.start() as server:
        assert ask(server, "/a.txt") == (200, "", "a")
        assert ask(server, "/")[0] == 404
        (tmp_path / "real" / "a.txt").unlink()
        (tmp_path / "real").rmdir()
        assert ask(server, "/a.txt")[0] == 404


@pytest.mark.parametrize(("error", "status"), [(PermissionError(13, "no"), 403), (OSError(5, "I/O error"), 500)])
def test_what_the_system_refuses(server: Server, monkeypatch: pytest.MonkeyPatch, error: OSError, status: int) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(StaticFolder, "_open", refuse)
    assert ask(server, "/files/a.txt")[0] == status


def test_without_proc(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems tell where an open file lies only by its path."""

    readlink = os.readlink

    def without(path: str) -> str:
        if path.startswith("/proc/"):
            raise FileNotFoundError(2, "no /proc", path)
        return readlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "readlink", without)
        assert ask(server, "/files/inside/b.txt") == (200, "", "b")
        assert ask(server, "/files/outside.txt")[0] == 404
        assert ask(server, "/files/outside/secret.txt")[0] == 404
