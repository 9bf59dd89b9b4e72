"""Reading the journal out of Cassandra: streams, the log, the index, snapshots. Blocking functions over a `Log`.

Every answer is of one moment: `Log.settle` gives a position, and nothing behind it is looked at, so a slot that is just
being worked out into the tables does not show in parts.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

from dataflow.domain.record import EventRecord
from dataflow.errors import Conflict, Corrupt
from dataflow.journal.base import SNAPSHOTS_KEPT, Entry, Head, Snapshot, milestones_from, outdated
from dataflow.journal.cassandra_log import Log
from dataflow.journal.cassandra_rows import (
    DAYS,
    LOG_BUCKET,
    SHARDS,
    LogRow,
    chunk_of,
    day_of,
    entry_of,
    facet,
    log_bucket,
    stream_bucket,
    time_text,
)
from dataflow.journal.cassandra_session import all_at_once

FETCHED = 200
"""Events looked up in the log at a time."""

DAYS_MERGED = 100
"""Days whose index is read side by side; a longer time is looked for in the log itself."""

Ref = tuple[int, int]  # position, bucket of the log


class Reads:
    """Prepared statements that read, and what they answer."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._session = log.session
        prepare = log.session.prepare
        row = "SELECT bucket, position, slot, stream, sequence, record, hash FROM journal_log"
        event = (
            "SELECT position, stream, sequence, time, record, hash FROM journal_streams WHERE stream = ? AND bucket = ?"
        )
        up, down = "", " ORDER BY sequence DESC"
        self._range = prepare(f"{row} WHERE bucket = ? AND position >= ? AND position <= ?")
        self._some = prepare(f"{row} WHERE bucket = ? AND position IN ?")
        self._any = prepare(f"{row} WHERE bucket = ? LIMIT 1")
        self._page = prepare(f"{event} AND sequence > ? AND sequence <= ? LIMIT ?")
        self._events = {
            newest_first: prepare(
                f"{event} AND sequence >= ? AND sequence <= ? AND time >= ? AND time < ?"
                f"{down if newest_first else up} ALLOW FILTERING"  # within one partition, which is bounded
            )
            for newest_first in (False, True)
        }
        self._id = prepare("SELECT position, bucket FROM journal_ids WHERE id = ?")
        self._streams = prepare("SELECT stream FROM journal_heads WHERE shard = ?")
        chunks = "SELECT chunk FROM journal_index_chunks WHERE facet = ? AND chunk >= ? AND chunk <= ?"
        refs = (
            "SELECT position, bucket FROM journal_index"
            " WHERE facet = ? AND chunk = ? AND position >= ? AND position <= ?"
        )
        self._chunks = {False: prepare(chunks), True: prepare(f"{chunks} ORDER BY chunk DESC")}
        self._refs = {False: prepare(refs), True: prepare(f"{refs} ORDER BY position DESC")}
        self._snapshot = prepare(
            "SELECT sequence, state FROM journal_snapshots WHERE stream = ? AND sequence <= ?"
            " ORDER BY sequence DESC LIMIT 1"
        )
        self._newest_snapshots = prepare(
            "SELECT sequence FROM journal_snapshots WHERE stream = ? ORDER BY sequence DESC LIMIT ?"
        )
        self._snapshots = prepare("SELECT sequence FROM journal_snapshots WHERE stream = ? AND sequence >= ?")
        self._keep = prepare("INSERT INTO journal_snapshots (stream, sequence, state) VALUES (?, ?, ?)")
        self._drop = prepare("DELETE FROM journal_snapshots WHERE stream = ? AND sequence = ?")

    # --- one stream ---------------------------------------------------------------------------------------------------

    def head(self, stream: str) -> Head | None:
        end = self.log.settle()
        found = self.log.head(stream)
        if found is not None and found[1] > end:
            self.log.settle()  # the head of a slot that was not worked out yet: now it is
        return None if found is None else found[0]

    def last(self, stream: str) -> EventRecord | None:
        head = self.head(stream)
        if head is None:
            return None
        found = self.page(stream, head.sequence - 1, head.sequence, 1)
        if not found:
            raise Corrupt("the newest event is missing", where=f"{stream}/{head.sequence}")
        return found[0]

    def page(self, stream: str, after: int, upto: int | None, limit: int) -> list[EventRecord]:
        """At most `limit` events from `after + 1` on; fewer only at the stream's end (or at `upto`)."""
        end = self.log.settle()
        last = self._last_sequence(stream, upto)
        found: list[EventRecord] = []
        for bucket in range(stream_bucket(after + 1), stream_bucket(last) + 1):
            if len(found) >= limit or after >= last:
                break
            for row in self._session.execute(self._page, (stream, bucket, after, last, limit - len(found))):
                if row.position > end:
                    return found
                found.append(_entry(row).record)
        return found

    def _last_sequence(self, stream: str, upto: int | None) -> int:
        found = self.log.head(stream)
        last = 0 if found is None else found[0].sequence
        return last if upto is None else min(last, upto)

    # --- the reading order --------------------------------------------------------------------------------------------

    def tail(self, after: int, limit: int) -> list[Entry]:
        end = self.log.settle()
        return [row.entry for row in islice(self._rows(after + 1, min(end, after + limit)), max(limit, 0))]

    def by_tag(self, tag: str, after: int, limit: int) -> list[Entry]:
        end = self.log.settle()
        return list(islice(self._found(self._facet(facet("tag", tag), after + 1, end, False)), max(limit, 0)))

    def find(self, event_id: str) -> Entry | None:
        end = self.log.settle()
        row = self._session.execute(self._id, (event_id,)).one()
        if row is None:
            return None
        if row.position > end:
            self.log.settle()
        return next(self._found([(row.position, row.bucket)]))

    def streams(self) -> list[str]:
        self.log.settle()
        shards = all_at_once(self._session, [(self._streams, (shard,)) for shard in range(SHARDS)])
        return sorted(row.stream for found in shards for row in found)

    def query(self, conditions: Mapping[str, Any], place: int | None, limit: int, newest_first: bool) -> list[Entry]:
        """`conditions`: stream, tag, type, actor, since, until, each perhaps None. `place`: the cursor's position."""
        low, high = 1, self.log.settle()
        if place is not None and newest_first:
            high = min(high, place - 1)
        elif place is not None:
            low = place + 1
        found = self._candidates(conditions, low, high, newest_first)
        return list(islice((entry for entry in found if _matches(entry.record, conditions)), limit))

    def _candidates(self, conditions: Mapping[str, Any], low: int, high: int, newest_first: bool) -> Iterator[Entry]:
        """Entries in order, among them all that match: by what is expected to be rare."""
        if conditions["stream"] is not None:
            return self._of_stream(conditions, low, high, newest_first)
        for kind in ("type", "tag", "actor"):
            if (value := conditions[kind]) is not None:
                return self._found(self._facet(facet(kind, value), low, high, newest_first))
        since, until = conditions["since"], conditions["until"]
        if since is not None or until is not None:
            first, last = day_of(since) if since else 0, day_of(until) if until else 1 << 31
            days = [row.chunk for row in self._session.execute(self._chunks[False], (DAYS, first, last))]
            if len(days) <= DAYS_MERGED:
                of_days = [self._facet(facet("day", str(day)), low, high, newest_first) for day in days]
                return self._found(heapq.merge(*of_days, reverse=newest_first))
        rows = self._rows_back(low, high) if newest_first else self._rows(low, high)
        return (row.entry for row in rows)

    def _of_stream(self, conditions: Mapping[str, Any], low: int, high: int, newest_first: bool) -> Iterator[Entry]:
        stream, since, until = conditions["stream"], conditions["since"], conditions["until"]
        first, last = 1, self._last_sequence(stream, None)
        # A cursor is the position of an event of this stream: begin at that, not at the stream's end.
        beside = high + 1 if newest_first else low - 1
        at = next(self._rows(beside, beside), None) if 0 < beside <= self.log.settle() else None
        if at is not None and at.stream == stream:
            first, last = (first, at.sequence - 1) if newest_first else (at.sequence + 1, last)
        times = time_text(since) if since else "", time_text(until) if until else "\x7f"
        buckets = range(stream_bucket(first), stream_bucket(last) + 1)
        for bucket in reversed(buckets) if newest_first else buckets:
            values = (stream, bucket, first, last, *times)
            for row in self._session.execute(self._events[newest_first], values):
                if low <= row.position <= high:
                    yield _entry(row)

    def _facet(self, name: str, low: int, high: int, newest_first: bool) -> Iterator[Ref]:
        """Where events with this facet lie, in order."""
        if low > high:
            return
        for (chunk,) in self._session.execute(self._chunks[newest_first], (name, chunk_of(low), chunk_of(high))):
            for row in self._session.execute(self._refs[newest_first], (name, chunk, low, high)):
                yield row.position, row.bucket

    def _found(self, refs: Iterable[Ref]) -> Iterator[Entry]:
        """The events at these places of the log, in the order given."""
        going = iter(refs)
        while some := list(islice(going, FETCHED)):
            asked = [
                (self._some, (bucket, [position for position, _ in of_one]))
                for bucket, of_one in groupby(some, lambda ref: ref[1])
            ]
            rows = {row[1]: LogRow(*row) for found in all_at_once(self._session, asked) for row in found}
            for position, _ in some:
                if position not in rows:
                    raise Corrupt("the event is not in the log", where=f"position {position}")
                yield rows[position].entry

    def _rows(self, low: int, high: int) -> Iterator[LogRow]:
        """The log from `low` to `high`. `Corrupt` where a position is missing."""
        while low <= high:
            before = low
            for row in self._session.execute(self._range, (self._bucket(low), low, high)):
                if row.position != low:
                    break
                yield LogRow(*row)
                low += 1
            if low == before:
                raise Corrupt("the event is not in the log", where=f"position {low}")

    def _rows_back(self, low: int, high: int) -> Iterator[LogRow]:
        while low <= high:
            bucket = self._bucket(high)
            first = max(low, bucket * LOG_BUCKET + 1)
            rows = list(self._rows(first, high))
            yield from reversed(rows)
            high = first - 1

    def _bucket(self, position: int) -> int:
        """The bucket that the position lies in: its own, or an earlier one where its append began."""
        bucket = log_bucket(position)
        while bucket > 0 and not self._session.execute(self._range, (bucket, position, position)).one():
            bucket -= 1
            if self._session.execute(self._any, (bucket,)).one():
                break
        return bucket

    # --- snapshots ----------------------------------------------------------------------------------------------------

    def put_snapshot(self, stream: str, sequence: int, state: str) -> None:
        head = self.head(stream)
        if head is None or not 0 < sequence <= head.sequence:
            raise Conflict("there is no such event to take a snapshot of", where=f"{stream}/{sequence}")
        self._session.execute(self._keep, (stream, sequence, state))
        newest = [row.sequence for row in self._session.execute(self._newest_snapshots, (stream, SNAPSHOTS_KEPT + 1))]
        first = milestones_from(min(sequence, *newest))
        there = [row.sequence for row in self._session.execute(self._snapshots, (stream, first))]
        all_at_once(self._session, [(self._drop, (stream, n)) for n in outdated(there)])

    def newest_snapshot(self, stream: str, at_or_before: int | None) -> Snapshot | None:
        highest = (1 << 62) if at_or_before is None else at_or_before
        row = self._session.execute(self._snapshot, (stream, highest)).one()
        return None if row is None else Snapshot(stream, row.sequence, json.loads(row.state))


def _entry(row: Any) -> Entry:
    """The event in a row of its stream."""
    entry = entry_of(row.position, row.stream, row.sequence, row.record, row.hash)
    if time_text(entry.record.time) != row.time:
        raise Corrupt("the stored event has another time beside it", where=f"{row.stream}/{row.sequence}")
    return entry


def _matches(record: EventRecord, conditions: Mapping[str, Any]) -> bool:
    tag, since, until = conditions["tag"], conditions["since"], conditions["until"]
    return (
        all(conditions[name] in (None, getattr(record, name)) for name in ("stream", "type", "actor"))
        and (tag is None or tag in record.tags)
        and (since is None or record.time >= since)
        and (until is None or record.time < until)
    )
