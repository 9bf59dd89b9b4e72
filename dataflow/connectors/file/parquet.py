"""Parquet: row groups in order, a batch at a time. The file carries its types; a position counts rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dataflow.connectors.file.pieces import Piece
from dataflow.connectors.file.position import Place
from dataflow.connectors.file.worklist import WorkFile, unreadable
from dataflow.errors import Corrupt, Rejected

_WIDEST = 1 << 20  # rows of a batch at most, however narrow they are


class ParquetFile:
    """One file, opened. Raises `Rejected` BAD_PARQUET where it is none."""

    def __init__(self, file: WorkFile) -> None:
        self._file = file
        try:
            self._reader: Any = pq.ParquetFile(file.path, pre_buffer=False)
            empty = cast(pl.DataFrame, pl.from_arrow(self._reader.schema_arrow.empty_table()))
        except OSError as error:
            raise unreadable(file.name, error) from error
        except pa.ArrowException as error:
            raise Rejected(f"not a readable Parquet file: {error}", code="BAD_PARQUET", where=file.name) from error
        self.schema: pl.Schema = empty.schema
        self.rows: int = self._reader.metadata.num_rows

    def close(self) -> None:
        self._reader.close()

    def row_bytes(self) -> int:
        """Bytes of one row in memory, about."""
        groups = (self._reader.metadata.row_group(group) for group in range(self._reader.metadata.num_row_groups))
        return max(1, sum(int(group.total_byte_size) for group in groups) // max(1, self.rows))

    def pieces(self, at: Place, columns: Sequence[str], *, rows: int) -> Iterator[Piece]:
        """Batches of at most `rows` rows from a place on."""
        if at.line > self.rows:
            raise Corrupt(f"there is no row {at.line}: it has {self.rows}", code="FILE_CHANGED", where=at.file)
        before = 0
        for group in range(self._reader.metadata.num_row_groups):
            height = self._reader.metadata.row_group(group).num_rows
            if before + height > at.line:
                for batch in self._batches(group, columns, min(rows, _WIDEST)):
                    behind = before + len(batch)
                    if behind > at.line:
                        frame = batch.slice(max(0, at.line - before))
                        read = self._file.size * behind // self.rows
                        piece = replace(at, line=behind, read=read)
                        yield Piece([frame], [], piece, read - at.read)
                        at = piece
                    before = behind
            else:
                before += height

    def _batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        try:
            for batch in self._reader.iter_batches(batch_size=rows, row_groups=[group], columns=list(columns)):
                if columns:
                    yield cast(pl.DataFrame, pl.from_arrow(batch)).select(columns)
                else:
                    yield pl.DataFrame(height=batch.num_rows)
        except (pa.ArrowException, OSError) as error:
            raise Rejected(
                f"row group {group} is damaged: {error}", code="BAD_PARQUET", where=self._file.name
            ) from error
