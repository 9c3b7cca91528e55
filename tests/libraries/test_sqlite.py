"""sqlite3, offloaded: alone, through SQLAlchemy's pool, and a scoped session of SQLAlchemy's for each handler."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import orm

from coserver.hooks import offloaded

from .five import WAIT, five

#: In SQLite's own thread, whatever is hooked.
_sleep = time.sleep

QUERY = f"select wait({WAIT}), ?"


def wait(seconds: float) -> None:
    _sleep(seconds)


@pytest.fixture(autouse=True)
def _offloaded(hooked: Any) -> None:
    offloaded("sqlite3")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/db", poolclass=sqlalchemy.QueuePool, pool_size=5)

    @sqlalchemy.event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.create_function("wait", 1, wait)

    yield engine
    engine.dispose()


async def test_sqlite3() -> None:
    def ask(number: int) -> Any:
        connection = sqlite3.connect(":memory:")
        try:
            connection.create_function("wait", 1, wait)
            return connection.execute(QUERY, (number,)).fetchone()[1]
        finally:
            connection.close()

    assert await five("sqlite3, offloaded", ask) == list(range(5))


async def test_who_waits_for_a_writer(tmp_path: Path) -> None:
    """One writes for 0.2 s; four wait in C, by SQLite's own busy timeout, and write after it."""
    path = str(tmp_path / "db")
    with sqlite3.connect(path) as made:
        made.execute("create table seen (number int)")
    made.close()

    def write(number: int) -> None:
        connection = sqlite3.connect(path, timeout=20, isolation_level=None)
        try:
            connection.execute("begin immediate")
            connection.execute("insert into seen values (?)", (number,))
            if number == 0:
                time.sleep(WAIT)
            connection.execute("commit")
        finally:
            connection.close()

    await five("sqlite3, waiting for a writer", write, take_max=5 * WAIT)
    read = sqlite3.connect(path)
    assert sorted({number for (number,) in read.execute("select number from seen")}) == list(range(5))
    read.close()


async def test_a_pool_of_sqlalchemy(engine: sqlalchemy.Engine) -> None:
    def ask(number: int) -> Any:
        with engine.begin() as connection:
            return connection.execute(sqlalchemy.text(f"select wait({WAIT}), :n"), {"n": number}).one()[1]

    assert await five("SQLAlchemy, sqlite3", ask) == list(range(5))


async def test_a_scoped_session_is_its_handlers(engine: sqlalchemy.Engine) -> None:
    """It keeps its session in a threading.local; each has a transaction of its own."""
    scoped = orm.scoped_session(orm.sessionmaker(engine))

    def ask(number: int) -> tuple[Any, Any]:
        session = scoped()
        session.info["number"] = number
        found = scoped.execute(sqlalchemy.text(f"select wait({WAIT}), :n"), {"n": number}).one()[1]
        assert scoped() is session
        scoped.remove()
        return found, session.info["number"]

    assert await five("SQLAlchemy, scoped session", ask) == [(number, number) for number in range(5)]
