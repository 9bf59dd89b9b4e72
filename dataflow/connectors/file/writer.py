"""What the writers of parts and of single files have in common: columns, threads, the state of an attempt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import polars as pl

from dataflow.connectors.file.disk import in_thread
from dataflow.connectors.file.records import LaneLog, Record
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.file.staged import Letters
from dataflow.domain.flow import Receipt
from dataflow.errors import Corrupt, Fenced


def chosen(schema: pl.Schema, columns: Sequence[str] | None) -> pl.Schema:
    """The columns that are written, in their order."""
    return pl.Schema({name: schema[name] for name in columns}) if columns else schema


class FileLaneWriter(ABC):
    """A `LaneWriter`. After a failed commit it is of no more use: the next attempt finds out what came of it."""

    def __init__(self, log: LaneLog, config: FileSinkConfig, schema: pl.Schema) -> None:
        self._log, self._config, self._incoming = log, config, schema
        self._schema = chosen(schema, config.columns)
        self._letters = Letters(log)
        self._failed = False

    async def __aenter__(self) -> Self:
        await in_thread(self._begin)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await in_thread(self._end)

    async def last_receipt(self) -> Receipt | None:
        return self._log.last.receipt if self._log.last else None

    async def write(self, rows: pl.DataFrame) -> None:
        if rows.schema != self._incoming:
            raise Corrupt(f"rows of {dict(rows.schema)} where {dict(self._incoming)} was agreed on")
        await in_thread(self._write, rows.select(self._schema.names()) if self._config.columns else rows)

    async def reject(self, rejected: pl.DataFrame) -> None:
        await in_thread(self._letters.add, rejected)

    async def commit(self, receipt: Receipt) -> None:
        if self._failed:
            raise Fenced(f"{self._log.lane.name}: an earlier commit of this attempt failed")
        self._failed = True
        await in_thread(self._commit, receipt)
        self._failed = False

    def _begin(self) -> None:
        try:
            self._resume(self._log.open())
        except BaseException:
            self._end()
            raise

    def _commit(self, receipt: Receipt) -> None:
        if receipt.epoch != self._log.epoch + 1:
            raise Fenced(f"{self._log.lane.name}: epoch {receipt.epoch} does not follow {self._log.epoch}")
        self._log.commit(self._record(receipt, self._letters.finish()))
        self._committed()

    def _end(self) -> None:
        self._letters.discard()
        self._discard()
        self._log.close()

    @abstractmethod
    def _resume(self, last: Record | None) -> None:
        """Go on after the newest record."""

    @abstractmethod
    def _write(self, rows: pl.DataFrame) -> None:
        """Add rows to the open epoch. In a thread."""

    @abstractmethod
    def _record(self, receipt: Receipt, letters: list[tuple[str, str, str, str]]) -> Record:
        """Bring the open epoch to the medium; what its record says."""

    @abstractmethod
    def _committed(self) -> None:
        """The record is the newest one: the next epoch begins."""

    @abstractmethod
    def _discard(self) -> None:
        """Close what is open and drop what is not committed."""
