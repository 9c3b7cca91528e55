"""redis-py against a real redis: BLPOP on lists that stay empty for 0.2 s."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from .five import WAIT, five
from .servers import needs_redis, redis_server

pytestmark = [needs_redis, pytest.mark.usefixtures("hooked")]


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with redis_server(folder) as port:
        yield port


async def test_who_waits_for_an_item(port: int) -> None:
    with redis.Redis(port=port) as client:
        found = await five("redis-py, blpop", lambda number: client.blpop([f"empty-{number}"], timeout=WAIT))
    assert found == [None] * 5


async def test_an_item_from_a_thread_wakes_who_waits(port: int) -> None:
    """Five wait for one list; a thread pushes five items as soon as all are seen waiting."""
    with redis.Redis(port=port) as client, redis.Redis(port=port) as other:

        def push() -> None:
            while other.info("clients")["blocked_clients"] < 5:
                pass
            threading.Event().wait(WAIT)
            other.rpush("items", *range(5))

        threads = []

        def pop(number: int) -> Any:
            if number == 0:
                threads.append(threading.Thread(target=push))  # one for each try
                threads[-1].start()
            return client.blpop(["items"], timeout=10)

        found = await five("redis-py, pushed to", pop)
        for thread in threads:
            thread.join(10)  # it may still read the answer to its push
    assert sorted(found) == [(b"items", str(number).encode()) for number in range(5)]


async def test_a_pipeline_and_a_lock(port: int) -> None:
    """Redis' own lock: each holds it for 10 ms, the others sleep and try again."""
    with redis.Redis(port=port) as client:
        client.set("count", 0)

        def count(number: int) -> int:
            with client.lock("lock", sleep=0.005), client.pipeline() as pipeline:
                before = int(client.get("count") or 0)
                client.blpop(["none"], timeout=WAIT / 4)
                pipeline.set("count", before + 1).execute()
                return before

        assert sorted(await five("redis-py, a lock", count, take_max=5 * WAIT)) == list(range(5))
