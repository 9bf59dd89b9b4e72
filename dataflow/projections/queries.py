"""What can be asked of the read models: lists with paging, filters and sorting. Every answer says which event of the
journal it is as of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, func, or_, select

from dataflow.errors import NotFound, Rejected
from dataflow.journal.sql_statements import time_text
from dataflow.projections.metrics import GRAINS
from dataflow.projections.sql_tables import table
from dataflow.projections.status import Row
from dataflow.projections.store import Place, Store, place_of

MOST: Final = 1000
"""Rows of one page at most."""

SORTS: Final = ("pipeline_name", "status", "created_at", "updated_at", "total_records", "total_failures")
_METRICS: Final = {"minute": "pipeline_metrics_minute", "hour": "pipeline_metrics_hourly"}


@dataclass(frozen=True, slots=True)
class Rows:
    """A page. `total` counts all rows for which the conditions hold, `position` and `as_of` say up to which event of
    the journal the read model had come, and when that was."""

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    position: int = 0
    as_of: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


class Queries:
    """Questions to the read models of a store, which it opens for each. `Retryable` where the database is away."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def pipelines(
        self,
        *,
        status: str | None = None,
        source_type: str | None = None,
        sink_type: str | None = None,
        owner: str | None = None,
        words: str | None = None,
        deleted: bool = False,
        sort: str = "pipeline_name",
        descending: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> Rows:
        """Pipelines; deleted ones only where they are asked for. `words` are looked for in name and description,
        `sink_type` is one of the pipeline's. `Rejected` for a sort that there is not."""
        if sort not in SORTS:
            raise Rejected(f"nothing is sorted by {sort!r}", code="BAD_SORT", hint=f"one of {', '.join(SORTS)}")

        def ask(connection: Connection) -> Rows:
            place = place_of(connection, "status")
            rows = table("pipeline_status", place.slot)
            wanted = _equal(rows, {"status": status, "source_type": source_type, "owner": owner})
            if status is None and not deleted:
                wanted.append(rows.c.status != "deleted")
            if sink_type is not None:
                wanted.append(("," + rows.c.sink_type + ",").contains(f",{sink_type},", autoescape=True))
            for word in (words or "").split():
                texts = (rows.c.pipeline_id, rows.c.pipeline_name, rows.c.description)
                wanted.append(or_(*(text.icontains(word, autoescape=True) for text in texts)))
            order = rows.c[sort].desc() if descending else rows.c[sort]
            return _page(connection, place, rows, wanted, (order, rows.c.pipeline_id), limit, offset)

        return await self._ask(ask)

    async def pipeline(self, pipeline: str) -> Row:
        """One pipeline's row, a deleted one's too. `NotFound`."""

        def ask(connection: Connection) -> Rows:
            place = place_of(connection, "status")
            rows = table("pipeline_status", place.slot)
            return _page(connection, place, rows, [rows.c.pipeline_id == pipeline], (), 1, 0)

        found = await self._ask(ask)
        if not found.rows:
            raise NotFound(f"there is no pipeline {pipeline!r}", hint="the read models may be a moment behind")
        return found.rows[0]

    async def metrics(
        self,
        *,
        grain: str = "hour",
        pipeline: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> Rows:
        """Sums by minute or hour, the newest first, with `avg_batch_size` and `error_rate`."""
        name = _METRICS.get(grain)
        if name is None:
            raise Rejected(f"there are no metrics by {grain!r}", code="BAD_GRAIN", hint="minute or hour")
        column = GRAINS[name][0]

        def ask(connection: Connection) -> Rows:
            place = place_of(connection, "metrics")
            rows = table(name, place.slot)
            wanted = [*_equal(rows, {"pipeline_id": pipeline}), *_within(rows.c[column], since, until)]
            return _page(connection, place, rows, wanted, (rows.c[column].desc(), rows.c.pipeline_id), limit, offset)

        found = await self._ask(ask)
        for row in found.rows:
            done = row["records_processed"] + row["records_failed"]
            row["avg_batch_size"] = done / row["batches"] if row["batches"] else 0.0
            row["error_rate"] = row["records_failed"] / done if done else 0.0
        return found

    async def audit(
        self,
        *,
        stream: str | None = None,
        actor: str | None = None,
        type: str | None = None,
        correlation_id: str | None = None,
        words: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Rows:
        """Events with who did it, the newest first. The next page begins `before` the position of this one's last."""

        def ask(connection: Connection) -> Rows:
            place = place_of(connection, "audit")
            rows = table("audit_log", place.slot)
            equal = {"stream": stream, "actor": actor, "type": type, "correlation_id": correlation_id}
            wanted = [*_equal(rows, equal), *_within(rows.c.time, since, until)]
            for word in (words or "").split():
                texts = (rows.c.stream, rows.c.type, rows.c.summary)
                wanted.append(or_(*(text.icontains(word, autoescape=True) for text in texts)))
            behind = [] if before is None else [rows.c.position < before]
            return _page(connection, place, rows, wanted, (rows.c.position.desc(),), limit, 0, behind)

        return await self._ask(ask)

    async def _ask(self, ask: Any) -> Rows:
        async with self._store:
            found: Rows = await self._store.read(ask)
            return found


def _equal(rows: Table, values: Mapping[str, str | None]) -> list[ColumnElement[bool]]:
    return [rows.c[name] == value for name, value in values.items() if value is not None]


def _within(column: ColumnElement[str], since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    found = [] if since is None else [column >= time_text(since)]
    return found if until is None else [*found, column < time_text(until)]


def _page(
    connection: Connection,
    place: Place,
    rows: Table,
    wanted: Sequence[ColumnElement[bool]],
    order: Sequence[ColumnElement[Any]],
    limit: int,
    offset: int,
    behind: Sequence[ColumnElement[bool]] = (),
) -> Rows:
    if not 1 <= limit <= MOST or offset < 0:
        raise Rejected(f"a page has 1 to {MOST} rows and begins at 0 or later", code="BAD_LIMIT")
    total = connection.execute(select(func.count()).select_from(rows).where(*wanted)).scalar_one()
    asked = select(rows).where(*wanted, *behind).order_by(*order).limit(limit).offset(offset)
    found = [dict(row) for row in connection.execute(asked).mappings()]
    return Rows(found, total, place.position, place.event_time)
