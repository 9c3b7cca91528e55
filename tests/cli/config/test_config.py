"""``coserver.toml`` with the real command: serve, ``config check``, ``config show``; and the generated reference."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coserver.app.config.table import table

from ..conftest import TIMEOUT, Running
from ..serve.test_serve import get

Coserver = Callable[..., subprocess.CompletedProcess[str]]

#: The module ``app`` of conftest.py holds app, other and echo.
THREE = """\
app = "app:app"
backend = "{backend}"

[limits]
target_size = 1000

[[listener]]
port = 0

[[listener]]
name = "admin"
uds = "admin.sock"
app = "admin:app"

[listener.limits]
target_size = 100

[[listener]]
protocol = "tcp"
port = 0
handler = "admin:shout"
framing = "lines"
"""
ADMIN = """
from coserver import App, Limits

app = App("admin", limits=Limits(grace=3))
app.get("/")(lambda: "admin")

async def shout(connection):
    async for line in connection:
        await connection.send(line.upper())
"""


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "admin.py").write_text(ADMIN)
    return folder


def curl(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["curl", "-sS", *arguments], cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, check=True
    ).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_three_listeners_at_once(serve: Callable[..., Running], folder: Path, backend: str) -> None:
    (folder / "coserver.toml").write_text(THREE.format(backend=backend))
    running = serve(port=False)
    port = running.port
    shown = [line for line in running.lines if re.match(r"  \S+[:+]", line)]
    assert [re.sub(r":\d+", ":0", line) for line in shown] == [
        "  http://127.0.0.1:0  HTTP, 2 routes",
        "  http+unix:admin.sock    admin: HTTP, 1 route of admin",
        "  tcp://127.0.0.1:0   shout, framing lines",
        "  tcp://127.0.0.1:0   echo, framing lines",
    ]
    assert curl(f"http://127.0.0.1:{port}/", cwd=folder) == "ok"
    assert curl("--unix-socket", "admin.sock", "http://admin/", cwd=folder) == "admin"
    tcp = int(running.wait_for(r"tcp://127\.0\.0\.1:(\d+)\s+shout")[1])
    with socket.create_connection(("127.0.0.1", tcp), TIMEOUT) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"HELLO\n"
    # Each with its own limits.
    long = "/" + "x" * 500
    assert "404 " in curl(f"http://127.0.0.1:{port}{long}", cwd=folder)
    assert "414 " in curl("--unix-socket", "admin.sock", f"http://admin{long}", cwd=folder)
    running.signal(signal.SIGINT)
    assert running.ended() == 130
    assert not (folder / "admin.sock").exists()


def test_listeners_alone(serve: Callable[..., Running], folder: Path) -> None:
    """Without an app at the top, the server's app is the first listener's."""
    (folder / "coserver.toml").write_text("[[listener]]\nport = 0\napp = 'admin:app'\n")
    running = serve(port=False)
    assert get(running.port) == "admin"
    assert running.lines[0].endswith(" serves admin")


def test_tcp_alone(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "shouting.toml").write_text("[[listener]]\nprotocol = 'tcp'\nport = 0\nhandler = 'admin:shout'\n")
    running = serve("--config", "shouting.toml", port=False)
    running.wait_for("Press Ctrl")
    assert running.lines[0].endswith(" serves shouting")
    port = int(running.wait_for(r"tcp://127\.0\.0\.1:(\d+)\s+shout, framing raw")[1])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.sendall(b"hello")
        assert client.recv(100) == b"HELLO"


def test_flags_and_variables_win_over_the_file(
    serve: Callable[..., Running], folder: Path, environment: dict[str, str]
) -> None:
    (folder / "coserver.toml").write_text("app = 'app'\nport = 1\nbackend = 'trio'\ncodec = 'h11'\n")
    environment["COSERVER_BACKEND"] = "asyncio"
    environment["COSERVER_PORTT"] = "3"
    running = serve("--codec", "httptools")
    assert get(running.port) == "ok"
    running.wait_for("^  backend asyncio, codec httptools$")
    running.wait_for("^warning: COSERVER_PORTT is no variable of coserver's; did you mean COSERVER_PORT\\?$")


def test_a_file_is_not_taken_silently(serve: Callable[..., Running], folder: Path) -> None:
    (folder / "coserver.toml").write_text("nonsense = 1\n")
    assert get(serve("app").port) == "ok"


def test_what_is_wrong_stops_it(coserver: Coserver, folder: Path) -> None:
    (folder / "coserver.toml").write_text("app = 'app:app'\nprot = 1\n[limits]\ngrace = 'soon'\n")
    expected = [
        "error: coserver.toml:2: 'prot' is no key of the top level; did you mean port?",
        "error: coserver.toml:4: grace must be a number of seconds, or a text like '30s', '5m' or 'inf'; got 'soon'",
    ]
    for command in (["serve"], ["config", "check"], ["config", "show"], ["config", "check", "coserver.toml"]):
        done = coserver(*command)
        assert done.stderr.splitlines() == expected
        assert (done.stdout, done.returncode) == ("", 1)


def test_check_takes_its_file_either_way(coserver: Coserver, folder: Path) -> None:
    (folder / "shop.toml").write_text("port = 1\n")
    expected = "ok  shop.toml: 1 key, 0 listeners\n"
    for arguments in (["shop.toml"], ["--config", "shop.toml"], ["-c", "shop.toml"]):
        assert coserver("config", "check", *arguments).stdout == expected
    done = coserver("config", "check", "shop.toml", "--config", "shop.toml")
    assert done.stderr.endswith("Invalid value for '--config': the file is given twice: as FILE and as --config\n")
    assert done.returncode == 2


def test_a_listeners_place_is_taken(coserver: Coserver, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = f"app = 'app'\n[[listener]]\nuds = 'a.sock'\n[[listener]]\nport = {port}\n"
        (folder / "coserver.toml").write_text(text)
        done = coserver("serve")
    assert done.stderr.startswith(f"error: 127.0.0.1:{port} is taken by another process")
    assert done.returncode == 1


IMPORTS = {
    "app = 'app:none'": "error: coserver.toml:1: module 'app' ({folder}/app.py) has no 'none'",
    "[[listener]]\nport = 0\napp = 'ap:app'": "error: coserver.toml:3: there is no module 'ap'",
    "[[listener]]\nport = 0\nprotocol = 'tcp'\nhandler = 'admin:none'": (
        "error: coserver.toml:4: module 'admin' ({folder}/admin.py) has no 'none'"
    ),
    "[[listener]]\nport = 0\nprotocol = 'tcp'\nhandler = 'app:number'": (
        "error: coserver.toml:4: 'app:number' is not a function; its type is int"
    ),
    "[[listener]]\nport = 0": (
        "error: coserver.toml:1: this listener has no app: write app = 'module:app' here, or at the top"
    ),
}


@pytest.mark.parametrize("text", IMPORTS)
def test_what_a_file_names_is_not_there(coserver: Coserver, folder: Path, text: str) -> None:
    (folder / "coserver.toml").write_text(text)
    for command in (["serve"], ["config", "check"]):
        done = coserver(*command)
        assert done.stderr.splitlines()[0] == IMPORTS[text].format(folder=folder)
        assert done.returncode == 1
    if ":app" in text or "admin" in text or "number" in text:
        assert coserver("config", "check", "--no-import").returncode == 0


def test_check_says_what_it_checked(coserver: Coserver, folder: Path, environment: dict[str, str]) -> None:
    environment["COSERVER_GRACE"] = "1"
    assert coserver("config", "check").stdout == "ok  environment: COSERVER_GRACE\n"
    (folder / "coserver.toml").write_text(THREE.format(backend="asyncio"))
    done = coserver("config", "check")
    assert done.stdout.splitlines() == [
        "ok  coserver.toml: 12 keys, 3 listeners",
        "ok  environment: COSERVER_GRACE",
        "ok  imported: app:app, admin:app, admin:shout",
    ]
    assert (done.stderr, done.returncode) == ("", 0)
    assert "--  not imported: app:app, admin:app" in coserver("config", "check", "--no-import").stdout
    del environment["COSERVER_GRACE"]
    (folder / "coserver.toml").unlink()
    assert coserver("config", "check").stdout.startswith("nothing to check: ")


def test_check_asks_what_is_asked_at_start(coserver: Coserver, folder: Path) -> None:
    (folder / "late.py").write_text("from coserver import App\napp = App()\napp.get('/')(lambda nobody: '')\n")
    (folder / "coserver.toml").write_text("app = 'late:app'\n")
    done = coserver("config", "check")
    assert "asks for 'nobody', which nothing provides" in done.stderr
    assert done.returncode == 1


def test_show_tells_each_origin(coserver: Coserver, folder: Path, environment: dict[str, str]) -> None:
    (folder / "coserver.toml").write_text("app = 'admin:app'\nhost = '::1'\n[limits]\nbody_size = '5 MiB'\n")
    environment["COSERVER_HEAD_TIMEOUT"] = "2m"
    done = coserver("config", "show", "--log-level", "debug")
    assert (done.stderr, done.returncode) == ("", 0)
    rows = {row[0]: row[1:] for row in (re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines())}
    assert rows.pop("key") == ["value", "from"]
    assert list(rows) == ["app", *table()]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert rows["app"] == ["admin:app", "coserver.toml:1"]
    assert rows["host"] == ["::1", "coserver.toml:2"]
    assert rows["port"] == ["8000", "default"]
    assert rows["access_log"] == ["on", "default"]
    assert rows["limits.body_size"] == ["5 MiB", "coserver.toml:4"]
    assert rows["limits.head_timeout"] == ["120s", "COSERVER_HEAD_TIMEOUT"]
    assert rows["limits.grace"] == ["3s", "the app"]
    assert rows["limits.idle_timeout"] == ["75s", "default"]
    assert rows["log.level"] == ["debug", "--log-level"]


def test_show_as_json(coserver: Coserver, folder: Path) -> None:
    (folder / "coserver.toml").write_text(THREE.format(backend="uvloop"))
    shown = json.loads(coserver("config", "show", "--json", "--trusted-peers", "10.0.0.1,unix").stdout)
    assert shown["options"]["backend"] == {"value": "uvloop", "from": "coserver.toml:2"}
    assert shown["options"]["limits.handler_timeout"] == {"value": "inf", "from": "default"}
    assert shown["options"]["trusted_peers"] == {"value": ["10.0.0.1", "unix"], "from": "--trusted-peers"}
    assert "port" not in shown["options"], "listeners stand in its place"
    assert shown["listeners"][1] == {
        "name": {"value": "admin", "from": "coserver.toml:11"},
        "uds": {"value": "admin.sock", "from": "coserver.toml:12"},
        "app": {"value": "admin:app", "from": "coserver.toml:13"},
        "limits.target_size": {"value": 100, "from": "coserver.toml:16"},
    }


def test_a_port_to_control_by_and_its_token(
    serve: Callable[..., Running], coserver: Coserver, folder: Path, environment: dict[str, str]
) -> None:
    """They may come from different sources; each needs the other; the token is never shown."""
    token = "abcdefghijklmnop1234"
    done = coserver("config", "show", "--control-port", "0", "--no-import")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--control-port: control_port 0 needs a control_token" in " ".join(done.stderr.split())
    (folder / "coserver.toml").write_text("app = 'admin:app'\ncontrol_port = 0\n")
    environment["COSERVER_CONTROL_TOKEN"] = token
    for asked in ([], ["--json"]):
        done = coserver("config", "show", *asked)
        assert done.returncode == 0, done.stderr
        assert "(secret)" in done.stdout
        assert token not in done.stdout + done.stderr
    running = serve()
    assert running.port
    assert token not in "".join(running.lines)
    environment["COSERVER_CONTROL_TOKEN"] = "short"
    done = coserver("serve", "--port", "0")
    assert done.returncode == 1
    assert "16 visible ASCII characters" in " ".join(done.stderr.split())


def test_show_without_anything(coserver: Coserver) -> None:
    done = coserver("config", "show")
    assert re.search(r"^app +none +default$", done.stdout, re.MULTILINE)
    assert done.returncode == 0


def test_show_cuts_nothing_off(coserver: Coserver, folder: Path) -> None:
    (folder / "coserver.toml").write_text(
        f"{THREE.format(backend='trio')}\n[[listener]]\nuds = '{'long/' * 40}a.sock'\n"
    )
    done = coserver("config", "show", "--no-import")
    assert re.search(rf"^listener 4: uds +{'long/' * 40}a.sock +coserver.toml:\d+$", done.stdout, re.MULTILINE)


# The reference.

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "options.md"


def test_the_reference_is_the_one_in_the_docs(coserver: Coserver) -> None:
    done = coserver("config", "reference")
    assert done.returncode == 0
    assert done.stdout == PAGE.read_text(encoding="utf-8"), "run: coserver config reference > docs/reference/options.md"


def test_the_reference_names_everything() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for row in table().values():
        assert f"| `{row.name}` | `{row.flag}`" in text
        assert f"`{row.variable}`" in text


EXAMPLES = [
    (page.name, example)
    for page in [*sorted(PAGE.parents[1].rglob("*.md")), PAGE.parents[2] / "README.md"]
    for example in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_the_docs_examples_are_right(coserver: Coserver, folder: Path, page: str, example: str) -> None:
    (folder / "coserver.toml").write_text(example)
    done = coserver("config", "check", "--no-import")
    assert (done.stderr, done.returncode) == ("", 0)


def test_there_are_examples() -> None:
    assert "options.md" in dict(EXAMPLES)
