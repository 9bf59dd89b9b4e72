"""`sqlite` as a sink: rows, dead letters and receipt in one transaction, exactly once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self
from uuid import uuid4

import polars as pl
from pydantic import Field

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import Counters, Delivery, Lane, Receipt
from dataflow.errors import Fenced, Rejected
from dataflow.seams import REJECTS, Audit, Context, LaneAudit
from dataflow_sqlite.database import call, quoted

_LANES = "_dataflow_lanes"
_OWN = ("_lane", "_generation")  # beside a row's columns: which lane and generation wrote it


class SqliteSinkConfig(Config):
    """Add rows to a table; it is made where there is none."""

    path: str = Field(min_length=1, description="The database file.")
    table: str = Field(min_length=1, description="The table; dead letters go to <table>_dead.")


def _affinity(name: str, dtype: pl.DataType) -> str:
    if dtype.is_integer() or dtype == pl.Boolean:
        return "INTEGER"
    if dtype.is_float():
        return "REAL"
    if dtype == pl.String:
        return "TEXT"
    raise Rejected(f"column {name!r} is {dtype}, which this sink cannot hold", code="UNSUPPORTED_TYPE", hint="cast it")


class SqliteSink:
    delivery = Delivery.EXACTLY_ONCE
    max_lanes: int | None = None

    def __init__(self, config: SqliteSinkConfig, context: Context) -> None:
        self.path, self.table, self.dead = context.base / config.path, config.table, f"{config.table}_dead"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        pipeline, generation = lanes[0].pipeline, lanes[0].generation
        columns = ", ".join(f"{quoted(name)} {_affinity(name, dtype)}" for name, dtype in schema.items())
        own = "_lane TEXT, _generation INTEGER"
        letters = ", ".join(f"{quoted(name)} TEXT" for name in REJECTS)

        def make(connection: sqlite3.Connection) -> None:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {_LANES} (pipeline TEXT, generation INTEGER, lane TEXT, attempt TEXT, "
                "epoch INTEGER, receipt TEXT, PRIMARY KEY (pipeline, generation, lane))"
            )
            newest = connection.execute(f"SELECT max(generation) FROM {_LANES} WHERE pipeline = ?", (pipeline,))
            if (newest.fetchone()[0] or 0) > generation:
                raise Fenced(f"generation {generation} of {pipeline} is over")
            connection.execute(f"CREATE TABLE IF NOT EXISTS {quoted(self.table)} ({columns}, {own})")
            connection.execute(f"CREATE TABLE IF NOT EXISTS {quoted(self.dead)} ({letters}, {own})")
            # What an earlier generation left is replaced; its attempts find no lane any more.
            for table in (self.table, self.dead):
                connection.execute(f"DELETE FROM {quoted(table)} WHERE _generation < ?", (generation,))
            connection.execute(f"DELETE FROM {_LANES} WHERE pipeline = ? AND generation < ?", (pipeline, generation))
            new = [(pipeline, generation, lane.name, "", 0, None) for lane in lanes]
            connection.executemany(f"INSERT OR IGNORE INTO {_LANES} VALUES (?, ?, ?, ?, ?, ?)", new)

        await call(self.path, make)

    def open(self, lane: Lane, schema: pl.Schema) -> SqliteWriter:
        return SqliteWriter(self, lane)

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        return {"path": str(self.path), "table": self.table}

    async def audit(self, lanes: Sequence[Lane]) -> Audit:
        """What is really there: rows and dead letters of each lane, beside its receipt."""

        def look(connection: sqlite3.Connection) -> dict[str, LaneAudit]:
            return {lane.name: self._held(connection, lane) for lane in lanes}

        return Audit(lanes=await call(self.path, look))

    def _held(self, connection: sqlite3.Connection, lane: Lane) -> LaneAudit:
        rows, dead = (
            connection.execute(
                f"SELECT count(*) FROM {quoted(table)} WHERE _lane = ? AND _generation = ?",
                (lane.name, lane.generation),
            ).fetchone()[0]
            for table in (self.table, self.dead)
        )
        found = connection.execute(
            f"SELECT receipt FROM {_LANES} WHERE pipeline = ? AND generation = ? AND lane = ?", _key(lane)
        ).fetchone()
        return LaneAudit(receipt=_receipt(found[0]) if found else None, rows=rows, dead_letters=dead)


class SqliteWriter:
    """One attempt: entering takes the lane over, and a commit succeeds only while the lane is still its own."""

    def __init__(self, sink: SqliteSink, lane: Lane) -> None:
        self._sink, self._lane, self._attempt = sink, lane, uuid4().hex
        self._rows: list[pl.DataFrame] = []
        self._dead: list[pl.DataFrame] = []
        self._last: Receipt | None = None

    async def __aenter__(self) -> Self:
        def take(connection: sqlite3.Connection) -> str | None:
            where = "WHERE pipeline = ? AND generation = ? AND lane = ?"
            done = connection.execute(f"UPDATE {_LANES} SET attempt = ? {where}", (self._attempt, *_key(self._lane)))
            if not done.rowcount:
                raise Fenced(f"{self._lane.name} is not prepared, or its generation was replaced")
            found: tuple[str | None] = connection.execute(
                f"SELECT receipt FROM {_LANES} {where}", _key(self._lane)
            ).fetchone()
            return found[0]

        self._last = _receipt(await call(self._sink.path, take))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._rows, self._dead = [], []

    async def last_receipt(self) -> Receipt | None:
        return self._last

    async def write(self, rows: pl.DataFrame) -> None:
        self._rows.append(rows)  # as much as an epoch may hold: checkpoint.max_rows and max_bytes bound it

    async def reject(self, rejected: pl.DataFrame) -> None:
        self._dead.append(rejected)

    async def commit(self, receipt: Receipt) -> None:
        def act(connection: sqlite3.Connection) -> None:
            done = connection.execute(
                f"UPDATE {_LANES} SET epoch = ?, receipt = ? WHERE pipeline = ? AND generation = ? AND lane = ? "
                "AND attempt = ? AND epoch = ?",
                (
                    *(receipt.epoch, json.dumps(asdict(receipt))),
                    *(*_key(self._lane), self._attempt, receipt.epoch - 1),
                ),
            )
            if not done.rowcount:
                raise Fenced(f"{self._lane.name}: another attempt has taken epoch {receipt.epoch}")
            for table, frames in ((self._sink.table, self._rows), (self._sink.dead, self._dead)):
                for frame in frames:
                    named = ", ".join(map(quoted, [*frame.columns, *_OWN]))
                    marks = ", ".join("?" * (frame.width + 2))
                    own = frame.with_columns(_lane=pl.lit(self._lane.name), _generation=self._lane.generation)
                    connection.executemany(f"INSERT INTO {quoted(table)} ({named}) VALUES ({marks})", own.rows())

        await call(self._sink.path, act)
        self._rows, self._dead, self._last = [], [], receipt


def _key(lane: Lane) -> tuple[str, int, str]:
    return lane.pipeline, lane.generation, lane.name


def _receipt(text: str | None) -> Receipt | None:
    if text is None:
        return None
    found = json.loads(text)
    return Receipt(**{**found, "counters": Counters(**found["counters"])})


SINK = Component(Kind.SINK, "sqlite", SqliteSinkConfig, SqliteSink, "Rows into a SQLite table, exactly once.")
