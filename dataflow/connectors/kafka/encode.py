"""Rows to messages: keys, values and headers as bytes, whole columns at once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dataflow.connectors.kafka.cluster import one_topic
from dataflow.connectors.kafka.decode import Format
from dataflow.connectors.kafka.headers import checked_headers, passed_on
from dataflow.connectors.kafka.pack import BINARY, Messages
from dataflow.connectors.kafka.partitioner import Places, partitions, unkeyed
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig, TopicOfRow
from dataflow.connectors.kafka.written import Written
from dataflow.errors import BadRecord, InvalidSpec, Problem
from dataflow.expressions import Compiled, Program, type_name
from dataflow.expressions import compile as compile_expression

_KEY, _VALUE, _HEADER, _TOPIC, _PARTITION = "\0key", "\0value", "\0header", "\0topic", "\0partition"
_BREAK = ord("\n")


class Encoder:
    """Compiled for one schema. Raises `InvalidSpec` (paths `key`, `value`, `headers.NAME`) for expressions that do not
    fit it, and for a format that cannot hold it. Thread-safe."""

    def __init__(self, config: KafkaSinkConfig, schema: pl.Schema, written: Written | None = None) -> None:
        """`written`: of avro and protobuf, how the columns `value_columns` become values."""
        outputs: dict[str, Compiled] = {}
        if config.key is not None:
            outputs[_KEY] = _compiled(config.key, schema, "key")
        if isinstance(config.topic, TopicOfRow):
            outputs[_TOPIC] = _of_type(config.topic.expression, schema, "topic.expression", pl.String())
        if config.partition is not None:
            outputs[_PARTITION] = _of_type(config.partition, schema, "partition", pl.Int64())
        self._one_column = config.format in (Format.STRING, Format.BYTES)
        if self._one_column:
            outputs[_VALUE] = _compiled(_value_of(config, schema), schema, "value")
            if config.format is Format.BYTES and not isinstance(outputs[_VALUE].dtype, pl.Binary):
                told = f"gives {type_name(outputs[_VALUE].dtype)}, not bytes"
                raise InvalidSpec([Problem("value", told, hint="format: string writes the text of it")])
        else:
            _check(schema)
        self._names = tuple(config.headers)
        for number, (name, text) in enumerate(config.headers.items()):
            outputs[f"{_HEADER}{number}"] = _compiled(text, schema, f"headers.{name}")
        self._program = Program(outputs)
        self._made = {
            name: as_bytes(pl.col(name), compiled.dtype)
            for name, compiled in outputs.items()
            if name not in (_TOPIC, _PARTITION)
        }
        self._carried = checked_headers(config.headers_from, schema)
        columns = value_columns(config, schema)
        self._json = [plain(pl.col(name), dtype).alias(name) for name, dtype in columns.items()]
        self._written = written
        self._topic = config.one_topic

    def encode(self, rows: pl.DataFrame, count: int, turn: int) -> Messages:
        """The messages for `count` partitions, of rows of one topic; see `make` and `place`."""
        [(_, made)] = self.make(rows)
        return self.place(made, count, turn)

    def make(self, rows: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
        """What `place` takes, by topic. Raises `BadRecord` for a row whose key, value, header or topic cannot be
        computed, and for a topic that can be none."""
        done = self._program.run(rows)
        if done.failures is not None:
            [(code, message), *_] = done.failures.reasons.rows()
            raise BadRecord(f"a message cannot be made: {message} ({code})", hint="compute it in a map, errors and all")
        made = done.rows.with_columns(expr.alias(name) for name, expr in self._made.items())
        if self._topic is not None:
            return [(self._topic, made)]
        return [(_topic_name(part[_TOPIC][0]), part) for part in made.partition_by(_TOPIC, maintain_order=True)]

    def place(self, made: pl.DataFrame, count: int, turn: int) -> Messages:
        """The messages for `count` partitions; `turn`: how many rows went before. Rows of one key keep their
        order. Raises `BadRecord` for a row with a partition that there is not."""
        keys = made.get_column(_KEY) if _KEY in self._made else None
        places = unkeyed(made.height, count, turn) if keys is None else partitions(keys, count, turn)
        if _PARTITION in made.columns:
            places = _chosen(made.get_column(_PARTITION), count, places)
        if count > 1:
            # rows of one key keep their order
            made = made[np.argsort(places.astype(np.int16) if count <= 2**15 else places, kind="stable")]
        runs = [(place, number) for place, number in enumerate(np.bincount(places).tolist()) if number]
        return self._messages(made, runs)

    def _messages(self, made: pl.DataFrame, runs: Sequence[tuple[int, int]]) -> Messages:
        values = self._values(made)
        keys = _binary(made.get_column(_KEY)) if _KEY in self._made else None
        headers = [(name, _binary(made.get_column(f"{_HEADER}{number}"))) for number, name in enumerate(self._names)]
        if self._carried is not None:
            headers += passed_on(made.get_column(self._carried), self._names)
        ended = not self._one_column and self._written is None
        if ended and headers:
            values, ended = pc.binary_slice(values, 0, -1), False
        return Messages(runs, values, keys, headers, ended)

    def _values(self, made: pl.DataFrame) -> pa.LargeBinaryArray:
        if self._one_column:
            return _binary(made.get_column(_VALUE))
        if self._written is not None:
            return self._written.rows.encode(made, self._written.prefix)
        return lines(made.select(self._json))


def value_columns(config: KafkaSinkConfig, schema: pl.Schema) -> pl.Schema:
    """The columns that a value is made of. Raises `InvalidSpec` (`exclude`) where none is left."""
    left = {*_known(config.exclude, schema), *([config.headers_from] if config.headers_from else ())}
    kept = pl.Schema({name: dtype for name, dtype in schema.items() if name not in left})
    if not kept and left:
        raise InvalidSpec([Problem("exclude", "no column is left for the value")])
    return kept


def lines(rows: pl.DataFrame) -> pa.LargeBinaryArray:
    """Each row as one JSON object, and a zero behind it. NaN and infinities are null."""
    out = io.BytesIO()
    rows.write_ndjson(out)
    text = np.frombuffer(out.getbuffer(), np.uint8)
    breaks = np.flatnonzero(text == _BREAK)  # each ends a row: JSON escapes those inside of it
    text[breaks] = 0
    bounds = np.concatenate((np.zeros(1, np.int64), breaks + 1))
    return pa.LargeBinaryArray.from_buffers(BINARY, len(breaks), [None, pa.py_buffer(bounds), pa.py_buffer(text)])


def _binary(column: pl.Series) -> pa.LargeBinaryArray:
    return column.alias("").to_arrow().cast(BINARY)  # no zero in a name can leave Polars


def plain(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """`value` with types that JSON has, all the way down: times are ISO 8601, bytes base64."""
    match dtype:
        case pl.Binary():
            return value.bin.encode("base64")
        case pl.Datetime():
            return value.dt.to_string("iso:strict")
        case pl.Duration():
            return value.dt.to_string("iso")
        case pl.List() if _needs(dtype):
            return value.list.eval(plain(pl.element(), _instance(dtype.inner)))
        case pl.Struct() if _needs(dtype):
            parts = [plain(value.struct.field(p.name), _instance(p.dtype)).alias(p.name) for p in dtype.fields]
            return pl.when(value.is_not_null()).then(pl.struct(parts))
    return value


def as_bytes(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """A column as the bytes of its text: numbers in decimal, times as ISO 8601, lists and structs as JSON."""
    match dtype:
        case pl.Binary():
            return value
        case pl.Datetime() | pl.Duration():
            text = plain(value, dtype)
        case pl.List() | pl.Array() | pl.Struct():
            wrapped = pl.struct(plain(value, dtype).alias("v")).struct.json_encode()  # {"v":...}: only structs encode
            text = pl.when(value.is_not_null()).then(wrapped.str.slice(5).str.head(-1))
        case _:
            text = value.cast(pl.String)
    return text.cast(pl.Binary)


def _topic_name(name: str | None) -> str:
    try:
        return one_topic("" if name is None else name)
    except ValueError as error:
        raise BadRecord(f"a row's topic: {error}", code="BAD_TOPIC", hint="filter such rows out before") from error


def _chosen(numbers: pl.Series, count: int, otherwise: Places) -> Places:
    wrong = numbers.filter((numbers < 0) | (numbers >= count))
    if len(wrong):
        raise BadRecord(f"there is no partition {wrong[0]}: the topic has {count}", code="BAD_PARTITION")
    chosen = numbers.cast(pl.Int64).fill_null(-1).to_numpy()
    return np.where(chosen < 0, otherwise, chosen).astype(np.int32)


def _of_type(text: str, schema: pl.Schema, path: str, wanted: pl.DataType) -> Compiled:
    compiled = _compiled(text, schema, path)
    fits = compiled.dtype.is_integer() if wanted.is_integer() else compiled.dtype == wanted
    if not fits:
        what = "a whole number" if wanted.is_integer() else "text"
        raise InvalidSpec([Problem(path, f"gives {type_name(compiled.dtype)}, not {what}")])
    return compiled


def _known(names: Sequence[str], schema: pl.Schema) -> Sequence[str]:
    if unknown := [name for name in names if name not in schema]:
        raise InvalidSpec(
            [Problem("exclude", f"there is no column {unknown[0]!r}", hint="known: " + ", ".join(schema))]
        )
    return names


def _compiled(text: str, schema: pl.Schema, path: str) -> Compiled:
    try:
        return compile_expression(text, schema)
    except InvalidSpec as refused:
        found = [Problem(path, p.message, p.code, p.hint, p.line, p.column) for p in refused.problems]
        raise InvalidSpec(found) from refused


def _value_of(config: KafkaSinkConfig, schema: pl.Schema) -> str:
    if config.value is not None:
        return config.value
    if len(schema) != 1:
        hint = "name one with value, or write json"
        raise InvalidSpec(
            [Problem("value", f"the rows have {len(schema)} columns, a {config.format} value is one", hint=hint)]
        )
    return '"' + next(iter(schema)).replace('"', '""') + '"'


def _check(schema: pl.Schema) -> None:
    for name, dtype in schema.items():
        if isinstance(dtype, pl.Object):
            raise InvalidSpec([Problem("format", f"column {name!r} holds Python objects, which JSON cannot")])


def _needs(dtype: Any) -> bool:
    """Whether some type inside has to be turned into text."""
    match dtype:
        case pl.Binary() | pl.Datetime() | pl.Duration():
            return True
        case pl.List():
            return _needs(_instance(dtype.inner))
        case pl.Struct():
            return any(_needs(_instance(part.dtype)) for part in dtype.fields)
    return False


def _instance(dtype: Any) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else cast(pl.DataType, dtype)
