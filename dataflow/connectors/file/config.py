"""Options of the file source."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

import polars as pl
from pydantic import Field, field_validator, model_validator

from dataflow.components import Config
from dataflow.connectors.declared import declared_type
from dataflow.connectors.file.formats import TABBED, Compression, FileFormat, format_of, suffixes
from dataflow.domain.spec import Bytes

_ONLY_FOR = {
    "delimiter": {FileFormat.CSV},
    "header": {FileFormat.CSV},
    "quote": {FileFormat.CSV},
    "null_values": {FileFormat.CSV},
    "ragged": {FileFormat.CSV},
    "encoding": {FileFormat.CSV, FileFormat.TEXT, FileFormat.JSONL, FileFormat.JSON},
    "compression": {FileFormat.CSV, FileFormat.TEXT, FileFormat.JSONL, FileFormat.JSON},
    "sample": {FileFormat.CSV, FileFormat.JSONL, FileFormat.JSON},
}
_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


class FileSourceConfig(Config):
    """Read a file, a folder (all its visible files, sub-folders included) or a glob.

    Lines end with LF or CRLF (CR alone where a file has no LF). Blank lines between records are skipped, except in a
    CSV file of one column, where one is a record with an empty field. An empty field is NULL, a quoted empty one (`""`)
    is an empty string."""

    path: str = Field(min_length=1, description="A file, a folder or a glob such as data/**/*.csv.gz.")
    format: FileFormat | None = Field(None, description="Default: from the suffix, in front of .gz or .zst.")
    compression: Compression | None = Field(None, description="Default: from the suffix (.gz, .zst), else none.")
    columns: tuple[str, ...] | Mapping[str, str] | None = Field(
        None,
        description="A list: which columns to read, or their names where there is no header. A mapping name: type: "
        "the declared schema; then nothing is inferred.",
    )
    delimiter: str = Field(",", description="Between the fields of CSV: one ASCII character; default of .tsv a tab.")
    header: bool = Field(True, description="Whether CSV begins with column names; without, field1, field2 ...")
    encoding: str = Field("utf-8", description="utf-8 (with or without BOM), utf-16, latin-1, cp1252 ...")
    quote: str = Field('"', description="Around CSV fields that hold delimiters or line breaks; empty for none.")
    null_values: tuple[str, ...] = Field((), description="Texts of CSV that mean NULL beside the empty field.")
    sample: Bytes = Field(8 * 2**20, description="How much is looked at to infer types, spread over the files.", ge=1)
    max_record: Bytes = Field(
        8 * 2**20, description="Longest record in bytes of UTF-8; a longer one is a reading error.", ge=1, le=2**30
    )
    ragged: str = Field(
        "error",
        pattern="^(error|pad)$",
        description="CSV records with too few fields: a reading error, or padded with NULL. Too many: always an error.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tabs(cls, data: Any) -> Any:
        if isinstance(data, dict) and "delimiter" not in data and suffixes(str(data.get("path", "")))[0] in TABBED:
            return {**data, "delimiter": "\t"}
        return data

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        value = _WORDS.get(value.lower(), value)
        if len(value) != 1 or not value.isascii() or value in '"\r\n':
            raise ValueError("a delimiter is one ASCII character, not a quote or line break")
        return value

    @field_validator("quote")
    @classmethod
    def _one_or_none(cls, value: str) -> str:
        value = "" if value.lower() == "none" else value
        if len(value) > 1 or not value.isascii() or (value and value in "\r\n"):
            raise ValueError("a quote is one ASCII character, or empty for none")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            codecs.lookup(value)
            "x".encode(value)  # refuses codecs that are not text encodings, such as base64
        except LookupError as error:
            raise ValueError(f"unknown encoding {value!r}; known are utf-8, utf-16, latin-1, cp1252 ...") from error
        return codecs.lookup(value).name

    @field_validator("columns")
    @classmethod
    def _columns(cls, value: tuple[str, ...] | Mapping[str, str] | None) -> tuple[str, ...] | Mapping[str, str] | None:
        if value is None:
            return None
        if not value:
            raise ValueError("name at least one column, or leave columns out")
        if isinstance(value, Mapping):
            for name, kind in value.items():
                declared_type(name, kind)
        elif len(set(value)) < len(value):
            raise ValueError("a column is named twice")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> FileSourceConfig:
        kind = self.format or format_of(self.path)
        for name, kinds in _ONLY_FOR.items():
            if kind and kind not in kinds and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no meaning for {kind}")
        if self.quote and self.quote == self.delimiter:
            raise ValueError("delimiter and quote are the same character")
        if kind is FileFormat.TEXT and self.columns is not None:
            raise ValueError("columns has no meaning for text: its one column is `line`")
        return self

    @property
    def declared(self) -> pl.Schema | None:
        """The schema that `columns` declares with its types."""
        if not isinstance(self.columns, Mapping):
            return None
        return pl.Schema({name: declared_type(name, kind) for name, kind in self.columns.items()})

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The columns that `columns` names, typed or not."""
        return None if self.columns is None else tuple(self.columns)
