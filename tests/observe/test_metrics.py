"""Metrics: what was counted is what happened, in text that prometheus-client itself can read."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from coserver import App, HTTPException, Limits, Server, SetupError
from coserver.observe.meter import BUCKETS, Durations

from ..server.clients import connect, get, talking, until

pytestmark = pytest.mark.usefixtures("company")


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(server: Server, name: str, **labels: str) -> float | None:
    return samples(server.metrics()).get((f"coserver_{name}", tuple(sorted(labels.items()))))


def shop() -> App:
    app = App(name="shop")

    @app.get("/items/{id}")
    async def item(id: int) -> dict[str, int]:
        if id == 0:
            raise HTTPException(404)
        return {"id": id}

    @app.get("/forever")
    async def forever() -> None:
        import anyio

        await anyio.sleep_forever()

    app.metrics()
    return app


async def test_requests_by_route_and_status() -> None:
    async with talking(shop()) as (_, client):
        for number in (1, 2, 0):
            await client.ask(get(f"/items/{number}"))
        await client.ask(get("/nowhere"))
        await client.ask(get("/items/1", method="BREW"))
        await client.ask(get("/items/1", method="HEAD"), "HEAD")
        answer = await client.ask(get("/metrics"))
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
        found = samples(answer.text)
        labels = {"listener": "http", "route": "/items/{id}"}

        def of(metric: str, **more: str) -> float:
            return found[f"coserver_{metric}", tuple(sorted(more.items()))]

        assert of("requests_total", **labels, method="GET", status="200") == 2
        assert of("requests_total", **labels, method="GET", status="404") == 1
        assert of("requests_total", **labels, method="HEAD", status="200") == 1
        assert of("requests_total", listener="http", route="", method="GET", status="404") == 1
        assert of("requests_total", listener="http", route="", method="other", status="501") == 1
        assert of("request_duration_seconds_count", **labels) == 4
        assert of("request_duration_seconds_bucket", **labels, le="+Inf") == 4
        assert 0 < of("request_duration_seconds_sum", **labels) < 60
        assert of("in_flight", listener="http", phase="handler") == 1
        assert of("connections_accepted_total", listener="http") == 1
        assert of("received_bytes_total") > 0
        assert of("server_info", name="shop") == 1


async def test_what_is_never_answered_is_counted_too() -> None:
    async with talking(shop()) as (server, client):
        async with connect(server.port) as leaving:
            await leaving.send(get("/forever"))
            await until(lambda: server.snapshot().filter("/forever"))
            await leaving.reset()
        await until(lambda: value(server, "broken_off_total", listener="http", route="/forever") == 1)
        await client.ask(get("/items/1"))
        assert value(server, "broken_off_total", listener="http", route="/items/{id}") is None


async def test_breaches_by_reason() -> None:
    async with talking(shop(), limits=Limits(target_size=10)) as (server, client):
        await client.send(get("/items/" + "1" * 50))
        await client.rest()
        await until(lambda: value(server, "breaches_total", reason="target_size") == 1)


async def test_messages_waits_and_subrequests() -> None:
    import anyio

    from coserver.hooks.suspension import await_

    behind, app = App(), App(name="front")

    @behind.get("/")
    async def index() -> str:
        return "ok"

    @app.tcp(framing="lines")
    async def chat(connection: Any) -> None:
        async for message in connection:
            await connection.send(message)

    async with behind.serving() as other:
        users = app.upstream("users", other.url)

        @app.get("/")
        def page() -> str:
            await_(anyio.lowlevel.checkpoint())
            return users.get("/").result().text()

        async with app.serving() as server, connect(server.port) as client:
            server.measure()
            await client.ask(get("/"))
            async with connect(server.port_of("chat")) as talker:
                await talker.send(b"a\n")
                await talker.stream.receive()
            await until(lambda: value(server, "messages_total", listener="chat"))
            assert value(server, "messages_total", listener="chat") == 1
            assert value(server, "suspension_seconds_count", call="await_") == 1
            assert value(server, "subrequests_total", upstream="users", outcome="2xx") == 1
            assert value(server, "subrequest_duration_seconds_count", upstream="users") == 1
            assert value(server, "upstream_connections", upstream="users", member=other.url, state="idle") == 1
            assert value(server, "upstream_waiting", upstream="users") == 0


async def test_the_loop_that_is_kept_is_seen() -> None:
    import time

    async with talking(shop()) as (server, client):
        await client.ask(get("/items/1"))
        await until(lambda: (value(server, "loop_lag_seconds_count") or 0) >= 1)
        time.sleep(0.2)  # noqa: ASYNC251 - the loop is to be kept
        await until(lambda: (value(server, "loop_lag_worst_seconds") or 0) > 0.1)
        assert (value(server, "loop_lag_seconds_sum") or 0) > 0.1


def test_from_other_threads_and_in_a_registry_of_ones_own(backend: str) -> None:
    import socket

    registry = CollectorRegistry(auto_describe=False)
    with shop().start(backend=backend) as server:
        registry.register(server.collector())
        threads = [threading.Thread(target=lambda: [server.metrics() for _ in range(20)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            for number in range(1, 51):
                client.sendall(get(f"/items/{number}"))
                assert client.recv(1000).startswith(b"HTTP/1.1 200")
        for thread in threads:
            thread.join()
        labels = {"listener": "http", "route": "/items/{id}", "method": "GET", "status": "200"}
        assert registry.get_sample_value("coserver_requests_total", labels) == 50
    assert not server.emitter.heard


def test_without_prometheus_client_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from coserver.app import app as module

    with shop().start() as server:
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        with pytest.raises(RuntimeError, match=r"pip install 'coserver\[metrics\]'"):
            server.metrics()
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"pip install 'coserver\[metrics\]'"):
        App().metrics()


def test_buckets() -> None:
    durations = Durations()
    for seconds in (0.0, BUCKETS[0], 0.003, 100.0):
        durations.add(seconds)
    assert (durations.counts[0], durations.counts[5], durations.counts[-1]) == (2, 1, 1)
    assert durations.total == pytest.approx(100.0031)
