"""From a work file and the options to something that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import polars as pl

from dataflow.connectors.file.config import FileSourceConfig
from dataflow.connectors.file.csv import CsvParser, Layout
from dataflow.connectors.file.csv_records import Dialect
from dataflow.connectors.file.formats import TABBED, FileFormat, compression_of, suffixes
from dataflow.connectors.file.header import Front, agree, front, line_end, peek
from dataflow.connectors.file.json import Elements
from dataflow.connectors.file.jsonl import JsonlParser
from dataflow.connectors.file.pieces import RecordParser
from dataflow.connectors.file.position import MARK, Place, mark, verify
from dataflow.connectors.file.streams import Stream, head, open_stream
from dataflow.connectors.file.text import TextParser
from dataflow.connectors.file.worklist import WorkFile

_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream at its front, how to read it, and where to begin."""

    stream: Stream
    parser: RecordParser
    at: Place


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens text files of one format under one schema, for the columns wanted."""

    config: FileSourceConfig
    format: FileFormat
    schema: pl.Schema
    wanted: Sequence[str]

    def stream(self, file: WorkFile) -> Stream:
        codec = self.config.compression or compression_of(file.name)
        stream = open_stream(file.path, file.name, codec, self.config.encoding)
        return Elements(stream, self.config.max_record) if self.format is FileFormat.JSON else stream

    def open(self, file: WorkFile, at: Place | None) -> Opened | None:
        """None for CSV without any record or header. Raises `Corrupt` FILE_CHANGED where the file is not the one that
        `at` was taken from, `Rejected` where it does not go with the others."""
        if at is not None:
            verify(at, file.path, file.size)
        with closing(self.stream(file)) as stream:
            data = peek(stream, file.name)
            found = self._front(file, stream, data) if self.format is FileFormat.CSV else Front((), 0, 1)
        if self.format is FileFormat.CSV and not found.names:
            return None
        place = at or Place(file.name, found.offset, found.line, head=mark(head(file.path, MARK, file.name)))
        parser = self._parser(file, found, line_end(data))
        return Opened(self.stream(file), parser, replace(place, size=file.size))

    def sample(self, file: WorkFile) -> tuple[Stream, Front, bytes]:
        """A stream past its first block, what stands at its head, and that block."""
        stream = self.stream(file)
        data = peek(stream, file.name)
        found = self._front(file, stream, data) if self.format is FileFormat.CSV else Front((), 0, 1)
        return stream, found, data

    def _dialect(self, file: WorkFile, end: bytes) -> Dialect:
        delimiter = self.config.delimiter
        if "delimiter" not in self.config.model_fields_set and suffixes(file.name)[0] in TABBED:
            delimiter = "\t"
        return Dialect(delimiter.encode(), self.config.quote.encode(), end, self.config.max_record)

    def _front(self, file: WorkFile, stream: Stream, data: bytes) -> Front:
        dialect = self._dialect(file, line_end(data))
        roomy = replace(dialect, max_record=max(dialect.max_record, _LONGEST_HEADER))
        return front(stream, data, file.name, roomy, header=self.config.header)

    def _parser(self, file: WorkFile, found: Front, end: bytes) -> RecordParser:
        limit = self.config.max_record
        if self.format is FileFormat.TEXT:
            return TextParser(limit, end)
        if self.format is not FileFormat.CSV:
            extra = self.config.columns is not None
            return JsonlParser(self.schema, self.wanted, limit, extra=extra)
        return self.csv(file, self.fields(file, found), end)

    def fields(self, file: WorkFile, found: Front) -> pl.Schema:
        """The fields of one CSV file in its own order; those that are not pinned are text."""
        if not self.config.header or not found.names:
            return self.schema
        agree(found.names, list(self.schema), file.name, others=self.config.columns is not None)
        return pl.Schema({name: self.schema.get(name, pl.String()) for name in found.names})

    def csv(self, file: WorkFile, fields: pl.Schema, end: bytes) -> CsvParser:
        return CsvParser(
            Layout(fields, tuple(self.wanted)),
            self._dialect(file, end),
            null_values=self.config.null_values,
            pad=self.config.ragged == "pad",
        )
