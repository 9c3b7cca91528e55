"""The tables: who is measured, under which load, and which bars coserver has set itself. A new one is one row.

A server's command follows `python -m`; "{port}" is filled in. `against` names the row it is compared with.
The peers stay as their own command line starts them, but for the access log (off), the log level (warning) and
the number of workers (one).
"""

from dataclasses import dataclass
from typing import Literal

Measure = Literal["ratio", "microseconds", "kilobytes", "milliseconds"]


@dataclass(frozen=True)
class Load:
    """One request, repeated, and the answer that counts as right."""

    path: str = "/"
    method: str = "GET"
    body: str = ""
    content_type: str = "text/plain"  # of the answer, and of the body if there is one
    answer: bytes = b"ok"


@dataclass(frozen=True)
class Server:
    name: str
    command: str
    against: str
    suite: str = "http"
    load: str = "ok"


@dataclass(frozen=True)
class Bar:
    """`of` at most `at_most`, measured against `against`; where `of` names several, the best of them counts."""

    label: str
    of: tuple[str, ...]
    against: str
    at_most: float
    measure: Measure = "ratio"
    suite: str = "http"


LOADS: dict[str, Load] = {
    "ok": Load(),
}

_COSERVER = "benchmarks.servers.coserver_http"
_UVICORN = "uvicorn benchmarks.servers.asgi_ok:app --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
_HYPERCORN = "hypercorn benchmarks.servers.asgi_ok:app -b 127.0.0.1:{port} -c benchmarks/servers/hypercorn.toml"
_GRANIAN = (
    "granian benchmarks.servers.asgi_ok:app --host 127.0.0.1 --port {port} --interface asgi --workers 1"
    " --loop uvloop --no-access-log --log-level warning"
)

# Neighbours here are neighbours in a round: those compared with each other stand together, so that the machine
# has the least time to drift between the two.
SERVERS: dict[str, Server] = {
    row.name: row
    for row in (
        Server("coserver-h11-asyncio-def", f"{_COSERVER} asyncio h11 def {{port}}", "coserver-h11-asyncio"),
        Server("coserver-h11-asyncio", f"{_COSERVER} asyncio h11 async {{port}}", "uvicorn-h11"),
        Server("uvicorn-h11", f"{_UVICORN} --http h11 --loop asyncio", "uvicorn-httptools"),
        Server("coserver-h11-trio", f"{_COSERVER} trio h11 async {{port}}", "uvicorn-h11"),
        Server("hypercorn", f"{_HYPERCORN} -k asyncio -w 1", "uvicorn-h11"),
        Server("gevent", "benchmarks.servers.gevent_ok {port}", "uvicorn-httptools"),
        Server("aiohttp", "benchmarks.servers.aiohttp_ok {port}", "uvicorn-httptools"),
        Server("uvicorn-httptools", f"{_UVICORN} --http httptools --loop uvloop", "uvicorn-h11"),
        Server("coserver-httptools-uvloop", f"{_COSERVER} uvloop httptools async {{port}}", "uvicorn-httptools"),
        Server("granian", _GRANIAN, "uvicorn-httptools"),
        Server("coserver-httptools-trio", f"{_COSERVER} trio httptools async {{port}}", "uvicorn-httptools"),
        Server("coserver-httptools-asyncio", f"{_COSERVER} asyncio httptools async {{port}}", "uvicorn-httptools"),
        Server(
            "coserver-httptools-asyncio-def",
            f"{_COSERVER} asyncio httptools def {{port}}",
            "coserver-httptools-asyncio",
        ),
    )
}

BARS: tuple[Bar, ...] = (
    Bar("h11, asyncio", ("coserver-h11-asyncio",), "uvicorn-h11", 0.70),
    Bar("h11, trio", ("coserver-h11-trio",), "uvicorn-h11", 0.80),
    Bar("httptools, asyncio (no uvloop)", ("coserver-httptools-asyncio",), "uvicorn-httptools", 0.65),
    Bar("httptools, uvloop", ("coserver-httptools-uvloop",), "uvicorn-httptools", 0.60),
    Bar(
        "httptools, best loop",
        ("coserver-httptools-asyncio", "coserver-httptools-uvloop", "coserver-httptools-trio"),
        "granian",
        0.85,
    ),
    Bar("def handler, h11", ("coserver-h11-asyncio-def",), "coserver-h11-asyncio", 5.0, "microseconds"),
    Bar(
        "def handler, httptools",
        ("coserver-httptools-asyncio-def",),
        "coserver-httptools-asyncio",
        5.0,
        "microseconds",
    ),
    Bar("idle connection, httptools", ("coserver-httptools-asyncio",), "", 9.0, "kilobytes", "memory"),
    Bar("idle connection, h11", ("coserver-h11-asyncio",), "", 10.0, "kilobytes", "memory"),
    Bar("import coserver", ("import coserver",), "", 120.0, "milliseconds", "imports"),
)

# What `memory` opens connections to when --only names nothing; trio carries no bar and is there to be seen.
MEMORY: tuple[str, ...] = (
    "coserver-httptools-asyncio",
    "coserver-h11-asyncio",
    "coserver-httptools-trio",
    "coserver-h11-trio",
)

# Modules that `import coserver` must leave alone: each costs more than coserver itself.
NOT_TO_LOAD: tuple[str, ...] = ("rich", "typer", "trio", "IPython")
