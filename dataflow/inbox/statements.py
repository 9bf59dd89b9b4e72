"""What the inbox asks of its database, each function within one transaction of its caller's."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from dataflow.domain.orders import Admission
from dataflow.inbox.tables import batches, blocks, staged, streams


@dataclass(frozen=True, slots=True)
class Admitted:
    """A batch that the source may read: its records have the offsets `first_offset` to `first_offset + records - 1`."""

    batch_id: str
    digest: str
    records: int
    first_offset: int
    source_offset: int
    token: str


@dataclass(frozen=True, slots=True)
class Block:
    """The records of one batch, compressed."""

    first_offset: int
    next_offset: int
    batch_id: str
    payload: bytes


def find(connection: Connection, pipeline: str, batch_id: str) -> Admitted | None:
    row = connection.execute(
        select(batches).where(batches.c.pipeline == pipeline, batches.c.batch_id == batch_id)
    ).one_or_none()
    if row is None:
        return None
    return Admitted(row.batch_id, row.digest, row.records, row.first_offset, row.source_offset, row.token)


def stage(connection: Connection, row: dict[str, object], forget_before: int) -> None:
    """Keep a batch nobody sees yet, and forget those that nobody has asked for since `forget_before`."""
    connection.execute(delete(staged).where(staged.c.staged_at < forget_before))
    connection.execute(insert(staged).values(row))


def drop(connection: Connection, token: str) -> None:
    connection.execute(delete(staged).where(staged.c.token == token))


def admit(connection: Connection, pipeline: str, batch_id: str, token: str, now: int) -> Admission:
    """Give the staged batch its place. The transaction begins by locking the pipeline's counter, so admissions become
    visible in the order of their offsets, and of two with one id the second finds the first."""
    first = _locked(connection, pipeline)
    known = find(connection, pipeline, batch_id)
    if known is not None and known.token == token:
        return Admission.NEW
    row = connection.execute(select(staged).where(staged.c.token == token)).one_or_none()
    if row is None:
        return Admission.REPEAT if known is not None else Admission.GONE
    drop(connection, token)
    if known is not None:
        return Admission.REPEAT if known.digest == row.digest else Admission.CONFLICT
    following = first + row.records
    common = {"pipeline": pipeline, "batch_id": batch_id, "first_offset": first, "admitted_at": now}
    connection.execute(
        insert(batches).values(
            **common, digest=row.digest, records=row.records, source_offset=row.source_offset, token=token
        )
    )
    connection.execute(insert(blocks).values(**common, next_offset=following, size=row.size, payload=row.payload))
    connection.execute(update(streams).where(streams.c.pipeline == pipeline).values(next_offset=following))
    return Admission.NEW


def _locked(connection: Connection, pipeline: str) -> int:
    """The next offset, its row locked to the end of the transaction (SQLite has one writer anyway)."""
    ask = select(streams.c.next_offset).where(streams.c.pipeline == pipeline).with_for_update()
    found = connection.execute(ask).scalar()
    if found is None:
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as upsert

            connection.execute(upsert(streams).values(pipeline=pipeline, next_offset=0).on_conflict_do_nothing())
        else:
            connection.execute(insert(streams).values(pipeline=pipeline, next_offset=0))
        found = connection.execute(ask).scalar()
    return int(found or 0)


def extent(connection: Connection, pipeline: str) -> tuple[int, int]:
    """The first offset that is still kept, and the one the next record will have."""
    end = connection.execute(select(streams.c.next_offset).where(streams.c.pipeline == pipeline)).scalar() or 0
    first = connection.execute(select(func.min(blocks.c.first_offset)).where(blocks.c.pipeline == pipeline)).scalar()
    return (end if first is None else int(first)), int(end)


def read(connection: Connection, pipeline: str, offset: int, records: int, size: int) -> list[Block]:
    """Blocks from the one that holds `offset` on: as many as have about that many records and bytes, at least one."""
    behind = (blocks.c.pipeline == pipeline) & (blocks.c.next_offset > offset)
    ask = select(blocks.c.first_offset, blocks.c.next_offset, blocks.c.size).where(behind)
    last = None
    for row in connection.execute(ask.order_by(blocks.c.first_offset).limit(512)):
        if last is not None and (row.next_offset - offset > records or row.size > size):
            break
        last, size = row.first_offset, size - row.size
    if last is None:
        return []
    found = select(blocks).where(behind, blocks.c.first_offset <= last).order_by(blocks.c.first_offset)
    return [
        Block(row.first_offset, row.next_offset, row.batch_id, row.payload) for row in connection.execute(found).all()
    ]


def settle(connection: Connection, pipeline: str, upto: int, admitted_before: int) -> int:
    """Forget blocks whose records all lie before `upto` and that are old enough; how many. Ids stay."""
    gone = connection.execute(
        delete(blocks).where(
            blocks.c.pipeline == pipeline, blocks.c.next_offset <= upto, blocks.c.admitted_at < admitted_before
        )
    )
    return gone.rowcount


def at_time(connection: Connection, pipeline: str, moment: int) -> int | None:
    """The offset of the first record admitted at or after that moment; None where there is none that late."""
    return connection.execute(
        select(func.min(blocks.c.first_offset)).where(blocks.c.pipeline == pipeline, blocks.c.admitted_at >= moment)
    ).scalar()
