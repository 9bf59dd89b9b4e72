"""What the SQL journal says to its database: blocking functions over one connection, inside one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, delete, insert, select, update

from dataflow.domain.record import EventRecord
from dataflow.errors import Conflict, Corrupt
from dataflow.journal.base import SNAPSHOTS_KEPT, Entry, Head, Snapshot, milestones_from, outdated, remaining
from dataflow.journal.sql_tables import events, order, snapshots, streams, tags


@dataclass(frozen=True, slots=True)
class Appending:
    """One call of `Journal.append`."""

    stream: str
    expected_sequence: int
    records: tuple[EventRecord, ...]


_NO_SEQUENCE = (1 << 62) - 1
"""Higher than any."""

_LOCK = select(order.c.position).where(order.c.id == 1).with_for_update()
_ADVANCE = update(order).where(order.c.id == 1).values(position=bindparam("reached"))
_HEAD = select(streams.c.sequence, streams.c.hash).where(streams.c.stream == bindparam("s"))
_SET_HEAD = (
    update(streams)
    .where(streams.c.stream == bindparam("s"))
    .values(sequence=bindparam("reached"), hash=bindparam("last"))
)
_HASHES = (
    select(events.c.hash)
    .where(
        events.c.stream == bindparam("s"), events.c.sequence > bindparam("low"), events.c.sequence <= bindparam("up")
    )
    .order_by(events.c.sequence)
)
_READ = (
    select(events)
    .where(
        events.c.stream == bindparam("s"), events.c.sequence > bindparam("low"), events.c.sequence <= bindparam("up")
    )
    .order_by(events.c.sequence)
    .limit(bindparam("n"))
)
_LAST = select(events).where(events.c.stream == bindparam("s")).order_by(events.c.sequence.desc()).limit(1)
_FIND = select(events).where(events.c.id == bindparam("event"))
_TAIL = select(events).where(events.c.position > bindparam("low")).order_by(events.c.position).limit(bindparam("n"))
_BY_TAG = (
    select(events)
    .join(tags, tags.c.position == events.c.position)
    .where(tags.c.tag == bindparam("t"), tags.c.position > bindparam("low"))
    .order_by(tags.c.position)
    .limit(bindparam("n"))
)


def append_all(connection: Connection, batch: Sequence[Appending]) -> list[Conflict | Corrupt | None]:
    """Append what can be appended; None or the refusal for each. A refused one writes nothing.

    Everything begins by locking the one row of `journal_order`: positions are given out under the lock and it is held
    until the commit, so a position is never visible before a lower one. (A database sequence gives numbers out in the
    order of asking; transactions commit in another, and a tailing reader loses events.) SQLite has one writer anyway.
    """
    start = position = int(connection.execute(_LOCK).scalar_one())
    outcomes: list[Conflict | Corrupt | None] = []
    for one in batch:
        try:
            position = _append(connection, one, position)
            outcomes.append(None)
        except (Conflict, Corrupt) as refusal:
            outcomes.append(refusal)
    if position > start:
        connection.execute(_ADVANCE, {"reached": position})
    return outcomes


def _append(connection: Connection, one: Appending, position: int) -> int:
    """The position reached. Raises before it writes anything."""
    head = head_of(connection, one.stream)
    stored: Sequence[str] = ()
    if head is not None and head.sequence > one.expected_sequence:
        span = {"s": one.stream, "low": one.expected_sequence, "up": one.expected_sequence + len(one.records)}
        stored = connection.execute(_HASHES, span).scalars().all()
    new = remaining(one.stream, one.expected_sequence, one.records, head, stored)
    if not new:
        return position
    connection.execute(insert(events), [_row(record, position + n) for n, record in enumerate(new, 1)])
    tagged = [
        {"tag": tag, "position": position + n} for n, record in enumerate(new, 1) for tag in dict.fromkeys(record.tags)
    ]
    if tagged:
        connection.execute(insert(tags), tagged)
    last = new[-1]
    if head is None:
        connection.execute(insert(streams), {"stream": one.stream, "sequence": last.sequence, "hash": last.hash})
    else:
        connection.execute(_SET_HEAD, {"s": one.stream, "reached": last.sequence, "last": last.hash})
    return position + len(new)


def head_of(connection: Connection, stream: str) -> Head | None:
    row = connection.execute(_HEAD, {"s": stream}).one_or_none()
    return None if row is None else Head(row.sequence, row.hash)


def read_page(connection: Connection, stream: str, after: int, upto: int | None, limit: int) -> list[Entry]:
    last = _NO_SEQUENCE if upto is None else upto
    return _entries(connection, _READ, {"s": stream, "low": after, "up": last, "n": limit})


def last_of(connection: Connection, stream: str) -> EventRecord | None:
    found = _entries(connection, _LAST, {"s": stream})
    return found[0].record if found else None


def find_event(connection: Connection, event_id: str) -> Entry | None:
    found = _entries(connection, _FIND, {"event": event_id})
    return found[0] if found else None


def tail_page(connection: Connection, after: int, limit: int) -> list[Entry]:
    return _entries(connection, _TAIL, {"low": after, "n": limit})


def tag_page(connection: Connection, tag: str, after: int, limit: int) -> list[Entry]:
    return _entries(connection, _BY_TAG, {"t": tag, "low": after, "n": limit})


def query_page(
    connection: Connection, conditions: Mapping[str, Any], after: int | None, limit: int, newest_first: bool
) -> list[Entry]:
    """`conditions`: stream, tag, type, actor, since, until, each perhaps None."""
    statement = select(events)
    position = events.c.position
    if (tag := conditions["tag"]) is not None:
        statement = statement.join(tags, tags.c.position == events.c.position).where(tags.c.tag == tag)
        position = tags.c.position
    for name in ("stream", "type", "actor"):
        if (value := conditions[name]) is not None:
            statement = statement.where(events.c[name] == value)
    if (since := conditions["since"]) is not None:
        statement = statement.where(events.c.time >= time_text(since))
    if (until := conditions["until"]) is not None:
        statement = statement.where(events.c.time < time_text(until))
    if after is not None:
        statement = statement.where(position < after if newest_first else position > after)
    statement = statement.order_by(position.desc() if newest_first else position).limit(limit)
    return _entries(connection, statement, {})


def end_of(connection: Connection) -> int:
    return int(connection.execute(select(order.c.position).where(order.c.id == 1)).scalar_one())


def stream_names(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(streams.c.stream)).scalars())


def put_snapshot(connection: Connection, stream: str, sequence: int, state: str) -> None:
    head = head_of(connection, stream)
    if head is None or not 0 < sequence <= head.sequence:
        raise Conflict("there is no such event to take a snapshot of", where=f"{stream}/{sequence}")
    own = snapshots.c.stream == stream
    connection.execute(delete(snapshots).where(own, snapshots.c.sequence == sequence))
    connection.execute(insert(snapshots), {"stream": stream, "sequence": sequence, "state": state})
    sequences = select(snapshots.c.sequence).where(own)
    newest = connection.execute(sequences.order_by(snapshots.c.sequence.desc()).limit(SNAPSHOTS_KEPT + 1)).scalars()
    first = milestones_from(min(sequence, *newest))
    there = connection.execute(sequences.where(snapshots.c.sequence >= first)).scalars().all()
    if old := outdated(there):
        connection.execute(delete(snapshots).where(own, snapshots.c.sequence.in_(old)))


def newest_snapshot(connection: Connection, stream: str, at_or_before: int | None) -> Snapshot | None:
    statement = select(snapshots.c.sequence, snapshots.c.state).where(snapshots.c.stream == stream)
    if at_or_before is not None:
        statement = statement.where(snapshots.c.sequence <= at_or_before)
    row = connection.execute(statement.order_by(snapshots.c.sequence.desc()).limit(1)).one_or_none()
    return None if row is None else Snapshot(stream, row.sequence, json.loads(row.state))


def time_text(time: datetime) -> str:
    """Fixed width, so that text order is time order: 2026-01-31T23:59:59.123456Z. ValueError for a naive time."""
    if time.tzinfo is None:
        raise ValueError(f"{time} has no time zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _row(record: EventRecord, position: int) -> dict[str, Any]:
    return {
        "position": position,
        "stream": record.stream,
        "sequence": record.sequence,
        "id": record.id,
        "type": record.type,
        "schema_version": record.schema_version,
        "time": time_text(record.time),
        "actor": record.actor,
        "correlation_id": record.correlation_id,
        "causation_id": record.causation_id,
        "tags": _encode(record.tags),
        "payload": _encode(record.payload),
        "previous_hash": record.previous_hash,
        "hash": record.hash,
    }


def _entries(connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> list[Entry]:
    return [_entry(row) for row in connection.execute(statement, parameters).mappings()]


def _entry(row: RowMapping) -> Entry:
    """The row as it was written, to the byte: `Corrupt` for a text that merely means the same (`1E5` for `1e5`, other
    last digits of the same double), so that no changed byte goes unnoticed by the hash, which is taken of values."""
    try:
        for column in _TEXTS:
            if type(row[column]) is not str:
                raise TypeError(f"{column} is no text")
        record = EventRecord(
            id=row["id"],
            stream=row["stream"],
            sequence=row["sequence"],
            type=row["type"],
            schema_version=row["schema_version"],
            time=datetime.fromisoformat(row["time"]),
            actor=row["actor"],
            correlation_id=row["correlation_id"],
            causation_id=row["causation_id"],
            tags=tuple(json.loads(row["tags"])),
            payload=json.loads(row["payload"]),
            previous_hash=row["previous_hash"],
            hash=row["hash"],
        )
        if (time_text(record.time), _encode(record.tags), _encode(record.payload)) != (
            row["time"],
            row["tags"],
            row["payload"],
        ):
            raise ValueError("it is not written as the journal writes it")
    except (TypeError, ValueError, OverflowError) as error:
        where = f"{row['stream']}/{row['sequence']}"
        raise Corrupt(f"the stored event cannot be read: {error}", where=where) from error
    return Entry(row["position"], record)


_TEXTS = (
    "stream",
    "id",
    "type",
    "time",
    "actor",
    "correlation_id",
    "causation_id",
    "tags",
    "payload",
    "previous_hash",
    "hash",
)
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
