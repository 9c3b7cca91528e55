"""``offloaded("sqlite3")`` offloads each blocking call of a whole driver in C.

A driver is one row of DRIVERS, the list of its blocking calls. Outside of workers they stay the originals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Any

from greenlet import getcurrent

from .install import has_shims, install_shims
from .offload import in_thread_to_the_end
from .patch import Shim
from .workers import Worker

#: A function that makes a shim of an original, in a tuple, and its name. See ``Shim`` for the tuple.
Make = Callable[[tuple[Callable[..., Any]], str], Callable[..., Any]]


def _offload(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return original[0](*args, **kwargs)
        return in_thread_to_the_end(worker, name, partial(original[0], *args, **kwargs))

    return call


def _connect_sqlite(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    """Connect without ``check_same_thread``: each call may run in another thread, and SQLite serialises them in C."""

    def connect(*args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker:
            return original[0](*args, **kwargs)
        if len(args) > 4:  # database, timeout, detect_types, isolation_level, check_same_thread
            args = (*args[:4], False, *args[5:])
        else:
            kwargs["check_same_thread"] = False
        return in_thread_to_the_end(worker, name, partial(original[0], *args, **kwargs))

    return connect


def _fetch_if_named(original: tuple[Callable[..., Any]], name: str) -> Callable[..., Any]:
    """Offload only for a named cursor: psycopg2's other cursors have their rows in memory."""

    def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
        worker = getcurrent()
        if type(worker) is not Worker or self.name is None:
            return original[0](self, *args, **kwargs)
        return in_thread_to_the_end(worker, name, partial(original[0], self, *args, **kwargs))

    return fetch


#: Where ("module" or "module:Class"), names, and the function that makes the shims, if it is not the usual one. A name
#: that a version of the driver lacks is left out.
Row = tuple[str, str] | tuple[str, str, Make]

DRIVERS: dict[str, tuple[Row, ...]] = {
    "sqlite3": (
        ("sqlite3", "connect", _connect_sqlite),
        ("sqlite3:Connection", "execute executemany executescript commit rollback close backup blobopen"),
        ("sqlite3:Connection", "load_extension serialize deserialize __exit__"),
        ("sqlite3:Cursor", "execute executemany executescript fetchone fetchmany fetchall __next__"),
        ("sqlite3:Blob", "read write"),
    ),
    "psycopg2": (
        ("psycopg2", "_connect"),
        ("psycopg2.extensions:connection", "commit rollback reset cancel close lobject set_session"),
        ("psycopg2.extensions:connection", "set_isolation_level set_client_encoding"),
        ("psycopg2.extensions:connection", "tpc_begin tpc_prepare tpc_commit tpc_rollback tpc_recover"),
        ("psycopg2.extensions:cursor", "execute executemany callproc copy_from copy_to copy_expert close"),
        ("psycopg2.extensions:cursor", "fetchone fetchmany fetchall scroll", _fetch_if_named),
        ("psycopg2.extensions:lobject", "read write seek tell truncate close unlink export"),
    ),
    "MySQLdb": (
        ("MySQLdb.connections:Connection", "__init__"),
        ("MySQLdb._mysql:connection", "query store_result next_result read_query_result send_query ping select_db"),
        ("MySQLdb._mysql:connection", "change_user kill commit rollback autocommit set_character_set stat"),
        ("MySQLdb._mysql:connection", "shutdown close"),
        ("MySQLdb.cursors:CursorUseResultMixIn", "fetchone fetchmany fetchall"),
    ),
    "pymssql": (
        ("pymssql", "connect"),
        ("pymssql._pymssql:Connection", "commit rollback close autocommit"),
        ("pymssql._pymssql:Cursor", "execute executemany callproc fetchone fetchmany fetchall nextset close"),
    ),
    "pyodbc": (
        ("pyodbc", "connect"),
        ("pyodbc:Connection", "execute commit rollback close"),
        ("pyodbc:Cursor", "execute executemany fetchone fetchmany fetchall fetchval nextset commit rollback close"),
    ),
}  # fmt: skip


def offloaded(*names: str) -> None:
    """Offload each blocking call of these drivers, in workers; a name is the driver's module, like "sqlite3".

    A driver is imported, if it is not yet. A second call changes nothing; ``uninstall`` puts the originals back.
    Raises ValueError for a driver that is not in DRIVERS, ModuleNotFoundError for one that is not installed.
    """
    check_drivers(names)
    for name in names:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ModuleNotFoundError(f"offloaded({name!r}): {name} is not installed here", name=name) from None
    for name in names:
        install_shims(f"driver {name}", partial(_shims, name))


def is_offloaded(name: str) -> bool:
    """Whether this driver's calls are offloaded now."""
    return has_shims(f"driver {name}")


def check_drivers(names: Iterable[str]) -> None:
    """Raise ValueError for a driver that is not in DRIVERS."""
    if isinstance(names, str):
        raise ValueError(f"offloaded must be a list of drivers, [{names!r}]")  # noqa: TRY004
    for name in names:
        if name not in DRIVERS:
            raise ValueError(
                f"unknown driver {name!r}; there are {', '.join(DRIVERS)}. Any blocking function can be offloaded by "
                f"itself: offload(cursor.execute)(query), or @offload before a def"
            )


def _shims(driver: str) -> list[Shim]:
    """A driver's shims, each made around the original that is in its place now."""
    found: list[Shim] = []
    for where, names, *made in DRIVERS[driver]:
        make: Make = made[0] if made else _offload
        for name in names.split():
            owner = Shim(where, name, None).owner()
            if owner is not None:
                found.append(Shim(where, name, make((getattr(owner, name),), f"{where.replace(':', '.')}.{name}")))
    return found
