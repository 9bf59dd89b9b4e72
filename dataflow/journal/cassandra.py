"""The journal in Cassandra: for production, where it has to outlive machines.

Blocking calls run in threads of this object: one appends, some read. Appends that arrive while a slot of the log is on
its way are put together into the next one (group commit), each succeeding or failing on its own. How it is stored, and
why nothing is lost or seen twice: `dataflow.journal.cassandra_log`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from cassandra import ConsistencyLevel  # type: ignore[import-untyped]

from dataflow.domain.record import EventRecord
from dataflow.errors import Rejected
from dataflow.journal.base import Entry, Head, Page, Snapshot, check_records, decode_cursor, page_of
from dataflow.journal.cassandra_log import Appending, Log
from dataflow.journal.cassandra_reads import Reads
from dataflow.journal.cassandra_session import CassandraUrl, connect, translated

READERS = 4
PAGE = 500
GROUP = 64
"""Appends of one slot at most."""

P = ParamSpec("P")
T = TypeVar("T")
Waiting = tuple[Appending, asyncio.Future[None]]


class CassandraJournal:
    """`Journal` in the keyspace at `url` (see `CassandraUrl`); keyspace and tables are made where they are missing.

    Any number of processes may append: they take turns, slot by slot. An append takes 4 MiB of events at most.
    Raises `Rejected` where the URL is of another kind."""

    def __init__(self, url: str) -> None:
        self.url = CassandraUrl.parse(url)
        self._stack = ExitStack()
        self._log: Log | None = None
        self._pending: list[Waiting] = []
        self._flushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
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
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        from migrations import cql

        with translated(self.url.where):
            self._cluster, session = connect(self.url)
            self._stack.callback(self._cluster.shutdown)
            cql.upgrade(session, self.url.keyspace, self.url.replication)
            local = self.url.consistency == "LOCAL_QUORUM"
            self._log = Log(session, ConsistencyLevel.LOCAL_SERIAL if local else ConsistencyLevel.SERIAL)
            self._reads = Reads(self._log)

    def _close(self) -> None:
        # The threads first: they still use the connections, which were entered after them.
        for pool in (getattr(self, "_writer", None), getattr(self, "_readers", None)):
            if pool is not None:
                pool.shutdown()
        self._stack.close()
        self._log = None

    @property
    def _opened(self) -> Log:
        if self._log is None:
            raise RuntimeError("the journal is not open: use it inside `async with`")
        return self._log

    async def append(self, stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
        check_records(stream, expected_sequence, records)
        _ = self._opened
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((Appending(stream, expected_sequence, tuple(records)), waiting))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="journal-flush")
        await waiting

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._pending:
            group = self._next_group()
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

    def _next_group(self) -> list[Waiting]:
        """The longest waiting ones, one of each stream: the second of a stream builds on the first."""
        chosen: dict[str, Waiting] = {}
        left: list[Waiting] = []
        for waiting in self._pending:
            stream = waiting[0].stream
            if stream in chosen or len(chosen) >= GROUP:
                left.append(waiting)
            else:
                chosen[stream] = waiting
        self._pending = left
        return list(chosen.values())

    def _commit(self, group: Sequence[Appending]) -> Sequence[Rejected | Exception | None]:
        with translated(self.url.where):
            return self._opened.append_group(group)

    async def _read(self, ask: Callable[Concatenate[Reads, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        _ = self._opened

        def run() -> T:
            with translated(self.url.where):
                return ask(self._reads, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def read(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[EventRecord, None]:
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            page = await self._read(Reads.page, stream, after, upto, size)
            for record in page:
                yield record
            if len(page) < size:
                return
            after = page[-1].sequence
            left = None if left is None else left - size

    async def last(self, stream: str) -> EventRecord | None:
        return await self._read(Reads.last, stream)

    async def find(self, event_id: str) -> Entry | None:
        return await self._read(Reads.find, event_id)

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
        return page_of(await self._read(Reads.query, conditions, place, limit + 1, newest_first), limit)

    async def by_tag(self, tag: str, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return await self._read(Reads.by_tag, tag, after_position, limit)

    async def tail(self, after_position: int = 0, limit: int = 500) -> list[Entry]:
        return await self._read(Reads.tail, after_position, limit)

    async def end(self) -> int:
        return await self._read(lambda reads: reads.log.settle())

    async def head(self, stream: str) -> Head | None:
        return await self._read(Reads.head, stream)

    async def streams(self) -> list[str]:
        return await self._read(Reads.streams)

    async def snapshot(self, stream: str, sequence: int, state: Mapping[str, Any]) -> None:
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)
        await self._read(Reads.put_snapshot, stream, sequence, text)

    async def latest_snapshot(self, stream: str, at_or_before: int | None = None) -> Snapshot | None:
        return await self._read(Reads.newest_snapshot, stream, at_or_before)
