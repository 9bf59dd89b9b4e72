"""Options of the file sink, and what follows from its path."""

from __future__ import annotations

import codecs
from pathlib import PurePath
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from dataflow.components import Config
from dataflow.connectors.file.formats import TABBED, Compression, FileFormat, compression_of, format_of, suffixes
from dataflow.domain.spec import Bytes

_SUFFIXES = {
    FileFormat.CSV: ".csv",
    FileFormat.JSONL: ".jsonl",
    FileFormat.JSON: ".json",
    FileFormat.TEXT: ".txt",
    FileFormat.PARQUET: ".parquet",
}
_ONLY_FOR = {
    "delimiter": {FileFormat.CSV},
    "header": {FileFormat.CSV},
    "line_ending": {FileFormat.CSV, FileFormat.TEXT},
    "encoding": {FileFormat.CSV, FileFormat.TEXT},
}


class FileSinkConfig(Config):
    """Write a file (a path with a suffix) or a folder of parts (a path without one, or ending in `/`)."""

    path: str = Field(min_length=1, description="A file such as out/orders.csv, or a folder such as out/orders.")
    format: FileFormat | None = Field(None, description="Default: from the path's suffix. A folder needs it.")
    compression: Compression | None = Field(
        None, description="Default: from the path's suffix (.gz, .zst), else none; inside Parquet, zstd."
    )
    compression_level: int | None = Field(
        None, ge=1, le=22, description="Default: 6 for gzip; 3 for zstd, 2 where the format is parquet."
    )
    columns: tuple[str, ...] | None = Field(
        None, min_length=1, description="Which columns, and their order; default all."
    )
    delimiter: str = Field(",", description="Between the fields of CSV: one ASCII character; default from .tsv a tab.")
    header: bool = Field(True, description="Whether CSV begins with the names of its columns.")
    line_ending: Literal["lf", "crlf"] = Field("lf", description="How lines of CSV and text end.")
    encoding: str = Field("utf-8", description="Of CSV and text; JSON is always UTF-8.")
    rotate_size: Bytes | None = Field(
        None, description="Parts only: begin another part about here. A part never spans two epochs."
    )
    overwrite: bool = Field(False, description="Replace output that this pipeline did not write.")

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        value = {"tab": "\t", "\\t": "\t"}.get(value, value)
        if len(value) != 1 or not value.isascii() or value in '"\r\n':
            raise ValueError("a delimiter is one ASCII character, not a quote or line break")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            found = codecs.lookup(value)
            "x".encode(value)  # refuses codecs that are not text encodings, such as base64
        except LookupError as error:
            raise ValueError(f"unknown encoding {value!r}") from error
        return found.name

    @field_validator("rotate_size")
    @classmethod
    def _positive(cls, value: int | None) -> int | None:
        if value == 0:
            raise ValueError("a part holds at least one byte")
        return value

    @field_validator("columns")
    @classmethod
    def _unique(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value and len(set(value)) < len(value):
            raise ValueError("a column is named twice")
        return value

    @model_validator(mode="before")
    @classmethod
    def _tabs(cls, data: Any) -> Any:
        given = isinstance(data, dict) and "delimiter" not in data and isinstance(data.get("path"), str)
        return {**data, "delimiter": "\t"} if given and suffixes(data["path"])[0] in TABBED else data

    @model_validator(mode="after")
    def _consistent(self) -> FileSinkConfig:
        kind = self.file_format
        for name, kinds in _ONLY_FOR.items():
            default = type(self).model_fields[name].default
            if kind not in kinds and getattr(self, name) != default:
                raise ValueError(f"{name} has no meaning for {kind}")
        if self.rotate_size is not None and self.single:
            raise ValueError("rotate_size is for a folder of parts; this path names one file")
        if self.compression_level is not None and self.codec is Compression.NONE:
            raise ValueError("compression_level has no meaning without compression")
        if self.compression_level is not None and self.codec is Compression.GZIP and self.compression_level > 9:
            raise ValueError("gzip knows the levels 1 to 9")
        return self

    @property
    def single(self) -> bool:
        """One file rather than a folder of parts."""
        return bool(PurePath(self.path).suffix) and not self.path.endswith(("/", "\\"))

    @property
    def file_format(self) -> FileFormat:
        if self.format:
            return self.format
        if self.single and (named := format_of(self.path)):
            return named
        raise ValueError(f"format is needed: it cannot be told from the path {self.path!r}")

    @property
    def codec(self) -> Compression:
        """Of the whole file; for Parquet, of its pages."""
        if self.compression:
            return self.compression
        if self.file_format is FileFormat.PARQUET:
            return Compression.ZSTD
        return compression_of(self.path) if self.single else Compression.NONE

    @property
    def part_suffix(self) -> str:
        """How the names of parts end: `.jsonl.gz`."""
        outer = {Compression.GZIP: ".gz", Compression.ZSTD: ".zst", Compression.NONE: ""}[self.codec]
        return _SUFFIXES[self.file_format] + ("" if self.file_format is FileFormat.PARQUET else outer)
