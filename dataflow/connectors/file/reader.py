"""One split: its files in order, from a position on, as chunks."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import polars as pl

from dataflow.connectors.file import rejects
from dataflow.connectors.file.config import FileSourceConfig
from dataflow.connectors.file.discovery import same_columns
from dataflow.connectors.file.formats import FileFormat
from dataflow.connectors.file.opening import Opener
from dataflow.connectors.file.parquet import ParquetFile
from dataflow.connectors.file.pieces import Piece, RecordFile
from dataflow.connectors.file.pin import Pin
from dataflow.connectors.file.position import MARK, Place, mark, verify
from dataflow.connectors.file.streams import head
from dataflow.connectors.file.worklist import WorkFile
from dataflow.errors import Corrupt
from dataflow.seams import Chunk

PIECE = 16 * 2**20
"""Bytes of input that are parsed at once. Larger ones come from fresh memory each time, which costs more than it
saves."""

_SMALLEST_PIECE = 256
_READ_AHEAD = 8  # pieces that are read at once, where pieces are small


@dataclass(slots=True)
class Gathered:
    """What was read but not handed out: small files share a chunk."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    rejected: list[pl.DataFrame] = field(default_factory=list)
    place: Place | None = None
    rows: int = 0
    read: int = 0
    size: int = 0  # of the frames, in memory


class Reader:
    def __init__(
        self, config: FileSourceConfig, pin: Pin, columns: Sequence[str] | None, chunk_rows: int | None
    ) -> None:
        self._config = config
        self._pin = pin
        kept = None if columns is None else set(columns)
        wanted = tuple(name for name in pin.schema if kept is None or name in kept)
        self._wanted = wanted or tuple(pin.schema)  # a frame without columns would forget its height
        # Whether a record is refused does not depend on what is wanted of it. In CSV any text is a text.
        plain = pl.String if pin.format is FileFormat.CSV else None
        self._read = [name for name, dtype in pin.schema.items() if name in self._wanted or dtype != plain]
        self._schema = pl.Schema({name: pin.schema[name] for name in self._wanted})
        self._chunk_rows = chunk_rows
        self._row_bytes = float(pin.row_bytes)
        self._got = Gathered()

    def chunks(self, files: Sequence[WorkFile], start: Place | None) -> Generator[Chunk, None, None]:
        """Raises `Corrupt` FILE_CHANGED where the file of the position is another one now, or gone."""
        if start is not None and not start.done and start.file not in {file.name for file in files}:
            message = f"the file that was read up to line {start.line} is gone"
            raise Corrupt(message, code="FILE_CHANGED", hint="restore it, or reset the pipeline", where=start.file)
        for file in files:
            at = start if start is not None and start.file == file.name else None
            if start is not None and (file.name < start.file or (at is not None and at.done)):
                continue
            last = at or Place(file.name, head=mark(b""), size=file.size)
            for piece in self._pieces(file, at):
                last = piece.place
                self._take(piece)
                if self._full():
                    yield self._handed_out()
            self._ended(replace(last, done=True, read=file.size, size=file.size), max(0, file.size - last.read))
        if self._got.place is not None:
            yield self._handed_out()

    def _pieces(self, file: WorkFile, at: Place | None) -> Iterator[Piece]:
        if not file.size and at is None:
            return
        if self._pin.format is FileFormat.PARQUET:
            yield from self._parquet(file, at)
            return
        opened = Opener(self._config, self._pin.format, self._pin.schema, self._read).open(file, at)
        if opened is None:
            return
        with closing(opened.stream) as stream:
            size = self._piece_bytes()
            reading = RecordFile(stream, opened.parser, opened.at, piece=size, block=_block(size))
            before = opened.at.offset
            with closing(iter(reading)) as pieces:  # type: ignore[type-var]
                for piece in pieces:
                    rows = sum(frame.height for frame in piece.frames) + len(piece.refused)
                    if rows:
                        self._row_bytes = max(1.0, (piece.place.offset - before) / rows)
                    before = piece.place.offset
                    size = self._piece_bytes()
                    reading.resize(size, _block(size))
                    yield piece

    def _piece_bytes(self) -> int:
        if self._chunk_rows is None:
            return PIECE
        return int(min(PIECE, max(_SMALLEST_PIECE, self._chunk_rows * self._row_bytes)))

    def _parquet(self, file: WorkFile, at: Place | None) -> Iterator[Piece]:
        if at is not None:
            verify(at, file.path, file.size)
        place = at or Place(file.name, line=0, head=mark(head(file.path, MARK, file.name)), size=file.size)
        with closing(ParquetFile(file)) as opened:
            same_columns(opened.schema, self._pin.schema, file.name, self._config)
            rows = min(self._chunk_rows or 2**20, max(1, PIECE // opened.row_bytes()))
            with closing(opened.pieces(place, self._wanted, rows=rows)) as pieces:  # type: ignore[type-var]
                yield from pieces

    def _take(self, piece: Piece) -> None:
        got = self._got
        got.frames += [frame.select(self._wanted) for frame in piece.frames if frame.height]
        bad = rejects.frame(piece.refused, piece.place.file, elements=self._pin.format is FileFormat.JSON)
        if bad is not None:
            got.rejected.append(bad)
        got.rows += sum(frame.height for frame in piece.frames) + len(piece.refused)
        got.read += piece.read
        got.size += int(sum(frame.estimated_size() for frame in piece.frames))
        got.place = piece.place

    def _ended(self, at: Place, read: int) -> None:
        self._got.place = at
        self._got.read += read

    def _full(self) -> bool:
        got, enough = self._got, self._piece_bytes() // 2
        rows = self._chunk_rows is not None and got.rows >= self._chunk_rows // 2
        return rows or max(got.read, got.size) >= enough  # a compressed file is much larger in memory

    def _handed_out(self) -> Chunk:
        got, self._got = self._got, Gathered()
        if got.place is None:
            raise Corrupt("a chunk without a position")
        rows = pl.concat(got.frames) if got.frames else self._schema.to_frame()
        rejected = pl.concat(got.rejected) if got.rejected else None
        return Chunk(rows=rows, resume=got.place.text(), rejected=rejected, bytes_read=got.read)


def _block(piece: int) -> int:
    """How much to read at once for pieces of that size: a small piece is not worth a call."""
    return min(PIECE, max(64 * 1024, piece * _READ_AHEAD))
