"""`sqlite` as a source: the rows of a table in the order of their rowid, up to the last one at planning time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Self

import polars as pl
from pydantic import Field

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import Position
from dataflow.errors import Corrupt, NotFound
from dataflow.seams import Chunk, Context, Discovery
from dataflow_sqlite.database import call, quoted

_TYPES = {"INTEGER": pl.Int64, "INT": pl.Int64, "BIGINT": pl.Int64, "REAL": pl.Float64, "DOUBLE": pl.Float64}


class SqliteSourceConfig(Config):
    """Read a table that is only added to: a row's rowid is its place."""

    path: str = Field(min_length=1, description="The database file.")
    table: str = Field(min_length=1, description="The table.")


class SqliteSource:
    """One split, called `table`. Its position is the rowid of the last row read; the pin holds the last there is."""

    bounded = True

    def __init__(self, config: SqliteSourceConfig, context: Context) -> None:
        self._path, self._table = context.base / config.path, config.table
        self._rows = context.chunk_rows or 10_000

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def discover(self) -> Discovery:
        if not self._path.exists():
            raise NotFound("there is no such database", where=str(self._path))
        schema, last, count = await call(self._path, self._look)
        return Discovery(["table"], schema, pin=json.dumps({"last": last}), total_rows=count)

    def _look(self, connection: sqlite3.Connection) -> tuple[pl.Schema, int, int]:
        schema = self._schema(connection)
        if not schema:
            raise NotFound(f"there is no table {self._table!r}", where=str(self._path))
        last, count = connection.execute(f"SELECT max(rowid), count(*) FROM {quoted(self._table)}").fetchone()
        return schema, last or 0, count

    def _schema(self, connection: sqlite3.Connection) -> pl.Schema:
        columns = connection.execute("SELECT name, type FROM pragma_table_info(?)", (self._table,)).fetchall()
        return pl.Schema({name: _TYPES.get(kind.upper(), pl.String) for name, kind in columns})

    async def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        at, last = _rowid(start), int(json.loads(pin)["last"])
        while at < last:

            def some(connection: sqlite3.Connection, after: int = at) -> tuple[pl.Schema, list[tuple[Any, ...]]]:
                schema = self._schema(connection)
                wanted = pl.Schema({name: schema[name] for name in schema if columns is None or name in columns})
                named = ", ".join(["rowid", *map(quoted, wanted)])
                query = (
                    f"SELECT {named} FROM {quoted(self._table)} WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
                )
                return wanted, connection.execute(query, (after, last, self._rows)).fetchall()

            wanted, found = await call(self._path, some)
            at = found[-1][0] if found else last
            rows = pl.DataFrame([row[1:] for row in found], schema=wanted, orient="row", strict=False)
            yield Chunk(rows, Position(json.dumps({"v": 1, "rowid": at})))

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        return _rowid(one) < _rowid(other)

    async def settle(self, split: str, upto: Position) -> None:
        """The rows stay."""


def _rowid(position: Position | None) -> int:
    match json.loads(position) if position else {"v": 1, "rowid": 0}:
        case {"v": 1, "rowid": int(rowid)}:
            return rowid
    raise Corrupt(f"{position!r} is not a position of a SQLite source")


SOURCE = Component(Kind.SOURCE, "sqlite", SqliteSourceConfig, SqliteSource, "Rows of a SQLite table.")
