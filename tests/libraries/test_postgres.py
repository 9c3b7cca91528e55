"""A real PostgreSQL, asked by psycopg and psycopg2, and through SQLAlchemy's pools."""

from __future__ import annotations

import select
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import pytest
import sqlalchemy

from coserver import run_blocking
from coserver.hooks import offloaded

from ..conftest import BACKENDS
from .five import five
from .servers import needs_postgres, postgres_server

pytestmark = [needs_postgres, pytest.mark.usefixtures("hooked")]

QUERY = "select %s::int, pg_sleep(0.2)"


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with postgres_server(folder) as port:
        yield port


@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_psycopg(port: int, anyio_backend: Any) -> None:
    def ask(number: int) -> Any:
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres") as connection:
            row = connection.execute(QUERY, (number,)).fetchone()
            assert row is not None
            return row[0]

    assert await five(f"psycopg ({psycopg.pq.__impl__})", ask) == list(range(5))


async def test_a_pool_of_sqlalchemy(port: int) -> None:
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    engine = sqlalchemy.create_engine(url, pool_size=5)
    try:
        assert await five("SQLAlchemy, psycopg", _asking(engine)) == list(range(5))
    finally:
        engine.dispose()


async def test_a_pool_of_sqlalchemy_that_is_too_small(port: int) -> None:
    """Two connections for five: three wait in the pool's queue, and get them in turn."""
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    engine = sqlalchemy.create_engine(url, pool_size=2, max_overflow=0)
    try:
        assert await five("SQLAlchemy, 2 connections", _asking(engine), take_max=5 * 0.2) == list(range(5))
    finally:
        engine.dispose()


def _asking(engine: sqlalchemy.Engine) -> Any:
    def ask(number: int) -> Any:
        with engine.begin() as connection:
            row = connection.execute(sqlalchemy.text("select cast(:n as int), pg_sleep(0.2)"), {"n": number}).one()
            return row[0]

    return ask


def wait_by_select(connection: Any) -> None:
    """psycopg2 lets Python wait for it, by this. docs/guide/libraries.md has the same."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        fd = connection.fileno()
        if state == psycopg2.extensions.POLL_READ:
            select.select([fd], [], [])
        else:
            select.select([], [fd], [])


async def test_psycopg2_with_a_wait_callback(port: int) -> None:
    psycopg2.extensions.set_wait_callback(wait_by_select)
    try:
        assert await five("psycopg2, wait callback", lambda number: ask_psycopg2(port, number)) == list(range(5))
    finally:
        psycopg2.extensions.set_wait_callback(None)


def ask_psycopg2(port: int, number: int) -> Any:
    connection = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(QUERY, (number,))
            return cursor.fetchone()[0]
    finally:
        connection.close()


async def test_psycopg2_offloaded(port: int) -> None:
    offloaded("psycopg2")

    def more(_: int) -> Any:
        """What else of its calls there is: COPY, a named cursor, large objects, a failure, a subclass's cursor."""
        connection = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
        try:
            connection.set_session(isolation_level="SERIALIZABLE")
            with connection.cursor(cursor_factory=psycopg2.extras.DictCursor) as cursor:
                cursor.execute("create temporary table copied(n int)")
                cursor.copy_expert("copy copied from stdin", StringIO("1\n2\n"))
                cursor.execute("select sum(n) as sum from copied")
                assert cursor.fetchone()["sum"] == 3
            with connection.cursor("named") as named:
                named.execute("select generate_series(1, 5)")
                assert (len(named.fetchmany(2)), len(named.fetchall())) == (2, 3)
            large = connection.lobject(0, "wb")
            large.write(b"large")
            large.seek(0)
            assert large.read() == b"large"
            with pytest.raises(psycopg2.errors.UndefinedTable), connection.cursor() as cursor:
                cursor.execute("select * from missing")
            connection.rollback()
        finally:
            connection.close()

    assert await five("psycopg2, offloaded", lambda number: ask_psycopg2(port, number)) == list(range(5))
    await run_blocking(more, 0)
