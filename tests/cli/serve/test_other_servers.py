"""Flags of uvicorn, gunicorn and hypercorn."""

from __future__ import annotations

import pytest

from coserver_cli.serve.other_servers import FOREIGN, WrongFlag, translate

#: A command line of another server, without its program's name, and what it becomes.
LINES = {
    "main:app --reload --host 0.0.0.0 --port 80": "main:app --reload --host 0.0.0.0 --port 80",
    "main:app --root-path /api --proxy-headers": "main:app --root-path /api --forwarded-allow-ips 127.0.0.1",
    "main:app --proxy-headers --forwarded-allow-ips=*": "main:app --forwarded-allow-ips=*",
    "main:app --loop uvloop --http h11 --lifespan off": "main:app --backend uvloop --codec h11 --lifespan off",
    "main:app --timeout-keep-alive 5 --limit-concurrency=100": "main:app --idle-timeout 5s --max-connections 100",
    "-w 1 -b 0.0.0.0:8000 app:app": "--host 0.0.0.0 --port 8000 app:app",
    "-b :8000 app:app": "--port 8000 app:app",
    "--bind [::1]:8000 app:app": "--host ::1 --port 8000 app:app",
    "--bind=unix:/run/x.sock app:app": "--uds /run/x.sock app:app",
    "-b fd://3 app:app": "--fd 3 app:app",
    "-b127.0.0.1:1 app:app": "--host 127.0.0.1 --port 1 app:app",
    "-b 8000 app:app": "--port 8000 app:app",
    "-t 30 --graceful-timeout 5 app:app": "--handler-timeout 30s --grace 5s app:app",
    "--certfile a --keyfile b app:app": "--ssl-certfile a --ssl-keyfile b app:app",
    "--log-level trace --access-logfile - app:app": "--log-level debug --access-log app:app",
    "--no-server-header --date-header app:app": "app:app",
    "-- -w": "-- -w",
}


@pytest.mark.parametrize("line", LINES)
def test_flags_that_mean_the_same_are_taken(line: str) -> None:
    assert translate(line.split()) == (LINES[line].split(), [])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("-w 4", "several processes are not there yet"),
        ("--workers=2", "several processes are not there yet"),
        ("-k uvicorn.workers.UvicornWorker", "blocking calls suspend only their own request"),
        ("--ws none", "WebSocket"),
        ("--loop winloop", "--backend"),
        ("--access-logfile /var/log/x", "stderr"),
        ("--preload", "before a fork"),
    ],
)
def test_other_flags_are_named(line: str, told: str) -> None:
    own, lines = translate([*line.split(), "app:app"])
    assert own[-1] == "app:app"
    assert told in lines[0]


@pytest.mark.parametrize("line", ["-w", "-w many", "-w 0", "-b nowhere:x", "app:app --bind"])
def test_a_wrong_value(line: str) -> None:
    with pytest.raises(WrongFlag):
        translate(line.split())


def test_each_gives_flags_that_there_are() -> None:
    from coserver.app.config.table import table

    known = {row.flag for row in table().values()} | {"--app-dir", "--forwarded-allow-ips"}
    values = {"-b": "a:1", "--bind": "a:1", "-w": "1", "--workers": "1"}
    for name, foreign in FOREIGN.items():
        assert name not in known, f"{name} is coserver's own"
        own, _ = foreign.mean(values.get(name, "1") if foreign.valued else "")
        assert {one for one in own if one.startswith("--")} <= known, name
