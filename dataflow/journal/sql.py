"""The journal in a SQL database: SQLite in one file (embedded), PostgreSQL.

Blocking statements run in threads of this object: one writes, some read. Appends that arrive while a transaction is on
its way to the disk are committed together by the next one (group commit), each succeeding or failing on its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, Engine

from dataflow.domain.record import EventRecord
from dataflow.errors import Conflict, DataFlowError
from dataflow.journal import sql_statements as sql
from dataflow.journal.base import Entry, Head, Page, Snapshot, check_records, decode_cursor, page_of
from dataflow.journal.sql_engine import create_journal_engine, journal_url, translated, writing

READERS = 2
PAGE = 500
GROUP = 256
"""Appends of one transaction at most."""

P = ParamSpec("P")
T = TypeVar("T")
Waiting = tuple[sql.Appending, asyncio.Future[None]]


class SqlJournal:
    """`Journal` in the database at `url` (`sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://...`).

    Several processes may have the same database open. Raises `Rejected` where the URL is of another kind."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._where = journal_url(url).render_as_string(hide_password=True)
        self._engine: Engine | None = None
        self._stack = ExitStack()
        self._pending: list[Waiting] = []
        self._flushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._stack.callback(self._dispose)  # last: once the threads have let go of the connections
        self._writer = self._stack.enter_context(ThreadPoolExecutor(1, "journal-write"))
        self._readers = self._stack.enter_context(ThreadPoolExecutor(READERS, "journal-read"))
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._open)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Waits for appends under way, then lets the connections and threads go. Repeatable."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        await asyncio.to_thread(self._stack.close)

    def _open(self) -> None:
        import migrations  # which imports alembic only if there is something to do

        with translated(self._where):
            engine = create_journal_engine(self.url, connections=1 + READERS)
            self._engine = engine
            with engine.connect() as connection:
                found = migrations.current(connection)
            if found != migrations.HEAD:
                with writing(engine) as connection:
                    migrations.upgrade(connection)

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @property
    def _opened(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the journal is not open: use it inside `async with`")
        return self._engine

    async def append(self, stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
        check_records(stream, expected_sequence, records)
        _ = self._opened
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((sql.Appending(stream, expected_sequence, tuple(records)), waiting))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="journal-flush")
        await waiting

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            group, self._pending = self._pending[:GROUP], self._pending[GROUP:]
            outcomes: Sequence[Exception | None]
            try:
                outcomes = await loop.run_in_executor(self._writer, self._commit, [one for one, _ in group])
            except Exception as error:  # noqa: BLE001  (handed to those who wait, each of whom raises it)
                outcomes = [error] * len(group)
            for (_, waiting), outcome in zip(group, outcomes, strict=True):
                if waiting.done():  # its caller was cancelled
                    continue
                if outcome is None:
                    waiting.set_result(None)
                else:
                    waiting.set_exception(outcome)

    def _commit(self, batch: Sequence[sql.Appending]) -> Sequence[DataFlowError | None]:
        try:
            with translated(self._where), writing(self._opened) as connection:
                return sql.append_all(connection, batch)
        except Conflict as refusal:  # by a constraint of the database: the whole transaction is gone
            if len(batch) == 1:
                return [refusal]
            return [self._commit([one])[0] for one in batch]

    async def _read(self, ask: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            with translated(self._where), self._opened.connect() as connection:
                return ask(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def read(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[EventRecord, None]:
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = await self._read(sql.read_page, stream, after, upto, size)
            for entry in page:
                yield entry.record
            if len(page) < size:
                return
            after = page[-1].record.sequence
            left = None if left is None else left - size

    async def last(self, stream: str) -> EventRecord | None:
        return await self._read(sql.last_of, stream)

    async def find(self, event_id: str) -> Entry | None:
        return await self._read(sql.find_event, event_id)

    async def query(
        self,
        *,
        stream: str | None = None,
        tag: str | None = None,
        type: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Page:
        conditions = {"stream": stream, "tag": tag, "type": type, "actor": actor, "since": since, "until": until}
        place = decode_cursor(after)
        return page_of(await self._read(sql.query_page, conditions, place, limit + 1, newest_first), limit)

    async def by_tag(self, tag: str, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return await self._read(sql.tag_page, tag, after_position, limit)

    async def tail(self, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return await self._read(sql.tail_page, after_position, limit)

    async def end(self) -> int:
        return await self._read(sql.end_of)

    async def head(self, stream: str) -> Head | None:
        return await self._read(sql.head_of, stream)

    async def streams(self) -> list[str]:
        return await self._read(sql.stream_names)

    async def snapshot(self, stream: str, sequence: int, state: Mapping[str, Any]) -> None:
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)

        def put() -> None:
            with translated(self._where), writing(self._opened) as connection:
                sql.put_snapshot(connection, stream, sequence, text)

        await asyncio.get_running_loop().run_in_executor(self._writer, put)

    async def latest_snapshot(self, stream: str, at_or_before: int | None = None) -> Snapshot | None:
        return await self._read(sql.newest_snapshot, stream, at_or_before)
