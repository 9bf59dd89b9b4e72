"""One file: epochs are appended behind a recorded length, and the file gets its name when all is written."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from dataflow.connectors.file.disk import append_file, hasten, lock, make_folder, sync_folder
from dataflow.connectors.file.encode import Encoder, make_encoder
from dataflow.connectors.file.records import LaneLog, Record
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.file.writer import FileLaneWriter
from dataflow.domain.flow import Receipt
from dataflow.errors import Corrupt, Fenced

_NEW = ".new"


class SingleWriter(FileLaneWriter):
    """Appends to the last piece of the file, or begins a new one where a living attempt may hold the last.

    Whoever writes to a piece holds a lock on it that ends with its process: a piece that can be locked has no other
    writer, is cut to its committed length and continued. The pieces' bytes follow each other as if they were one file.
    """

    def __init__(self, log: LaneLog, config: FileSinkConfig, schema: pl.Schema) -> None:
        super().__init__(log, config, schema)
        self._encoder: Encoder | None = None
        self._fd = -1
        self._piece = ""
        self._length = 0
        self._committed_length = self._hastened = 0
        self._pieces: tuple[tuple[str, int], ...] = ()

    @property
    def _data(self) -> Path:
        return self._log.root / "data"

    def _resume(self, last: Record | None) -> None:
        self._encoder = make_encoder(self._schema, self._config, last.encoder if last else None)
        self._pieces = last.pieces if last else ()
        make_folder(self._data)
        remove_strays(self._data, self._pieces, dead_only=True)
        if self._pieces and not (last and last.sealed):
            name, length = self._pieces[-1]
            fd = os.open(self._data / name, os.O_RDWR | os.O_CLOEXEC)
            if not lock(fd):
                os.close(fd)
                return
            self._fd, self._piece = fd, name
            self._length = self._committed_length = self._hastened = length
            if os.fstat(fd).st_size < length:
                raise Corrupt(f"the committed piece {name} has lost bytes")
            os.ftruncate(fd, length)
            os.lseek(fd, length, os.SEEK_SET)

    def _append(self, buffers: list[bytes | memoryview]) -> None:
        for buffer in buffers:
            if not len(buffer):
                continue
            if self._fd < 0:
                self._begin_piece()
            left = memoryview(buffer)
            while left:
                done = os.write(self._fd, left)
                self._length += done
                left = left[done:]
                self._hastened = hasten(self._fd, self._hastened, self._length)

    def _begin_piece(self) -> None:
        path = self._data / self._log.attempt
        draft = path.with_suffix(_NEW)
        try:
            self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            lock(self._fd)  # before it has its name: a piece without a lock is taken for that of a dead attempt
            draft.rename(path)
            sync_folder(self._data)
        except FileNotFoundError as error:
            raise Fenced(f"{self._log.lane.name}: the generation was replaced") from error
        self._piece = self._log.attempt
        self._length = self._committed_length = self._hastened = 0

    def _write(self, rows: pl.DataFrame) -> None:
        assert self._encoder is not None
        self._append(self._encoder.add(rows))

    def _record(self, receipt: Receipt, letters: list[tuple[str, str, str, str]]) -> Record:
        assert self._encoder is not None
        self._append(self._encoder.flush())
        pieces = self._pieces
        if self._length > self._committed_length:
            os.fsync(self._fd)
            earlier = pieces[:-1] if pieces and pieces[-1][0] == self._piece else pieces
            pieces = (*earlier, (self._piece, self._length))
        last = self._log.last or Record(epoch=0, receipt=None)
        return Record(
            epoch=receipt.epoch,
            receipt=receipt,
            publish=tuple(letters),
            bytes=sum(length for _, length in pieces),
            dead_files=last.dead_files + len(letters),
            pieces=pieces,
            encoder=self._encoder.state(),
        )

    def _committed(self) -> None:
        assert self._log.last is not None
        first = self._pieces != self._log.last.pieces and self._committed_length == 0
        self._pieces, self._committed_length = self._log.last.pieces, self._length
        if first:
            remove_strays(self._data, self._pieces)

    def _discard(self) -> None:
        if self._fd < 0:
            return
        if not self._log.in_doubt:
            if self._committed_length:
                os.ftruncate(self._fd, self._committed_length)
            else:
                (self._data / self._piece).unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


def remove_strays(data: Path, pieces: tuple[tuple[str, int], ...], *, dead_only: bool = False) -> None:
    """Delete pieces that no record names: right after a commit, which their attempts have lost, all of them; at other
    times only those whose writers are seen to be dead."""
    named = {name for name, _ in pieces}
    for path in data.iterdir():
        if path.name in named or (dead_only and not _is_dead(path)):
            continue
        path.unlink(missing_ok=True)


def _is_dead(piece: Path) -> bool:
    if piece.suffix == _NEW:
        return False
    try:
        fd = os.open(piece, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return lock(fd)
    finally:
        os.close(fd)


def assemble(root: Path, record: Record, encoder: Encoder, target: Path) -> int:
    """Make the finished file of a sealed lane at the hidden path `target`; returns its size.

    One piece that nobody else can be writing to is finished where it is and renamed; several are joined inside the
    kernel. Repeatable after a crash at any line: pieces are first cut to their committed lengths.
    """
    data = root / "data"
    fd = -1
    if target.exists() and record.pieces and not (data / record.pieces[0][0]).exists():
        return target.stat().st_size  # finished in place, renamed, then cut off
    if len(record.pieces) == 1 and not target.exists():
        name, length = record.pieces[0]
        fd = os.open(data / name, os.O_RDWR | os.O_CLOEXEC)
        if lock(fd):
            os.ftruncate(fd, length)
            path = data / name
        else:
            os.close(fd)
            fd = -1
    if fd < 0:
        path = target
        fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        for name, length in record.pieces:
            with (data / name).open("rb") as piece:
                append_file(fd, piece.fileno(), length)
    with os.fdopen(fd, "r+b") as file:
        file.seek(0, os.SEEK_END)
        for buffer in encoder.finish(lambda length, offset: os.pread(fd, length, offset)):
            file.write(buffer)
        file.flush()
        os.fsync(fd)
        size = os.fstat(fd).st_size
        path.rename(target)
    return size
