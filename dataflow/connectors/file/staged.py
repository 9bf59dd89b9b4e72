"""Files on their way to their final names: the parts of an open epoch and its dead letters."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import BinaryIO

import polars as pl

from dataflow.connectors.dead_letters import as_jsonl, file_name, stamped
from dataflow.connectors.file.disk import hasten
from dataflow.connectors.file.records import LaneLog
from dataflow.errors import Fenced


class Staged:
    """One file in the attempt's hidden folder, to be published as `final` in `area` by the next commit.

    Raises `Fenced` where the attempt's folder is gone, for then another attempt has the lane.
    """

    def __init__(self, log: LaneLog, area: str, final: str) -> None:
        self.final, self.area, self.size = final, area, 0
        self._attempt, self._hastened = log.attempt, 0
        try:
            self._file: BinaryIO = (log.staging(area) / final).open("w+b")
        except FileNotFoundError as error:
            raise Fenced(f"{log.lane.name}: another attempt has taken the lane over") from error

    def write(self, buffers: Iterable[bytes | memoryview]) -> None:
        for buffer in buffers:
            self._file.write(buffer)
            self.size += len(buffer)
            self._hastened = hasten(self._file.fileno(), self._hastened, self.size)

    def read(self, length: int, offset: int) -> bytes:
        self._file.flush()
        return os.pread(self._file.fileno(), length, offset)

    def finish(self) -> tuple[str, str, str, str]:
        """Force the file to the medium and close it. Returns its entry for the record."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._attempt, self.final, self.area, self.final

    def discard(self) -> None:
        """Close it as it is; the attempt's folder is cleaned up as a whole."""
        self._file.close()


class Letters:
    """The dead letters of the open epoch: one JSONL file, none where there are none."""

    def __init__(self, log: LaneLog) -> None:
        self._log = log
        self._staged: Staged | None = None

    def add(self, rejected: pl.DataFrame) -> None:
        if rejected.is_empty():
            return
        epoch = self._log.epoch + 1
        if self._staged is None:
            self._staged = Staged(self._log, "dead", file_name(self._log.lane, epoch))
        self._staged.write([as_jsonl(stamped(rejected, self._log.lane, epoch, self._log.attempt))])

    def finish(self) -> list[tuple[str, str, str, str]]:
        """Entries for the record; the next epoch begins."""
        staged, self._staged = self._staged, None
        return [staged.finish()] if staged else []

    def discard(self) -> None:
        if self._staged:
            self._staged.discard()
