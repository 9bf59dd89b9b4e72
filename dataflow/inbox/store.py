"""The inbox in SQLite (embedded) or PostgreSQL: a few short transactions, run in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import zstandard
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from dataflow.domain.orders import Admission
from dataflow.domain.progress import another_batch
from dataflow.errors import Conflict, Corrupt, Rejected
from dataflow.inbox import statements as sql
from dataflow.inbox.batch import Batch
from dataflow.inbox.statements import Admitted, Block
from dataflow.journal.sql_engine import create_journal_engine, journal_url, translated, writing

__all__ = ["Admission", "Admitted", "Block", "Inbox"]

STAGED_SECONDS = 86_400.0
"""How long a batch that nobody admits is kept. Far longer than a request may take; a caller who is later than that is
told to send the batch again."""

_TRANSACTION = 16 * 2**20  # bytes that are staged at once

T = TypeVar("T")


class Inbox:
    """The inbox at `url`. Opened when first used; any number of processes may have it open, and any task of one.

    Raises `Rejected` where the URL is of another kind, `Retryable` where the database does not answer."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.time) -> None:
        self._where = journal_url(url, "the inbox").render_as_string(hide_password=True)
        self._url = url
        self._clock = clock
        self._engine: Engine | None = None
        self._guard = threading.Lock()

    @property
    def exists(self) -> bool:
        """False where not even its file is there: nothing was ever pushed, and looking need not make one."""
        parsed = journal_url(self._url, "the inbox")
        return parsed.get_backend_name() != "sqlite" or Path(parsed.database or "").exists()

    def close(self) -> None:
        """Let the connections go. It may be used again."""
        with self._guard:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    async def stage(self, pipeline: str, batches: Sequence[Batch]) -> list[Admitted | str | Conflict]:
        """Store batches where no source sees them: for each its token. Durable once this returns. A batch that was
        admitted before is not stored again: what is known of it; or `Conflict`, where another batch had that id."""
        packed = await asyncio.to_thread(lambda: [_packed(batch.lines) for batch in batches])
        found: list[Admitted | str | Conflict] = []
        for part in _bounded(packed):
            found += await self._stage(pipeline, batches[part], packed[part])
        return found

    async def _stage(
        self, pipeline: str, batches: Sequence[Batch], packed: Sequence[bytes]
    ) -> list[Admitted | str | Conflict]:
        now = self._now()

        def put(connection: Connection) -> list[Admitted | str | Conflict]:
            known = sql.find(connection, pipeline, [batch.id for batch in batches])
            found: list[Admitted | str | Conflict] = []
            rows: list[Mapping[str, object]] = []
            for batch, payload in zip(batches, packed, strict=True):
                before = known.get(batch.id)
                if before is not None:
                    found.append(before if before.digest == batch.digest else another_batch(pipeline, batch.id))
                    continue
                token = uuid4().hex
                found.append(token)
                rows.append(
                    {
                        "token": token,
                        "pipeline": pipeline,
                        "batch_id": batch.id,
                        "digest": batch.digest,
                        "records": batch.records,
                        "source_offset": batch.source_offset,
                        "staged_at": now,
                        "size": len(batch.lines),
                        "payload": payload,
                    }
                )
            sql.stage(connection, rows, now - round(STAGED_SECONDS * 1000))
            return found

        return await self._write(put)

    async def find(self, pipeline: str, batch_ids: Collection[str]) -> Mapping[str, Admitted]:
        """What is known of batches that were admitted, by id."""
        return await self._read(lambda connection: sql.find(connection, pipeline, batch_ids))

    async def drop(self, tokens: Collection[str]) -> None:
        """Forget staged batches. Those that were admitted stay. Repeatable."""
        if tokens:
            await self._write(lambda connection: sql.drop(connection, tokens))

    async def admit(self, pipeline: str, wanted: Sequence[tuple[str, str]]) -> list[Admission]:
        """Let the source see staged batches (id, token), each once, in that order and all in one act. Repeatable;
        durable once it returns."""
        now = self._now()
        return await self._write(lambda connection: sql.admit(connection, pipeline, wanted, now))

    async def extent(self, pipeline: str) -> tuple[int, int]:
        """The first offset that is still kept, and the one the next record will have."""
        return await self._read(lambda connection: sql.extent(connection, pipeline))

    async def read(self, pipeline: str, offset: int, records: int = 10_000, size: int = 16 * 2**20) -> list[Block]:
        """Blocks of admitted records from `offset` on, in order and without gaps: about as many as have `records` and
        `size` bytes. None: there are no later ones yet.

        Raises `Rejected` (LOST_OFFSETS) where the records at `offset` were forgotten."""
        found = await self._read(lambda connection: sql.read(connection, pipeline, offset, records, size))
        if found and found[0].first_offset > offset:
            raise Rejected(
                f"the records from offset {offset} on are no longer in the inbox, which begins at "
                f"{found[0].first_offset}",
                code="LOST_OFFSETS",
                hint="reset the pipeline from the start, which reads what is still there; a longer keep prevents it",
            )
        return found

    async def settle(self, pipeline: str, upto: int, keep: float) -> int:
        """Forget records before `upto` that were admitted more than `keep` seconds ago; the number of batches that
        went. Their ids stay known."""
        before = self._now() - round(keep * 1000)
        return await self._write(lambda connection: sql.settle(connection, pipeline, upto, before))

    async def retire(self, pipeline: str) -> None:
        """Forget all records of a pipeline that will never read them. Ids stay. Repeatable."""
        await self._write(lambda connection: sql.settle(connection, pipeline, 2**63 - 1, 2**63 - 1))

    async def at_time(self, pipeline: str, moment: float) -> int:
        """The offset of the first record pushed at or after that moment (seconds since 1970); the end, where none
        was."""

        def ask(connection: Connection) -> int:
            found = sql.at_time(connection, pipeline, round(moment * 1000))
            return sql.extent(connection, pipeline)[1] if found is None else found

        return await self._read(ask)

    def _now(self) -> int:
        return round(self._clock() * 1000)

    async def _read(self, ask: Callable[[Connection], T]) -> T:
        def run() -> T:
            with translated(self._where, "the inbox"), self._opened().connect() as connection:
                return ask(connection)

        return await asyncio.to_thread(run)

    async def _write(self, act: Callable[[Connection], T]) -> T:
        def run() -> T:
            with translated(self._where, "the inbox"):
                try:
                    with writing(self._opened()) as connection:
                        return act(connection)
                except IntegrityError:  # another process was first by a hair: now it is to be seen
                    with writing(self._opened()) as connection:
                        return act(connection)

        return await asyncio.to_thread(run)

    def _opened(self) -> Engine:
        with self._guard:
            if self._engine is None:
                from migrations import INBOX

                engine = create_journal_engine(self._url, connections=8)
                try:
                    with engine.connect() as connection:
                        found = INBOX.current(connection)
                    if found != INBOX.head:
                        with writing(engine) as connection:
                            INBOX.upgrade(connection)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine


def lines_of(block: Block) -> list[bytes]:
    """The records of a block, each a JSON object. `Corrupt` where they are not those that were stored."""
    try:
        lines = zstandard.ZstdDecompressor().decompress(block.payload).split(b"\n")
    except zstandard.ZstdError as error:
        raise Corrupt(f"the batch {block.batch_id!r} in the inbox is damaged: {error}") from error
    if len(lines) != block.next_offset - block.first_offset:
        raise Corrupt(f"the batch {block.batch_id!r} in the inbox has {len(lines)} records, not those that were pushed")
    return lines


def _bounded(packed: Sequence[bytes]) -> Iterator[slice]:
    """Parts of about `_TRANSACTION` bytes at most, one batch at least."""
    start = size = 0
    for index, payload in enumerate(packed):
        if index > start and size + len(payload) > _TRANSACTION:
            yield slice(start, index)
            start, size = index, 0
        size += len(payload)
    if packed:
        yield slice(start, len(packed))


def _packed(lines: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)
