"""What source and sink share: a connection for one call, in a thread, with DataFlow's own errors."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from dataflow.errors import DataFlowError, Rejected, Retryable

T = TypeVar("T")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def call(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run `work` in one transaction. Cancelled, it waits for the thread: a commit cannot be called back, and the next
    attempt must find it done or not done."""

    def run() -> T:
        try:
            with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    found = work(connection)
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
                return found
        except sqlite3.OperationalError as error:
            raise Retryable(f"SQLite: {error}", where=str(path)) from error  # locked, disk full, cannot be opened
        except sqlite3.Error as error:
            raise Rejected(f"SQLite: {error}", code="SQLITE", where=str(path)) from error

    running = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled() and (error := running.exception()) and not isinstance(error, DataFlowError):
            raise error from None
        raise
