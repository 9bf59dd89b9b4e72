"""What there is to read: files, their format, and the types that a sample of them shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import orjson
import polars as pl

from dataflow.connectors.file.config import FileSourceConfig
from dataflow.connectors.file.csv import is_temporal
from dataflow.connectors.file.formats import FileFormat, format_of
from dataflow.connectors.file.header import Front, agree, line_end
from dataflow.connectors.file.infer import json_types, text_types
from dataflow.connectors.file.opening import Opener
from dataflow.connectors.file.parquet import ParquetFile
from dataflow.connectors.file.pieces import Parsed
from dataflow.connectors.file.pin import Pin
from dataflow.connectors.file.streams import BOM, Stream
from dataflow.connectors.file.text import TEXT_SCHEMA
from dataflow.connectors.file.worklist import WorkFile
from dataflow.errors import Rejected
from dataflow.expressions import nearest

_SAMPLED = 16  # files whose content is looked at
_COMPARED = 64  # files whose header is looked at; the others when they are opened
_JSON_RECORDS = 20_000
_USUAL_ROW = 100  # bytes, where nothing is known


def format_for(config: FileSourceConfig, files: Sequence[WorkFile]) -> FileFormat:
    """The format that was configured, or the one all names agree on."""
    if config.format:
        return config.format
    found = {format_of(file.name): file.name for file in reversed(files)}
    if len(found) == 1 and (only := next(iter(found))):
        return only
    if None in found:
        raise Rejected(
            "the format cannot be told from the name", code="UNKNOWN_FORMAT", hint="set format", where=found[None]
        )
    names = " and ".join(sorted(found.values()))
    raise Rejected(
        f"files of several formats: {names}", code="MIXED_FORMATS", hint="set format, or name them by a glob"
    )


def find_pin(config: FileSourceConfig, files: Sequence[WorkFile]) -> Pin:
    """Infer or take the schema. Raises `Rejected` where files do not go together or a column does not exist."""
    kind = format_for(config, files)
    with_data = [file for file in files if file.size]
    if kind is FileFormat.PARQUET:
        return _parquet(config, with_data)
    if kind is FileFormat.TEXT:
        return Pin(kind, TEXT_SCHEMA, _USUAL_ROW)
    sample = _csv(config, with_data) if kind is FileFormat.CSV else _json(config, kind, with_data)
    return Pin(kind, *sample)


def spread(files: Sequence[WorkFile], count: int) -> list[WorkFile]:
    """So many of the files, evenly over all of them, the first one among them."""
    return [files[number * len(files) // count] for number in range(count)] if len(files) > count else list(files)


def _parquet(config: FileSourceConfig, files: Sequence[WorkFile]) -> Pin:
    if config.declared is not None:
        hint = "name the columns in a list"
        raise Rejected("a Parquet file carries its types", code="VALIDATION_FAILED", hint=hint, where="columns")
    schema: pl.Schema | None = None
    row_bytes = _USUAL_ROW
    for file in spread(files, _COMPARED):
        with closing(ParquetFile(file)) as opened:
            if schema is None:
                schema, row_bytes = opened.schema, opened.row_bytes()
            same_columns(opened.schema, _chosen(config, schema, file.name), file.name, config)
    if schema is None:
        return Pin(FileFormat.PARQUET, pl.Schema(), row_bytes)
    return Pin(FileFormat.PARQUET, _chosen(config, schema, files[0].name), row_bytes)


def same_columns(found: pl.Schema, pinned: pl.Schema, name: str, config: FileSourceConfig) -> None:
    """Raise `Rejected` where a Parquet file has not the pinned columns with their types."""
    agree(list(found), list(pinned), name, others=config.columns is not None)
    for column, dtype in pinned.items():
        if found[column] != dtype:
            message = f"the column {column} is {found[column]} here and {dtype} in the first file"
            raise Rejected(message, code="SCHEMA_MISMATCH", where=name)


def _chosen(config: FileSourceConfig, schema: pl.Schema, where: str) -> pl.Schema:
    """The columns that the definition chose, with the types found or declared."""
    if config.chosen is None:
        return schema
    declared: Mapping[str, pl.DataType] = config.declared or {}
    for name in config.chosen:
        if name not in schema and name not in declared:
            raise Rejected(f"there is no column {name}", code="UNKNOWN_COLUMN", hint=nearest(name, schema), where=where)
    return pl.Schema({name: declared[name] if name in declared else schema[name] for name in config.chosen})


def _csv(config: FileSourceConfig, files: Sequence[WorkFile]) -> tuple[pl.Schema, int]:
    declared = config.declared
    names: tuple[str, ...] | None = None if config.header else config.chosen
    texts: list[pl.DataFrame] = []
    used = 0
    sampled = {file.name for file in spread(files, _SAMPLED)}
    compared = {file.name: file for file in (*spread(files, _COMPARED), *spread(files, _SAMPLED))}
    opener = Opener(config, FileFormat.CSV, pl.Schema(), ())
    for file in sorted(compared.values()):
        stream, found, data = opener.sample(file)
        with closing(stream):
            if not found.names:
                continue
            names = names or found.names
            _same_fields(config, file, found, names)
            if file.name in sampled and (declared is None or not texts):
                fields = found.names if config.header else names
                parsed = _parsed(opener, file, stream, found, data, fields, config.sample // len(sampled))
                texts += [frame.select(config.chosen or names) for frame in parsed.frames]
                used += parsed.consumed
    if names is None:
        return declared or pl.Schema(dict.fromkeys(config.chosen or (), pl.String())), _USUAL_ROW
    sample = pl.concat([pl.Schema(dict.fromkeys(config.chosen or names, pl.String())).to_frame(), *texts])
    types = declared if declared is not None else text_types(sample)
    return types, max(1, used // sample.height) if sample.height else _USUAL_ROW


def _same_fields(config: FileSourceConfig, file: WorkFile, found: Front, names: Sequence[str]) -> None:
    """Raise `Rejected` where a CSV file's head has not the fields of the first one, or not those chosen."""
    if config.header:
        agree(found.names, config.chosen or names, file.name, others=config.columns is not None)
    elif config.chosen and len(found.names) != len(names):
        message = f"columns names {len(names)} columns, and the first record has {len(found.names)} fields"
        raise Rejected(message, code="UNKNOWN_COLUMN", where=file.name)


def _parsed(
    opener: Opener, file: WorkFile, stream: Stream, found: Front, data: bytes, fields: Sequence[str], budget: int
) -> Parsed:
    """The first records of a CSV file as text: within the budget, but one at least."""
    schema = pl.Schema(dict.fromkeys(fields, pl.String()))
    parser = replace(opener, schema=schema, wanted=fields).csv(file, schema, line_end(data[: 64 * 1024]))
    ended = False
    while True:
        while not ended and len(data) < budget:
            more = stream.read(budget - len(data))
            ended, data = not more, data + more
        parsed = parser.parse(data[found.offset :], found.line, final=ended)
        if ended or any(frame.height for frame in parsed.frames) or budget > 2 * parser.window:
            return parsed
        budget = 2 * max(budget, len(data))


def _json(config: FileSourceConfig, kind: FileFormat, files: Sequence[WorkFile]) -> tuple[pl.Schema, int]:
    records: list[dict[str, object]] = []
    used = count = 0
    sampled = spread(files, _SAMPLED)
    for file in sampled:
        for line in _lines(Opener(config, kind, pl.Schema(), ()), file, max(1, config.sample // len(sampled))):
            if count >= _JSON_RECORDS * 4 or len(records) >= _JSON_RECORDS:
                break
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                value = None  # refused with its line when it is read
            if isinstance(value, dict):
                records.append(value)
            used, count = used + len(line) + 1, count + 1
    schema = config.declared if config.declared is not None else json_types(records)
    if records or config.declared is not None:
        schema = _chosen(config, schema, files[0].name if files else config.path)
    elif config.chosen:
        schema = pl.Schema(dict.fromkeys(config.chosen, pl.String()))
    nested = [name for name, dtype in schema.items() if isinstance(dtype, pl.List) and is_temporal(dtype.inner)]  # type: ignore[arg-type]
    if nested:
        raise Rejected("dates and times inside lists cannot be declared", code="BAD_SCHEMA", where=nested[0])
    return schema, max(1, used // count) if count else _USUAL_ROW


def _lines(opener: Opener, file: WorkFile, budget: int) -> Iterator[bytes]:
    """The whole lines within the first bytes of a file: at least one, if it is within `max_record`."""
    stream, _, data = opener.sample(file)
    with closing(stream):
        ended = False
        while not ended and (len(data) < budget or (b"\n" not in data and len(data) <= opener.config.max_record)):
            more = stream.read(64 * 1024)
            ended, data = not more, data + more
    lines = data.removeprefix(BOM).split(b"\n")
    yield from (line for line in (lines if ended else lines[:-1]) if line.strip())
