"""The tables of servers, of loads, and of the bars that coserver has to reach. A new entry is one row.

A server's command follows `python -m`; "{port}" is filled in. `against` names the row that it is compared with.
Peers run as their own command line starts them, except for the access log (off), the log level (warning) and the
number of workers (one).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Measure = Literal["ratio", "speed", "nanoseconds", "microseconds", "kilobytes", "milliseconds"]


@dataclass(frozen=True)
class Load:
    """One request, which is repeated, and its right answer."""

    path: str = "/"
    method: str = "GET"
    body: str = ""
    content_type: str = "text/plain"  # of the answer, and of the body if there is one
    answer: bytes = b"ok"
    tls: bool = False


@dataclass(frozen=True)
class Server:
    """A server under load. ``tree`` is its coserver's checkout, for ``benchmarks.servers``; "" is this checkout."""

    name: str
    command: str
    against: str
    suite: str = "http"
    load: str = "ok"
    tree: str = ""


@dataclass(frozen=True)
class Bar:
    """`of` at most `at_most`, measured against `against`; where `of` names several, the best of them counts.

    Of measure "speed", requests/s, it is to be at least `at_most`.
    """

    label: str
    of: tuple[str, ...]
    against: str
    at_most: float
    measure: Measure = "ratio"
    suite: str = "http"
    connections: int = 0  # judge only with so many; 0: with any number
    paced: int = 0  # judge only with a client of this rate; 0: with one that never pauses
    head: str = "plain"  # judge only with this head


@dataclass(frozen=True)
class Asker:
    """A client of the suite "upstream". ``who`` is a name in ``benchmarks.asking``; ``slow``: fewer requests."""

    name: str
    who: str
    loop: str
    codec: str
    against: str
    slow: bool = False


# 1 KB as a client of an API sends it: compact, in the form that every encoder here writes.
_ORDER = json.dumps(
    {
        "order": 4711,
        "customer": {"name": "Ada Lovelace", "mail": "ada@example.org", "since": "2019-05-01", "rating": 4.75},
        "paid": True,
        "coupon": None,
        "note": "ring twice, it is loud in here",
        "items": [
            {"id": 100 + n, "name": f"kettle no. {n}", "price": 19.95 + n, "tags": ["kitchen", "steel"], "left": n * 3}
            for n in range(10)
        ],
    },
    separators=(",", ":"),
)
#: The fields that a request has besides Host, by the word for ``--head``: none, or those of Chromium on Linux.
HEADS: dict[str, tuple[tuple[str, str], ...]] = {
    "plain": (),
    "browser": (
        ("Connection", "keep-alive"),
        ("Cache-Control", "max-age=0"),
        ("Upgrade-Insecure-Requests", "1"),
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 "
                       "Safari/537.36"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
        ("Sec-Fetch-Site", "none"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "en-US,en;q=0.9,de;q=0.8"),
    ),
}  # fmt: skip
PAGE = Path(__file__).with_name("servers") / "page.txt"

LOADS: dict[str, Load] = {
    "ok": Load(),
    "json": Load("/json", "POST", _ORDER, "application/json", _ORDER.encode()),  # parsed, and written again
    "fanout": Load("/page", answer=b"ok" * 10),
    "sleep": Load("/sleep"),  # a handler that sleeps for 0.1 s
    "tls": Load(tls=True),  # keep-alive, so that a request costs records and no handshake
    "file": Load("/file", answer=PAGE.read_bytes()),  # 10 KB from the disk, with a type and validators
}

_COSERVER = "benchmarks.servers.coserver_http"
_UVICORN = "uvicorn benchmarks.servers.asgi_ok:app --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
_HYPERCORN = "hypercorn benchmarks.servers.asgi_ok:app -b 127.0.0.1:{port} -c benchmarks/servers/hypercorn.toml"
_GRANIAN = (
    "granian benchmarks.servers.asgi_ok:app --host 127.0.0.1 --port {port} --interface asgi --workers 1"
    " --loop uvloop --no-access-log --log-level warning"
)

_STARLETTE = "benchmarks.servers.starlette_app:app --host 127.0.0.1 --port {port}"
_UVICORN_APP = f"uvicorn {_STARLETTE} --no-access-log --log-level warning"
_GRANIAN_APP = f"granian {_STARLETTE} --interface asgi --workers 1 --loop uvloop --no-access-log --log-level warning"


def _applied(load: str) -> tuple[Server, ...]:
    """The rows of a load that a bare server cannot answer: the peers run their usual framework."""
    rows = (
        Server("coserver-h11-asyncio", f"{_COSERVER} asyncio h11 {load} {{port}}", "uvicorn-h11"),
        Server("uvicorn-h11", f"{_UVICORN_APP} --http h11 --loop asyncio", "uvicorn-httptools"),
        Server("aiohttp", "benchmarks.servers.aiohttp_ok {port}", "uvicorn-httptools"),
        Server("coserver-httptools-uvloop", f"{_COSERVER} uvloop httptools {load} {{port}}", "uvicorn-httptools"),
        Server("uvicorn-httptools", f"{_UVICORN_APP} --http httptools --loop uvloop", "uvicorn-h11"),
        Server("coserver-httptools-asyncio", f"{_COSERVER} asyncio httptools {load} {{port}}", "uvicorn-httptools"),
        Server("granian", _GRANIAN_APP, "uvicorn-httptools"),
    )
    return tuple(replace(row, name=f"{row.name}-{load}", against=f"{row.against}-{load}", load=load) for row in rows)


def _secured() -> tuple[Server, ...]:
    """The bare servers over TLS; "{certificate}" and "{key}" are filled in."""
    uvicorn = f"{_UVICORN} --ssl-certfile {{certificate}} --ssl-keyfile {{key}}"
    hypercorn = f"{_HYPERCORN} -k asyncio -w 1 --certfile {{certificate}} --keyfile {{key}}"
    granian = f"{_GRANIAN} --ssl-certificate {{certificate}} --ssl-keyfile {{key}}"
    rows = (
        Server(
            "coserver-h11-asyncio", f"{_COSERVER} asyncio h11 async {{port}} {{certificate}} {{key}}", "uvicorn-h11"
        ),
        Server("uvicorn-h11", f"{uvicorn} --http h11 --loop asyncio", "uvicorn-httptools"),
        Server("hypercorn", hypercorn, "uvicorn-h11"),
        Server(
            "coserver-httptools-uvloop",
            f"{_COSERVER} uvloop httptools async {{port}} {{certificate}} {{key}}",
            "uvicorn-httptools",
        ),
        Server("uvicorn-httptools", f"{uvicorn} --http httptools --loop uvloop", "uvicorn-h11"),
        Server(
            "coserver-httptools-asyncio",
            f"{_COSERVER} asyncio httptools async {{port}} {{certificate}} {{key}}",
            "uvicorn-httptools",
        ),
        Server("granian", granian, "uvicorn-httptools"),
        Server(
            "coserver-httptools-trio",
            f"{_COSERVER} trio httptools async {{port}} {{certificate}} {{key}}",
            "uvicorn-httptools",
        ),
    )
    return tuple(replace(row, name=f"{row.name}-tls", against=f"{row.against}-tls", load="tls") for row in rows)


def _observed(backend: str) -> tuple[Server, ...]:
    """The plain request: unobserved, with ``top`` attached, with the recorder on, with metrics counted."""
    found = []
    kinds = (("async", "nobody"), ("watched", "top"), ("recorded", "recorder"), ("measured", "metrics"))
    for kind, name in kinds:
        command = f"{_COSERVER} {backend} httptools {kind} {{port}}"
        found.append(Server(f"{name}-{backend}", command, f"nobody-{backend}", suite="observe"))
    return tuple(found)


# Neighbours here are neighbours in a round. Servers that are compared stand together, so that the machine has the
# least time to drift between the two.
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
        Server("nginx", "benchmarks.servers.nginx_ok {port}", "uvicorn-httptools"),
        Server("fastpysgi-wsgi", "benchmarks.servers.fastpysgi_ok wsgi {port}", "uvicorn-httptools"),
        Server("fastpysgi-asgi", "benchmarks.servers.fastpysgi_ok asgi {port}", "uvicorn-httptools"),
        Server("socketify", "benchmarks.servers.socketify_ok {port}", "uvicorn-httptools"),
        *_applied("json"),
        *_applied("file"),
        *_secured(),
        *_observed("asyncio"),
        *_observed("uvloop"),
        *_observed("trio"),
    )
}


_FANOUT = "benchmarks.servers.fanout_coserver"
_FASTAPI = (
    "uvicorn benchmarks.servers.fanout_fastapi:app --host 127.0.0.1 --port {port} --no-access-log --log-level warning"
    " --http httptools --loop uvloop"
)
SERVERS |= {
    row.name: replace(row, suite="fanout", load="fanout")
    for row in (
        Server("nginx-lua", "benchmarks.servers.fanout_nginx {port}", ""),
        Server("fanout-coserver-httptools-uvloop", f"{_FANOUT} uvloop httptools {{port}}", "nginx-lua"),
        Server("fanout-aiohttp-uvloop", "benchmarks.servers.fanout_aiohttp uvloop {port}", "nginx-lua"),
        Server("fanout-coserver-httptools-asyncio", f"{_FANOUT} asyncio httptools {{port}}", "nginx-lua"),
        Server("fanout-aiohttp-asyncio", "benchmarks.servers.fanout_aiohttp asyncio {port}", "nginx-lua"),
        Server("fanout-coserver-h11-asyncio", f"{_FANOUT} asyncio h11 {{port}}", "nginx-lua"),
        Server("fanout-coserver-httptools-trio", f"{_FANOUT} trio httptools {{port}}", "nginx-lua"),
        Server("fanout-fastapi-httpx", _FASTAPI, "fanout-coserver-httptools-uvloop"),
    )
}

_LOOPS = ("asyncio", "uvloop", "trio")


def _sleeping(loop: str) -> tuple[Server, ...]:
    """Handlers that sleep: an ``async def``, and a ``def`` in a worker."""
    kinds = (f"sleeping-async-{loop}", "sleep-async", "sleeping-gevent"), (f"sleeping-def-{loop}", "sleep-def", "")
    return tuple(
        Server(name, f"{_COSERVER} {loop} httptools {kind} {{port}}", against or f"sleeping-async-{loop}")
        for name, kind, against in kinds
    )


# Each def is beside its async def. gevent stands in the middle, so that none is far from it.
SERVERS |= {
    row.name: replace(row, suite="hooks", load="sleep")
    for row in (
        *_sleeping("asyncio"),
        Server("sleeping-gevent", "benchmarks.servers.gevent_ok {port} sleep", ""),
        *_sleeping("uvloop"),
        *_sleeping("trio"),
    )
}

#: The clients. Those that are compared stand side by side.
ASKERS: tuple[Asker, ...] = (
    Asker("coserver-httptools-asyncio", "coserver", "asyncio", "httptools", "aiohttp-asyncio"),
    Asker("aiohttp-asyncio", "aiohttp", "asyncio", "-", ""),
    Asker("coserver-h11-asyncio", "coserver", "asyncio", "h11", "aiohttp-asyncio"),
    Asker("coserver-httptools-uvloop", "coserver", "uvloop", "httptools", "aiohttp-uvloop"),
    Asker("aiohttp-uvloop", "aiohttp", "uvloop", "-", ""),
    Asker("coserver-h11-uvloop", "coserver", "uvloop", "h11", "aiohttp-uvloop"),
    Asker("coserver-httptools-trio", "coserver", "trio", "httptools", "aiohttp-asyncio"),
    Asker("coserver-h11-trio", "coserver", "trio", "h11", "aiohttp-asyncio"),
    Asker("urllib3-threads", "urllib3", "threads", "-", "aiohttp-asyncio"),
    Asker("httpx-asyncio", "httpx", "asyncio", "-", "aiohttp-asyncio", slow=True),
)


def beside(names: list[str], baseline: Path) -> dict[str, Server]:
    """coserver's rows among ``names``, each beside the same row with the coserver of another checkout.

    Both are started in the same way, and differ in nothing but the tree.
    """
    ours = str(Path(__file__).parent.parent)
    found: dict[str, Server] = {}
    for name in names:
        row = SERVERS[name]
        if row.command.startswith(_COSERVER):
            other = f"{name} (baseline)"
            found[name] = replace(row, against=other, tree=ours)
            found[other] = replace(row, name=other, against="", tree=str(baseline))
    return found


BARS: tuple[Bar, ...] = (
    Bar("h11, asyncio", ("coserver-h11-asyncio",), "uvicorn-h11", 0.45, connections=32),
    Bar("h11, trio", ("coserver-h11-trio",), "uvicorn-h11", 0.80),
    Bar("httptools, asyncio (no uvloop)", ("coserver-httptools-asyncio",), "uvicorn-httptools", 0.65, connections=32),
    Bar("httptools, uvloop", ("coserver-httptools-uvloop",), "uvicorn-httptools", 0.60, connections=32),
    Bar("httptools, uvloop", ("coserver-httptools-uvloop",), "nginx", 1.65, connections=32),
    *(
        Bar(f"httptools, {loop}, one connection", (f"coserver-httptools-{loop}",), "uvicorn-httptools", at_most,
            connections=1)
        for loop, at_most in (("uvloop", 0.90), ("asyncio", 0.95), ("trio", 1.10))
    ),
    *(
        Bar(f"httptools, {loop}, 5,000/s", (f"coserver-httptools-{loop}",), "uvicorn-httptools", at_most, paced=5000)
        for loop, at_most in (("uvloop", 0.90), ("asyncio", 1.05), ("trio", 1.25))
    ),
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
    Bar("recorder, asyncio", ("recorder-asyncio",), "nobody-asyncio", 6.0, "microseconds", "observe"),
    Bar("recorder, uvloop", ("recorder-uvloop",), "nobody-uvloop", 6.0, "microseconds", "observe"),
    Bar("recorder, trio", ("recorder-trio",), "nobody-trio", 6.0, "microseconds", "observe"),
    *(Bar(f"top, {loop}", (f"top-{loop}",), f"nobody-{loop}", 1.05, suite="observe") for loop in _LOOPS),
    Bar("idle connection, httptools", ("coserver-httptools-asyncio",), "", 7.5, "kilobytes", "memory"),
    Bar("idle connection, h11", ("coserver-h11-asyncio",), "", 7.5, "kilobytes", "memory"),
    *(
        Bar(f"httptools, {loop}, {width} in flight", (f"coserver-httptools-{loop} @{width}",),
            f"aiohttp-{loop} @{width}", at_most, suite="upstream")
        for width, at_most in ((1, 0.60), (10, 0.45), (100, 0.45))
        for loop in ("asyncio", "uvloop")
    ),
    *(
        Bar(f"h11, asyncio, {width} in flight", (f"coserver-h11-asyncio @{width}",), f"aiohttp-asyncio @{width}", 1.0,
            suite="upstream")
        for width in (10, 100)
    ),
    *(
        Bar(f"{codec}, {loop}, 100 in flight", (f"coserver-{codec}-{loop} @100",), f"coserver-{codec}-{loop} @10", 1.2,
            suite="upstream")
        for codec in ("httptools", "h11")
        for loop in ("asyncio", "uvloop", "trio")
    ),
    *(
        Bar(f"fan-out of ten, {loop}", (f"fanout-coserver-httptools-{loop}",), f"fanout-aiohttp-{loop}", 0.40,
            suite="fanout")
        for loop in ("asyncio", "uvloop")
    ),
    Bar("fan-out of ten, best loop", ("fanout-coserver-httptools-asyncio", "fanout-coserver-httptools-uvloop"),
        "nginx-lua", 1.6, suite="fanout"),
    Bar("fan-out of ten, uvloop", ("fanout-coserver-httptools-uvloop",), "fanout-fastapi-httpx", 0.10, suite="fanout",
        connections=1),
    *(
        bar
        for loop, of_gevent in zip(_LOOPS, (0.60, 0.60, 1.00), strict=True)
        for bar in (
            Bar(f"1,000 that sleep, {loop}: requests/s", (f"sleeping-def-{loop}",), f"sleeping-async-{loop}", 0.95,
                "speed", "hooks"),
            Bar(f"1,000 that sleep, {loop}: CPU", (f"sleeping-def-{loop}",), f"sleeping-async-{loop}", 1.50,
                suite="hooks"),
            Bar(f"1,000 that sleep, {loop}: CPU", (f"sleeping-def-{loop}",), "sleeping-gevent", of_gevent,
                suite="hooks"),
        )
    ),
    Bar("import coserver", ("import coserver",), "", 120.0, "milliseconds", "imports"),
)

#: The bars of single calls. `hooks` gets their figures from ``benchmarks.blocking``, by the run and the figure's name.
CALL_BARS: tuple[Bar, ...] = (
    *(Bar("a pooled worker's call", (f"calls {loop}: call",), "", 2.0, "microseconds") for loop in _LOOPS),
    *(Bar("a round trip", (f"trips {loop}: hooked",), f"trips {loop}: async", 1.30) for loop in _LOOPS),
    *(
        Bar("a round trip with a timeout", (f"trips {loop}: hooked-timeout",), f"trips {loop}: async-timeout", 1.30)
        for loop in _LOOPS
    ),
    *(
        Bar("elsewhere, a call more", (f"foreign asyncio: {call}",), "", 100.0, "nanoseconds")
        for call in ("socket.recv", "os.write", "select.select")
    ),
    *(
        Bar("elsewhere, a pair more", (f"foreign asyncio: {pair}{others}",), "", 400.0, "nanoseconds")
        for pair in ("with Lock", "with RLock", "Lock.acquire, release", "RLock.acquire, release")
        for others in ("", ", a worker has others")
    ),
    *(
        Bar("a suspended worker", (f"held-hooked {loop}: each",), f"held-async {loop}: each", 12.0, "kilobytes")
        for loop in _LOOPS
    ),
)

# The servers of `memory` without --only. trio has no bar; it is shown for comparison.
MEMORY: tuple[str, ...] = (
    "coserver-httptools-asyncio",
    "coserver-h11-asyncio",
    "coserver-httptools-trio",
    "coserver-h11-trio",
)

# Modules that `import coserver` must not load: each costs more than coserver itself.
NOT_TO_LOAD: tuple[str, ...] = ("rich", "typer", "trio", "IPython")
