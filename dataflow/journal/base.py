"""The journal: an append-only event store with one stream per pipeline, and one global reading order over all of them.

Invariant: the journal outlives everything else, so nothing here deletes or changes an event. Snapshots only speed up
reading. Every backend passes `dataflow.testing.journal_kit`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from dataflow.domain.record import EventRecord, verify
from dataflow.domain.state import GENESIS
from dataflow.errors import Conflict, Corrupt, Rejected

SNAPSHOTS_KEPT = 2
"""Newest snapshots of a stream that are kept; older ones go, except for the milestones."""

MILESTONE = 200
"""The first snapshot at or after each multiple of this sequence stays for ever: looking back folds few events, wherever
one looks. A snapshot of a pipeline is as large as three or four events."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record at its place in the global reading order. Positions count from 1 without gaps, in the order in which
    events became visible: whoever has read up to a position has missed nothing before it."""

    position: int
    record: EventRecord


@dataclass(frozen=True, slots=True)
class Page:
    """Some answers, and where the next page begins: give `cursor` back as `after`. None: this was the last page for
    now. The cursor is opaque, and stays good while events are added."""

    entries: tuple[Entry, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The folded state of a stream after the event `sequence`, as plain JSON."""

    stream: str
    sequence: int
    state: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event of a stream, as noted beside the events: what an append is checked against, and what tells that
    the newest events of a stream were cut off, which the chain of hashes alone cannot."""

    sequence: int
    hash: str


class Journal(Protocol):
    """Entering opens it (and brings its schema up to date), leaving closes it. Used from one event loop.

    Errors: `Conflict` as below, `Retryable` where the store does not answer, `Corrupt` where what it answers cannot be
    right, `Rejected` for a cursor or record that is no such thing.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def append(self, stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
        """Add `records`, whose first has the sequence `expected_sequence + 1`; all of them or none.

        Durable once it returns: neither `kill -9` nor loss of power takes them back. After an error other than
        `Conflict` the outcome is open; calling again with the same records settles it: records that are there already,
        equal by hash, are passed over. `Conflict` (code CONFLICT) where another record has one of the places, or
        (code GAP) where the stream does not reach up to `expected_sequence` yet. Two writers: one wins, the other gets
        its `Conflict`. `Corrupt` where the records are not chained to each other and to the stream."""

    def read(
        self, stream: str, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> AsyncGenerator[EventRecord, None]:
        """The stream's records in order of sequence, from `after + 1` to `upto` inclusive, `limit` at most. An unknown
        stream has none. Holds no transaction open between records."""
        ...

    async def last(self, stream: str) -> EventRecord | None:
        """The newest record of the stream."""

    async def find(self, event_id: str) -> Entry | None:
        """The event with that id."""

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
        """A page of the events for which all conditions hold (`since` is inclusive, `until` is not; both are aware),
        in the reading order, or from its end. Follow the cursors to see each of them once, without gaps, also while
        others append. A cursor belongs to the conditions and the direction it came from."""
        ...

    async def by_tag(self, tag: str, after_position: int = 0, limit: int = 500) -> list[Entry]:
        """Events with that tag behind `after_position`, in the reading order: what a projection reads."""
        ...

    async def tail(self, after_position: int = 0, limit: int = 500) -> list[Entry]:
        """Events behind `after_position`, in the reading order. An event never appears at or before a position that
        has been read already, however the transactions of several writers overlap."""
        ...

    async def end(self) -> int:
        """The position of the newest event, 0 if there is none."""
        ...

    async def head(self, stream: str) -> Head | None:
        """What is noted as the newest event of the stream."""

    async def streams(self) -> list[str]:
        """The names of all streams, sorted."""
        ...

    async def snapshot(self, stream: str, sequence: int, state: Mapping[str, Any]) -> None:
        """Keep the state after event `sequence`; the same place again replaces it. The newest `SNAPSHOTS_KEPT` stay,
        and the first at or after each multiple of `MILESTONE`. Never touches an event. `Conflict` where there is no
        such event yet."""

    async def latest_snapshot(self, stream: str, at_or_before: int | None = None) -> Snapshot | None:
        """The newest snapshot not newer than that sequence."""

    async def close(self) -> None:
        """As leaving the context. Repeatable."""


def check_records(stream: str, expected_sequence: int, records: Sequence[EventRecord]) -> None:
    """What every backend asks of records before it looks at the store.

    `Rejected` where a record belongs elsewhere or cannot be stored, `Conflict` where the sequences are not
    `expected_sequence + 1` and on. That the hashes fit is for `remaining`."""
    if not 0 < len(stream) <= 200 or expected_sequence < 0:
        raise Rejected(f"{stream!r} from {expected_sequence} is no place in the journal")
    for sequence, record in enumerate(records, expected_sequence + 1):
        where = f"{stream}/{sequence}"
        if record.stream != stream:
            raise Rejected(f"the record belongs to the stream {record.stream!r}", where=where)
        if record.sequence != sequence:
            raise Conflict(f"the record has the sequence {record.sequence}", code="GAP", where=where)
        if record.time.tzinfo is None:
            raise Rejected("the record's time has no time zone", where=where)
        for text in (stream, record.id, record.type, record.actor, record.correlation_id, record.causation_id):
            if "\0" in text or not _encodable(text):
                raise Rejected("the record has text that cannot be stored", where=where)


def milestones_from(sequence: int) -> int:
    """Where the snapshots begin that decide on keeping the one at `sequence`."""
    return sequence // MILESTONE * MILESTONE


def outdated(there: Sequence[int]) -> list[int]:
    """Of the snapshots of a stream, given by their sequences from a `milestones_from` on: those that need not stay."""
    kept = sorted(there)
    milestones = {n // MILESTONE: n for n in reversed(kept) if n >= MILESTONE}.values()
    return [n for n in kept[:-SNAPSHOTS_KEPT] if n not in milestones]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def remaining(
    stream: str, expected_sequence: int, records: Sequence[EventRecord], head: Head | None, stored: Sequence[str]
) -> Sequence[EventRecord]:
    """The records still to be stored; the rule of `Journal.append`. `stored` are the hashes found in the places of
    `records`, from the first on."""
    reached = head.sequence if head else 0
    if expected_sequence > reached:
        raise Conflict(
            f"the stream ends at {reached}, not at {expected_sequence}",
            code="GAP",
            where=stream,
            hint="read the stream again",
        )
    for record, found in zip(records, stored, strict=False):
        if record.hash != found:
            raise Conflict(
                "another writer has appended here",
                where=f"{stream}/{record.sequence}",
                hint="read the stream again and decide anew",
            )
    new = records[len(stored) :]
    broken = verify(new, head.hash if head else GENESIS)
    if broken is not None:
        raise Corrupt("the record is not chained to the one before it by its hash", where=f"{stream}/{broken}")
    return new


def encode_cursor(position: int) -> str:
    """The cursor of a page that begins behind `position` (before it, where the newest come first)."""
    return f"p{position}"


def decode_cursor(cursor: str | None) -> int | None:
    """The position in the cursor. `Rejected` for a text that was never one."""
    if cursor is None:
        return None
    digits = cursor[1:]
    if not cursor.startswith("p") or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise Rejected(f"{cursor!r} is not a cursor", code="BAD_CURSOR", hint="give back the cursor of the page before")
    return int(digits)


def page_of(found: Sequence[Entry], limit: int) -> Page:
    """A page of `limit` entries at most out of `found`, which holds one more where there is a next page."""
    if limit < 1:
        raise Rejected("a page has at least one entry", code="BAD_LIMIT")
    entries = tuple(found[:limit])
    return Page(entries, encode_cursor(entries[-1].position) if len(found) > limit else None)
