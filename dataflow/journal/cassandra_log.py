"""The log that the journal in Cassandra is built on: appending to it, and working it out into the other tables.

One conditional batch (a lightweight transaction, Paxos) in one partition of `journal_log` is the whole commit of a
slot: it takes the next free position or does nothing at all, so positions have no gaps, become visible in their own
order, and every slot was decided upon knowing all those before it. From the log follow the rows of the streams, the
heads, the index: they are written after it, and `journal_marks` tells how far that has come. Invariant: a slot is only
added when the one before it has been worked out. So whoever finds one slot behind the mark, left there by a writer that
died or is still at it, works it out first. All such rows carry the position as their time of writing, so it does not
matter who does it, how often, or how late.

Blocking functions, called from threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cassandra import ConsistencyLevel, OperationTimedOut, WriteTimeout  # type: ignore[import-untyped]
from cassandra.cluster import Session  # type: ignore[import-untyped]
from cassandra.query import BatchStatement, BatchType  # type: ignore[import-untyped]

from dataflow.domain.record import EventRecord
from dataflow.errors import Conflict, Corrupt, Rejected, Retryable
from dataflow.journal.base import Head, remaining
from dataflow.journal.cassandra_rows import (
    DAYS,
    LogRow,
    chunk_of,
    day_of,
    facets,
    log_bucket,
    shard_of,
    stream_bucket,
    time_text,
)
from dataflow.journal.cassandra_session import all_at_once

SLOT_BYTES = 1 << 20
"""Text of one slot, where it holds more than one append."""

APPEND_BYTES = 4 << 20
"""Text of one append: Cassandra takes no mutation above half a segment of its commit log (8 MiB and more)."""

TRIES = 200
"""Slots that others may get in before ours, until the caller is told to come again."""

REMEMBERED = 10_000
"""Heads, and chunks of the index, that a writer knows without asking."""

MARK = "applied"


@dataclass(frozen=True, slots=True)
class Appending:
    """One call of `Journal.append`."""

    stream: str
    expected_sequence: int
    records: tuple[EventRecord, ...]


class Statements:
    """The prepared statements that write."""

    def __init__(self, session: Session, serial: int) -> None:
        prepare = session.prepare
        columns = "(bucket, position, slot, stream, sequence, record, hash) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self.claim = prepare(f"INSERT INTO journal_log {columns} IF NOT EXISTS")
        self.add = prepare(f"INSERT INTO journal_log {columns}")
        self.behind = prepare(
            "SELECT bucket, position, slot, stream, sequence, record, hash FROM journal_log"
            " WHERE bucket = ? AND position > ?"
        )
        self.behind_serial = prepare(self.behind.query_string)
        self.behind_serial.consistency_level = serial
        self.mark = prepare("INSERT INTO journal_marks (name, position) VALUES (?, ?) USING TIMESTAMP ?")
        self.marked = prepare("SELECT position FROM journal_marks WHERE name = ?")
        self.event = prepare(
            "INSERT INTO journal_streams (stream, bucket, sequence, position, time, record, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
        )
        self.hashes = prepare(
            "SELECT hash FROM journal_streams WHERE stream = ? AND bucket = ? AND sequence >= ? AND sequence <= ?"
        )
        self.head = prepare("SELECT sequence, hash, position FROM journal_heads WHERE shard = ? AND stream = ?")
        self.set_head = prepare(
            "INSERT INTO journal_heads (shard, stream, sequence, hash, position)"
            " VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?"
        )
        self.id = prepare("INSERT INTO journal_ids (id, bucket, position) VALUES (?, ?, ?) USING TIMESTAMP ?")
        self.index = prepare(
            "INSERT INTO journal_index (facet, chunk, position, bucket) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
        )
        self.chunk = prepare("INSERT INTO journal_index_chunks (facet, chunk) VALUES (?, ?) USING TIMESTAMP ?")


class Log:
    """The log over one session. `append_group` is for one thread at a time; the others may be called from any.

    `serial` is the consistency of lightweight transactions, SERIAL or LOCAL_SERIAL."""

    def __init__(self, session: Session, serial: int = ConsistencyLevel.SERIAL) -> None:
        self.session = session
        self.statements = Statements(session, serial)
        self._end: int | None = None  # of the log, as the last append left it; None: ask
        self._heads: dict[str, Head | None] = {}  # as of `_end`
        self._chunks: set[tuple[str, int]] = set()  # noted in this process already

    # --- reading what is settled --------------------------------------------------------------------------------------

    def settle(self, *, serially: bool = False) -> int:
        """The position up to which everything is worked out, once everything there is has been. `serially` also
        settles what other writers have proposed and not finished."""
        chosen = self.statements.behind_serial if serially else self.statements.behind
        end = self._marked()
        while True:
            behind = [LogRow(*row) for row in self.session.execute(chosen, (log_bucket(end + 1), end))]
            slot = [row for row in behind if row.slot == end + 1]
            if not slot and not behind:
                return end
            if [row.position for row in slot] != list(range(end + 1, end + 1 + len(slot))):
                raise Corrupt("positions are missing in the log", where=f"position {end + 1}")
            self._work_out(slot)
            end = slot[-1].position

    def head(self, stream: str) -> tuple[Head, int] | None:
        """The stream's newest event and its position; perhaps of a slot that is not worked out yet."""
        row = self.session.execute(self.statements.head, (shard_of(stream), stream)).one()
        return None if row is None else (Head(row[0], row[1]), row[2])

    def _marked(self) -> int:
        row = self.session.execute(self.statements.marked, (MARK,)).one()
        return 0 if row is None else int(row[0])

    # --- appending ----------------------------------------------------------------------------------------------------

    def append_group(self, group: Sequence[Appending]) -> list[Conflict | Corrupt | Rejected | None]:
        """Append what can be appended, in one slot where it fits; None or the refusal for each. No two are of the same
        stream. After an error of the driver the outcome of all is open."""
        try:
            return self._append(group)
        except BaseException:
            self._forget()
            raise

    def _append(self, group: Sequence[Appending]) -> list[Conflict | Corrupt | Rejected | None]:
        for _ in range(TRIES):
            asked = self._end is None
            end = self._end = self.settle(serially=True) if self._end is None else self._end
            outcomes, accepted = self._decide(group)
            if any(outcomes) and not asked:
                self._forget()  # others may have been here meanwhile: refuse on what is there now
                continue
            size = sum(len(row.text) for row in _rows(end, accepted))
            if size > SLOT_BYTES and len(group) > 1:
                middle = len(group) // 2
                return [*self._append(group[:middle]), *self._append(group[middle:])]
            if size > APPEND_BYTES:
                return [Rejected(f"an append of {size:,} bytes is more than {APPEND_BYTES:,}", code="TOO_LARGE")]
            if not accepted:
                return outcomes
            rows = _rows(end, accepted)
            if self._claim(rows):
                self._work_out(rows)
                self._end = rows[-1].position
                self._heads.update({row.stream: Head(row.sequence, row.hash) for row in rows})
                return outcomes
            self._forget()
        raise Retryable("others append all the time, and were faster each time", code="SERVICE_UNAVAILABLE")

    def _forget(self) -> None:
        self._end = None
        self._heads.clear()

    def _decide(
        self, group: Sequence[Appending]
    ) -> tuple[list[Conflict | Corrupt | Rejected | None], list[EventRecord]]:
        """The refusals, and the records to be stored."""
        wanted = [one.stream for one in group if one.stream not in self._heads]
        asked = [(self.statements.head, (shard_of(stream), stream)) for stream in wanted]
        if len(self._heads) > REMEMBERED:
            self._heads = {stream: head for stream, head in self._heads.items() if stream in {o.stream for o in group}}
        for stream, found in zip(wanted, all_at_once(self.session, asked), strict=True):
            row = found.one()
            self._heads[stream] = None if row is None else Head(row[0], row[1])
        outcomes: list[Conflict | Corrupt | Rejected | None] = []
        accepted: list[EventRecord] = []
        for one in group:
            head = self._heads[one.stream]
            stored: Sequence[str] = ()
            if head is not None and head.sequence > one.expected_sequence:
                # Not beyond the head: another writer's slot may be on its way into the streams.
                last = min(one.expected_sequence + len(one.records), head.sequence)
                stored = self._hashes(one.stream, one.expected_sequence + 1, last)
            try:
                accepted.extend(remaining(one.stream, one.expected_sequence, one.records, head, stored))
                outcomes.append(None)
            except (Conflict, Corrupt) as refusal:
                outcomes.append(refusal)
        return outcomes, accepted

    def _hashes(self, stream: str, first: int, last: int) -> list[str]:
        asked = [
            (self.statements.hashes, (stream, bucket, first, last))
            for bucket in range(stream_bucket(first), stream_bucket(last) + 1)
        ]
        return [row[0] for found in all_at_once(self.session, asked) for row in found]

    def _claim(self, rows: Sequence[LogRow]) -> bool:
        """Take the positions of these rows; False where somebody else has, or may have: look again."""
        batch = BatchStatement(BatchType.UNLOGGED)
        for number, row in enumerate(rows):
            # The first position is free only where all behind it are: one condition is enough.
            batch.add(self.statements.add if number else self.statements.claim, _values(row))
        try:
            return bool(self.session.execute(batch).was_applied)
        except (WriteTimeout, OperationTimedOut):
            # Open whether it counts. The serial read before the next try settles it, and what is there already is
            # passed over as any repeated append is.
            return False

    # --- working out --------------------------------------------------------------------------------------------------

    def _work_out(self, slot: Sequence[LogRow]) -> None:
        """Write everything that follows from the slot, and only then that it has been."""
        records = [(row, row.entry.record) for row in slot]
        indexed = self._index(records)
        chunks = {(DAYS, day_of(record.time)) for _, record in records} | indexed.keys()
        new = chunks - self._chunks
        statements = [
            *self._events(records),
            *self._heads_of(slot),
            *((self.statements.id, (record.id, row.bucket, row.position, row.position)) for row, record in records),
            *((batch, None) for batch in indexed.values()),
            *((self.statements.chunk, (*chunk, 1)) for chunk in new),
        ]
        all_at_once(self.session, statements)
        # Another object each time: readers' threads work out, too.
        self._chunks = new if len(self._chunks) > REMEMBERED else self._chunks | new
        end = slot[-1].position
        self.session.execute(self.statements.mark, (MARK, end, end))

    def _events(self, records: Sequence[tuple[LogRow, EventRecord]]) -> Iterable[tuple[Any, Any]]:
        for (stream, bucket), of_one in groupby(records, lambda one: (one[0].stream, stream_bucket(one[0].sequence))):
            batch = BatchStatement(BatchType.UNLOGGED)  # one partition: one mutation
            for row, record in of_one:
                time = time_text(record.time)
                values = (stream, bucket, row.sequence, row.position, time, row.text, row.hash, row.position)
                batch.add(self.statements.event, values)
            yield batch, None

    def _heads_of(self, slot: Sequence[LogRow]) -> Iterable[tuple[Any, Any]]:
        for row in {row.stream: row for row in slot}.values():
            values = (shard_of(row.stream), row.stream, row.sequence, row.hash, row.position, row.position)
            yield self.statements.set_head, values

    def _index(self, records: Sequence[tuple[LogRow, EventRecord]]) -> dict[tuple[str, int], Any]:
        """A batch for each (facet, chunk), each a partition."""
        batches: dict[tuple[str, int], Any] = {}
        for row, record in records:
            for facet in facets(record):
                place = facet, chunk_of(row.position)
                batch = batches.setdefault(place, BatchStatement(BatchType.UNLOGGED))
                batch.add(self.statements.index, (*place, row.position, row.bucket, row.position))
        return batches


def _rows(end: int, records: Sequence[EventRecord]) -> list[LogRow]:
    """The slot behind `end`."""
    bucket = log_bucket(end + 1)
    return [LogRow.of(bucket, position, end + 1, record) for position, record in enumerate(records, end + 1)]


def _values(row: LogRow) -> tuple[Any, ...]:
    return row.bucket, row.position, row.slot, row.stream, row.sequence, row.text, row.hash
