"""SQLAlchemy engines for the journal: SQLite (one file, several processes) and PostgreSQL.

The engine is the blocking one, run in threads by `SqlJournal`: an append is some five statements, and one hop to a
thread costs less than five hops through an asynchronous driver, which for SQLite is a thread of its own anyway.

SQLite: write-ahead log with `synchronous=FULL`, so a commit is on disk before it is acknowledged (SQLite manual,
"Write-Ahead Logging" and "PRAGMA synchronous"). Transactions are begun by us, not by the driver: `BEGIN IMMEDIATE` for
writers, which then wait for each other instead of failing half-way, plain `BEGIN` for readers, who see one snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dataflow.errors import Conflict, Corrupt, DataFlowError, Rejected, Retryable

BUSY_SECONDS = 30.0
"""How long a SQLite writer waits for another process's transaction."""

_DAMAGE = ("disk image is malformed", "file is not a database", "Could not decode to UTF-8")

_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+aiosqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def journal_url(url: str, what: str = "the journal") -> URL:
    """The URL with the driver we use. `Rejected` for a database that `what` cannot live in."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise Rejected(f"{what}'s URL cannot be read", hint="for example sqlite:////var/lib/dataflow.db") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise Rejected(f"{what} cannot be kept in {parsed.drivername!r}", hint="sqlite or postgresql")
    if driver.startswith("sqlite") and parsed.database in (None, "", ":memory:"):
        hint = "memory: is the journal without one" if what == "the journal" else ""
        raise Rejected(f"{what} in SQLite needs a file", hint=hint)
    return parsed.set(drivername=driver)


def create_journal_engine(url: str, *, connections: int = 1) -> Engine:
    """An engine that has not connected yet. The folder of a SQLite file is made where it is missing."""
    parsed = journal_url(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            return create_engine(
                parsed, isolation_level="READ COMMITTED", pool_size=connections, max_overflow=0, pool_pre_ping=True
            )
        Path(parsed.database or "").expanduser().parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(
            parsed, pool_size=connections, max_overflow=0, connect_args={"timeout": BUSY_SECONDS, "uri": False}
        )
    except (ImportError, NoSuchModuleError) as error:
        raise Rejected(f"the driver for {parsed.drivername} is not installed: {error}") from error
    except OSError as error:
        raise Rejected(f"the journal's folder cannot be made: {error}", where=str(parsed.database)) from error
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    cursor = connection.cursor()
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    """SQLite does not always wait for its lock while the mode of a new file is changed by several processes."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except cursor.connection.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("dataflow_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: committed at the end, rolled back on an error."""
    with engine.connect().execution_options(dataflow_write=True) as connection, connection.begin():
        yield connection


@contextmanager
def translated(where: str, what: str = "the journal") -> Iterator[None]:
    """The database's errors as ours, by what the caller should do about them. `what` is kept there, for people."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        raise _translate(error, where, what) from error


def _translate(error: DBAPIError | PoolTimeout, where: str, what: str) -> DataFlowError:
    text = str(getattr(error, "orig", None) or error).splitlines()[0]
    if isinstance(error, IntegrityError):
        return Conflict(f"{what} refused a row: {text}", where=where)
    if isinstance(error, PoolTimeout) or getattr(error, "connection_invalidated", False):
        return Retryable(f"{what}: the connection was lost: {text}", code="CONNECTION_FAILED", where=where)
    if any(sign in text for sign in _DAMAGE):
        return Corrupt(f"{what}: the file is damaged: {text}", where=where)
    if "readonly" in text or "unable to open" in text:
        return Rejected(f"{what} cannot be opened for writing: {text}", where=where)
    if isinstance(error, OperationalError | InterfaceError):
        return Retryable(f"{what}: not available: {text}", code="SERVICE_UNAVAILABLE", where=where)
    if isinstance(error, DatabaseError):
        return Rejected(f"{what} refused the statement: {text}", where=where)
    return Retryable(f"{what} failed: {text}", where=where)
