"""pymysql against a real MariaDB, alone and through SQLAlchemy's pool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy

from .five import TAKE_MAX, WAIT, five
from .servers import mariadb_server, needs_mariadb

pytestmark = [needs_mariadb, pytest.mark.usefixtures("hooked")]


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    with mariadb_server(folder) as port:
        yield port


@pytest.mark.parametrize(("ssl_disabled", "take_max"), [(True, TAKE_MAX), (False, 5 * WAIT)], ids=["plain", "tls"])
async def test_pymysql(port: int, ssl_disabled: bool, take_max: float) -> None:
    """Unless told otherwise it reads the system's authorities for each connection: 20 ms of the processor's time."""

    def ask(number: int) -> Any:
        with (
            pymysql.connect(host="127.0.0.1", port=port, user="root", ssl_disabled=ssl_disabled) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("select %s, sleep(0.2)", (number,))
            found = cursor.fetchone()
            assert found is not None
            return found[0]

    name = "pymysql" if ssl_disabled else "pymysql, reading authorities"
    assert await five(name, ask, take_max=take_max) == list(range(5))


async def test_a_pool_of_sqlalchemy(port: int) -> None:
    url = f"mysql+pymysql://root@127.0.0.1:{port}/mysql?ssl_disabled=true"
    engine = sqlalchemy.create_engine(url, pool_size=5)

    def ask(number: int) -> Any:
        with engine.begin() as connection:
            return connection.execute(sqlalchemy.text("select :n, sleep(0.2)"), {"n": number}).one()[0]

    try:
        assert await five("SQLAlchemy, pymysql", ask) == list(range(5))
    finally:
        engine.dispose()
