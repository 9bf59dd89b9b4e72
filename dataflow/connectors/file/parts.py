"""A folder of parts: every epoch ends its part, so that what is committed can be read at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from dataflow.connectors.file.encode import Encoder, make_encoder
from dataflow.connectors.file.records import LaneLog, Record
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.file.staged import Staged
from dataflow.connectors.file.writer import FileLaneWriter
from dataflow.domain.flow import Lane, Receipt

_STEPS = 16  # a part is checked for its size this many times on its way to rotate_size
_MARGIN = 1.1  # rows may be a little larger than those before
_FIRST_ROWS = 64  # rows written before their encoded size is known
_NAME = re.compile(r"part-g(\d+)-(.+)-(\d{8,})-(\d{3,})\.[a-z.]+")


def part_name(lane: Lane, epoch: int, number: int, suffix: str) -> str:
    """Unique for ever; names of one lane sort in the order of its rows."""
    return f"part-g{lane.generation}-{lane.name}-{epoch:08d}-{number:03d}{suffix}"


def part_of(path: Path) -> tuple[int, str, int] | None:
    """Generation, lane name and epoch of a part, by its name; None for any other file."""
    found = _NAME.fullmatch(path.name)
    return (int(found[1]), found[2], int(found[3])) if found else None


class PartsWriter(FileLaneWriter):
    """Parts are staged hidden and renamed into place after the commit record that names them."""

    def __init__(self, log: LaneLog, config: FileSinkConfig, schema: pl.Schema) -> None:
        super().__init__(log, config, schema)
        self._part: Staged | None = None
        self._encoder: Encoder | None = None
        self._done: list[Staged] = []
        self._entries: list[tuple[str, str, str, str]] = []
        self._bytes_per_row = 0.0

    def _resume(self, last: Record | None) -> None:
        """Nothing: an epoch begins with a new part."""

    def _write(self, rows: pl.DataFrame) -> None:
        for piece in self._pieces(rows):
            if self._part is None or self._encoder is None:
                name = part_name(self._log.lane, self._log.epoch + 1, len(self._done), self._config.part_suffix)
                self._part, self._encoder = Staged(self._log, "out", name), make_encoder(self._schema, self._config)
            self._part.write(self._encoder.add(piece))

    def _pieces(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The rows cut so that no part grows beyond rotate_size, as far as the size of rows so far foretells."""
        limit = self._config.rotate_size
        if limit is None:
            if rows.height:
                yield rows
            return
        at = 0
        while at < rows.height:
            each = self._bytes_per_row
            count = max(1, int(limit / _STEPS / each)) if each else _FIRST_ROWS
            piece = rows.slice(at, count)
            at += piece.height
            if self._part and self._part.size + each * piece.height > limit:
                self._finish_part()
            before = self._part.size if self._part else 0
            yield piece
            if self._encoder and self._part:
                self._part.write(self._encoder.flush())
                self._bytes_per_row = (self._part.size - before) / piece.height * _MARGIN

    def _finish_part(self) -> None:
        if self._part and self._encoder:
            part, self._part = self._part, None
            self._done.append(part)
            part.write(self._encoder.finish(part.read))
            self._entries.append(part.finish())

    def _record(self, receipt: Receipt, letters: list[tuple[str, str, str, str]]) -> Record:
        self._finish_part()
        last = self._log.last or Record(epoch=0, receipt=None)
        return Record(
            epoch=receipt.epoch,
            receipt=receipt,
            publish=(*self._entries, *letters),
            files=last.files + len(self._done),
            bytes=last.bytes + sum(part.size for part in self._done),
            dead_files=last.dead_files + len(letters),
        )

    def _committed(self) -> None:
        self._done, self._entries = [], []

    def _discard(self) -> None:
        if self._part:
            self._part.discard()
