"""What the inbox asks of its database, each function within one transaction of its caller's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

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


def find(connection: Connection, pipeline: str, batch_ids: Collection[str]) -> dict[str, Admitted]:
    """Those that were admitted, by id."""
    mine = (batches.c.pipeline == pipeline) & batches.c.batch_id.in_(batch_ids)
    return {
        row.batch_id: Admitted(row.batch_id, row.digest, row.records, row.first_offset, row.source_offset, row.token)
        for row in connection.execute(select(batches).where(mine))
    }


def stage(connection: Connection, rows: Sequence[Mapping[str, object]], forget_before: int) -> None:
    """Keep batches nobody sees yet, and forget those that nobody has asked for since `forget_before`."""
    connection.execute(delete(staged).where(staged.c.staged_at < forget_before))
    if rows:
        connection.execute(insert(staged), list(rows))


def drop(connection: Connection, tokens: Collection[str]) -> None:
    connection.execute(delete(staged).where(staged.c.token.in_(tokens)))


def admit(connection: Connection, pipeline: str, wanted: Sequence[tuple[str, str]], now: int) -> list[Admission]:
    """Give staged batches (id, token) their places, in that order. The transaction begins by locking the pipeline's
    counter, so admissions become visible in the order of their offsets, and of two with one id the second finds the
    first."""
    following = _locked(connection, pipeline)
    known = {
        batch_id: (found.token, found.digest)
        for batch_id, found in find(connection, pipeline, [batch_id for batch_id, _ in wanted]).items()
    }
    waiting = {row.token: row for row in connection.execute(_staged([token for _, token in wanted]))}
    answers: list[Admission] = []
    taken: list[dict[str, object]] = []
    shown: list[dict[str, object]] = []
    for batch_id, token in wanted:
        before, row = known.get(batch_id), waiting.get(token)
        if before is not None and before[0] == token:
            answers.append(Admission.NEW)
        elif row is None:
            answers.append(Admission.GONE if before is None else Admission.REPEAT)
        elif before is not None:
            answers.append(Admission.REPEAT if before[1] == row.digest else Admission.CONFLICT)
        else:
            first, following = following, following + row.records
            common = {"pipeline": pipeline, "batch_id": batch_id, "first_offset": first, "admitted_at": now}
            entry = {"digest": row.digest, "records": row.records, "source_offset": row.source_offset, "token": token}
            taken.append({**common, **entry})
            shown.append({**common, "next_offset": following, "size": row.size, "payload": row.payload})
            known[batch_id] = (token, row.digest)
            answers.append(Admission.NEW)
    drop(connection, list(waiting))
    if taken:
        connection.execute(insert(batches), taken)
        connection.execute(insert(blocks), shown)
        connection.execute(update(streams).where(streams.c.pipeline == pipeline).values(next_offset=following))
    return answers


def _staged(tokens: Collection[str]) -> Select[Any]:
    return select(staged).where(staged.c.token.in_(tokens))


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
