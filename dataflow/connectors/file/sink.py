"""The file sink: a folder of parts or one file, exactly once.

A commit record created by an exclusive link is the one act that commits an epoch (`records`); parts and dead letters
are renamed into place after it, a single file is a list of recorded lengths until all lanes have ended.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl

from dataflow.components import Component, Kind
from dataflow.connectors.dead_letters import folder_of
from dataflow.connectors.file.audit import FileAudit
from dataflow.connectors.file.disk import control_folder, in_thread, make_folder, sync_folder
from dataflow.connectors.file.encode import make_encoder
from dataflow.connectors.file.ownership import (
    claim,
    is_foreign,
    mark,
    marker,
    prepared_schema,
    refuse_foreign,
)
from dataflow.connectors.file.parts import PartsWriter, part_name
from dataflow.connectors.file.records import LaneLog, Places, Record
from dataflow.connectors.file.single import SingleWriter, assemble
from dataflow.connectors.file.sink_config import FileSinkConfig
from dataflow.connectors.file.writer import FileLaneWriter, chosen
from dataflow.domain.flow import Delivery, Lane
from dataflow.errors import Rejected
from dataflow.seams import Audit, Context


class FileSink:
    """See `FileSinkConfig`. What is committed of a folder of parts can be read at once; a single file appears whole."""

    delivery = Delivery.EXACTLY_ONCE

    def __init__(self, config: FileSinkConfig, context: Context) -> None:
        self._config = config
        self._rewind, self._begins = context.rewind, context.begins
        self.path = Path(os.path.abspath(context.base / config.path))  # noqa: PTH100 (links are kept)
        self.dead_letters = folder_of(context, self.path)
        self.max_lanes: int | None = 1 if config.single else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nothing is held between calls."""

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        missing = [name for name in self._config.columns or () if name not in schema]
        if missing:
            raise Rejected(
                f"no such column: {', '.join(missing)}", code="UNKNOWN_COLUMN", hint="known: " + ", ".join(schema)
            )
        if self._rewind is not None and self._config.single:
            raise Rejected(
                "a single file cannot be taken back to an earlier checkpoint",
                code="NOT_REWINDABLE",
                where=str(self.path),
                hint="reset the pipeline from the start, or write a folder of parts",
            )
        written = chosen(schema, self._config.columns)
        make_encoder(written, self._config)
        await in_thread(lambda: claim(self._places(), self._config, written, lanes, self._rewind, begins=self._begins))

    def open(self, lane: Lane, schema: pl.Schema) -> FileLaneWriter:
        log = LaneLog(self._places(), lane)
        kind = SingleWriter if self._config.single else PartsWriter
        return kind(log, self._config, schema)

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        """Ends the lanes for good. Returns `path`, `files`, `bytes`, `dead_letters` (their folder, or None)."""
        return await in_thread(self._complete, lanes)

    async def audit(self, lanes: Sequence[Lane]) -> Audit:
        """See the seam, and `audit` for what is counted and what is not."""
        return await in_thread(lambda: FileAudit(self._places(), self._config, lanes).look())

    def _places(self) -> Places:
        control = control_folder(self.path)
        same_device = _device(self.dead_letters) == _device(control)
        return Places(
            out=self.path,
            dead=self.dead_letters,
            control=control,
            dead_control=control if same_device else control_folder(self.dead_letters),
        )

    def _complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        places = self._places()
        records = []
        for lane in lanes:
            log = LaneLog(places, lane)
            try:
                log.open()
                records.append(log.seal())
            finally:
                log.close()
        if self._config.single:
            files, size = 1, self._publish_file(places, lanes[0], records[0])
        else:
            files, size = sum(record.files for record in records), sum(record.bytes for record in records)
            if files == 0:
                files, size = 1, self._publish_empty_part(places, lanes[0])
        dead = any(record.dead_files for record in records)
        return {
            "path": str(self.path),
            "files": files,
            "bytes": size,
            "dead_letters": str(self.dead_letters) if dead else None,
        }

    def _publish_file(self, places: Places, lane: Lane, record: Record) -> int:
        """Finish the hidden file, note what it looks like, give it its name. Repeatable after a crash at any line."""
        target = places.generation(lane) / "finished"
        published = marker(places, lane)
        if published.exists() and not target.exists():
            return places.out.stat().st_size if places.out.exists() else record.bytes
        root = places.roots(lane)[0]
        encoder = make_encoder(prepared_schema(places, lane), self._config, record.encoder)
        size = assemble(root, record, encoder, target)
        if not self._config.overwrite and is_foreign(places, lane.pipeline):
            raise refuse_foreign(places.out)
        mark(published, target)
        target.rename(places.out)
        sync_folder(places.out.parent)
        shutil.rmtree(root / "data", ignore_errors=True)
        for older in published.parent.glob("published-g*.json"):
            if older != published:
                older.unlink(missing_ok=True)
        return size

    def _publish_empty_part(self, places: Places, lane: Lane) -> int:
        """A folder without rows still has its columns, so that readers find what they expect."""
        encoder = make_encoder(prepared_schema(places, lane), self._config)
        draft = places.generation(lane) / "empty"
        with draft.open("wb") as file:
            file.writelines(encoder.finish(lambda length, offset: b""))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        make_folder(places.out)
        draft.rename(places.out / part_name(lane, 0, 0, self._config.part_suffix))
        sync_folder(places.out)
        return size


def _device(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


SINK = Component(
    Kind.SINK,
    "file",
    FileSinkConfig,
    FileSink,
    "Writes one file or a folder of parts: csv, jsonl, json, text, parquet.",
)
