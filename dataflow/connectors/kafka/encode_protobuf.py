"""Rows as Protobuf messages, whole columns at once; and the message type of rows that were given none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from dataflow.connectors.kafka import binary as by
from dataflow.connectors.kafka.binary import Columns, Lead, Mask, Number, Parts, Writer
from dataflow.connectors.kafka.fit import Unfit, check_name, fields_of, instance, within
from dataflow.connectors.kafka.protobuf import DURATION, TIMESTAMP, WRAPPERS
from dataflow.expressions import type_name

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_SECOND = 1_000_000_000
_F = FieldDescriptor
_NUMBERS: Mapping[int, tuple[int, str]] = {
    _F.TYPE_INT32: (_VARINT, "int32"),
    _F.TYPE_INT64: (_VARINT, "int64"),
    _F.TYPE_UINT32: (_VARINT, "uint32"),
    _F.TYPE_UINT64: (_VARINT, "uint64"),
    _F.TYPE_SINT32: (_VARINT, "int32"),
    _F.TYPE_SINT64: (_VARINT, "int64"),
    _F.TYPE_BOOL: (_VARINT, "uint8"),
    _F.TYPE_ENUM: (_VARINT, "int32"),
    _F.TYPE_FIXED32: (_FIXED32, "uint32"),
    _F.TYPE_SFIXED32: (_FIXED32, "int32"),
    _F.TYPE_FLOAT: (_FIXED32, "float32"),
    _F.TYPE_FIXED64: (_FIXED64, "uint64"),
    _F.TYPE_SFIXED64: (_FIXED64, "int64"),
    _F.TYPE_DOUBLE: (_FIXED64, "float64"),
}
"""How each type is put, and the Arrow type that holds what it can be."""


class ProtobufRows:
    """Compiled for the columns of rows. Raises `InvalidSpec` where they do not fit the message type: each column is the
    field of that name; fields without a column, and NULL, are left out of the message. Thread-safe."""

    def __init__(self, message: Descriptor, columns: pl.Schema) -> None:
        self._columns = list(columns)
        try:
            self._write = _message(message, columns, "")
        except Unfit as unfit:
            raise unfit.problem() from unfit
        self.indices = _indices(message)

    def encode(self, rows: pl.DataFrame, prefix: bytes) -> pa.LargeBinaryArray:
        """Of each row its message, behind the prefix. Raises `BadRecord` for rows that the type cannot hold."""
        parts = self._write(by.columns_of(rows.select(self._columns)), np.ones(rows.height, np.bool_))
        return by.joined([pa.scalar(prefix, by.BINARY), *parts], rows.height)


def _indices(message: Descriptor) -> bytes:
    """Which message of its file it is, as registries' users write it: a single zero for the first."""
    found: list[int] = []
    one: Descriptor | None = message
    while one is not None:
        holder = one.containing_type
        beside = one.file.message_types_by_name.values() if holder is None else holder.nested_types
        found.insert(0, [other.full_name for other in beside].index(one.full_name))
        one = holder
    if found == [0]:
        return b"\0"
    there = np.ones(1, np.bool_)
    lead = tuple(by.zigzag(np.asarray([number], np.int64), there) for number in (len(found), *found))
    return bytes(by.numbers(lead)[0][0].as_py())


# --- deriving ---------------------------------------------------------------------------------------------------------


def proto_of(columns: pl.Schema, name: str, former: Descriptor | None = None) -> str:
    """The `.proto` text of a message with those columns, each of which may be missing (NULL). Fields that the `former`
    message has keep their numbers, and no number that it ever had is used for something else. Raises `InvalidSpec` for
    a type or a name that Protobuf does not have."""
    try:
        body = _derived_message(columns, name, former, "")
    except Unfit as unfit:
        raise unfit.problem("format") from unfit
    text = "\n".join(body)
    imports = [
        f'import "google/protobuf/{kind.lower()}.proto";' for kind in ("Duration", "Timestamp") if f".{kind} " in text
    ]
    return "\n".join(['syntax = "proto3";', *imports, *body, ""])


def _derived_message(columns: Mapping[str, Any], name: str, former: Descriptor | None, inside: str) -> list[str]:
    known = {field.name: field.number for field in former.fields} if former is not None else {}
    retired = _reserved(former) | {number for column, number in known.items() if column not in columns}
    numbered: list[tuple[int, str]] = []
    nested: list[str] = []
    taken = set(columns)
    following = max([0, *known.values(), *retired]) + 1
    for column, dtype in columns.items():
        path = f"{inside}{column}"
        check_name(column, path)
        number = known.get(column, following)
        following += column not in known
        many = isinstance(dtype, pl.List | pl.Array)
        inner = instance(dtype.inner) if isinstance(dtype, pl.List | pl.Array) else dtype
        if isinstance(inner, pl.Struct):
            kind = f"{column[:1].upper()}{column[1:]}Value"
            while kind in taken:
                kind += "_"
            taken.add(kind)
            of = former.nested_types_by_name.get(kind) if former is not None else None
            nested += _derived_message(fields_of(inner), kind, of, f"{path}.")
        else:
            kind = _derived(inner, path)
        numbered.append((number, f"{'repeated' if many else 'optional'} {kind} {column} = {number};"))
    lines = [text for _, text in sorted(numbered)]
    if retired:
        lines.append(f"reserved {', '.join(map(str, sorted(retired)))};")
    return [f"message {name} {{", *(f"  {line}" for line in (*nested, *lines)), "}"]


def _reserved(former: Descriptor | None) -> set[int]:
    if former is None:
        return set()
    written = DescriptorProto()
    former.CopyToProto(written)
    return {number for part in written.reserved_range for number in range(part.start, part.end)}


def _derived(dtype: Any, path: str) -> str:
    match dtype:
        case pl.Boolean():
            return "bool"
        case pl.Int8() | pl.Int16() | pl.Int32():
            return "int32"
        case pl.Int64():
            return "int64"
        case pl.UInt8() | pl.UInt16() | pl.UInt32():
            return "uint32"
        case pl.UInt64():
            return "uint64"
        case pl.Float32():
            return "float"
        case pl.Float64():
            return "double"
        case pl.Binary():
            return "bytes"
        case pl.Datetime() if dtype.time_zone is not None:
            return f".{TIMESTAMP}"
        case pl.Duration():
            return f".{DURATION}"
        case pl.String() | pl.Categorical() | pl.Enum() | pl.Date() | pl.Time() | pl.Datetime() | pl.Decimal():
            return "string"
    raise Unfit(
        f"column {path!r}: Protobuf has no {type_name(dtype)}", "cast it in a map, or leave it out with exclude"
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def _message(message: Descriptor, columns: Mapping[str, Any], where: str) -> Callable[[Columns, Mask], Parts]:
    fields: list[tuple[str, Writer]] = []
    for field in sorted(message.fields, key=lambda field: field.number):
        if field.name in columns:
            path = within(where, field.name)
            fields.append((field.name, _field(field, instance(columns[field.name]), path)))
    for name in columns:
        if name not in message.fields_by_name:
            path = within(where, name)
            raise Unfit(
                f"{message.full_name} has no field for the column {path!r}", "leave it out with exclude, or a map"
            )
    needed = [field.name for field in message.fields if field.is_required]
    if left := [name for name in needed if name not in columns]:
        raise Unfit(f"there is no column {left[0]!r}, which {message.full_name} requires", "make it in a map")
    choices = [[field.name for field in choice.fields if field.name in columns] for choice in message.oneofs]

    def write(found: Columns, there: Mask) -> Parts:
        for name in needed:
            if bool((there & ~by.valid(found[name])).any()):
                raise by.misfit(name, "it is NULL, and the schema requires it")
        for choice in choices:
            filled = np.zeros(len(there), np.int64)
            for name in choice:
                filled += by.valid(found[name])
            if filled.max(initial=0) > 1:
                raise by.misfit(" and ".join(choice), "only one of them may have a value")
        parts: Parts = []
        for name, one in fields:
            parts += one(found[name], there & by.valid(found[name]), ())
        return parts

    return write


def _field(field: FieldDescriptor, dtype: Any, where: str) -> Writer:
    if not field.is_repeated:
        return _tagged(field, dtype, where)
    if not isinstance(dtype, pl.List | pl.Array):
        raise _mismatch(field, dtype, where)
    inner = instance(dtype.inner)
    if field.is_packed:
        return _packed(field, _value(field, inner, f"{where}[]"), where)
    return _each(_tagged(field, inner, f"{where}[]"), where)


def _tagged(field: FieldDescriptor, dtype: Any, where: str) -> Writer:
    value, tag = _value(field, dtype, where), field.number << 3 | _wire(field)
    return lambda column, there, lead: value(column, there, (*lead, by.same(tag, there)))


def _packed(field: FieldDescriptor, value: Writer, where: str) -> Writer:
    tag = field.number << 3 | _DELIMITED

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        each, counts = _items(column, there, where)
        made = by.regrouped(by.joined(value(each, np.ones(len(each), np.bool_), ()), len(each)), counts)
        some = counts > 0
        return [*by.numbers((*lead, by.same(tag, some), by.plain(by.lengths(made), some))), made]

    return write


def _each(item: Writer, where: str) -> Writer:
    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        each, counts = _items(column, there, where)
        made = by.joined(item(each, np.ones(len(each), np.bool_), ()), len(each))
        return [*by.numbers(lead), by.regrouped(made, counts)]

    return write


def _items(column: pa.Array, there: Mask, where: str) -> tuple[pa.Array, by.Whole]:
    each, counts = by.items(column, there)
    if each.null_count:
        raise by.misfit(where, "an item is NULL, which Protobuf does not have")
    return each, counts


def _wire(field: FieldDescriptor) -> int:
    return _NUMBERS[field.type][0] if field.type in _NUMBERS else _DELIMITED


def _value(field: FieldDescriptor, dtype: Any, where: str) -> Writer:
    """How a value of the field is put behind its tag."""
    write: Writer | None = None
    kind = field.message_type
    if kind is not None:
        write = _known(kind, dtype, where)
        if write is None and isinstance(dtype, pl.Struct):
            parts = fields_of(dtype)
            write = _nested(_message(kind, parts, where), list(parts))
    elif field.type in (_F.TYPE_STRING, _F.TYPE_BYTES):
        write = _text(field, dtype)
    elif field.enum_type is not None and isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        write = _enum({value.name: value.number for value in field.enum_type.values}, where)
    else:
        write = _number(field, dtype, where)
    if write is None:
        raise _mismatch(field, dtype, where)
    return write


def _mismatch(field: FieldDescriptor, dtype: Any, where: str) -> Unfit:
    kind = field.message_type or field.enum_type
    wanted = kind.full_name if kind is not None else _TYPE_NAMES[field.type]
    many = "a list of " if field.is_repeated else ""
    return Unfit(f"column {where!r} is {type_name(dtype)}, the schema wants {many}{wanted}", "cast it in a map")


_TYPE_NAMES = {getattr(_F, name): name[5:].lower() for name in dir(_F) if name.startswith("TYPE_")}


def _known(kind: Descriptor, dtype: Any, where: str) -> Writer | None:
    """Messages that stand for a type of their own."""
    if kind.full_name == TIMESTAMP and isinstance(dtype, pl.Datetime):
        return _moment(pa.timestamp("ns"), where, toward_zero=False)
    if kind.full_name == DURATION and isinstance(dtype, pl.Duration):
        return _moment(pa.duration("ns"), where, toward_zero=True)
    if kind.full_name in WRAPPERS and not isinstance(dtype, pl.Struct):
        return _framed(_tagged(kind.fields_by_name["value"], dtype, where))
    return None


def _nested(write: Callable[[Columns, Mask], Parts], names: list[str]) -> Writer:
    return _framed(lambda column, there, _: write(dict(zip(names, column.flatten(), strict=True)), there))


def _framed(write: Writer) -> Writer:
    """A message in a message: its length, and its bytes."""

    def framed(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        made = by.joined(write(column, there, ()), len(there))
        return [*by.numbers((*lead, by.plain(by.lengths(made), there))), made]

    return framed


def _moment(kind: pa.DataType, where: str, *, toward_zero: bool) -> Writer:
    """Seconds (field 1) and nanoseconds (field 2); a time without a zone counts as UTC."""

    def write(column: pa.Array, there: Mask, _: Lead) -> Parts:
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            column = column.cast(pa.timestamp(column.type.unit))
        per = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": _SECOND}[column.type.unit]
        count = column.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        seconds = count // per
        if toward_zero:
            seconds = seconds + ((count < 0) & (seconds * per != count))
        nanos = (count - seconds * per) * (_SECOND // per)
        some, more = there & (seconds != 0), there & (nanos != 0)
        lead = (by.same(1 << 3, some), by.plain(seconds, some), by.same(2 << 3, more), by.plain(nanos, more))
        return by.numbers(lead)

    return _framed(write)


def _text(field: FieldDescriptor, dtype: Any) -> Writer | None:
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum) or (
        isinstance(dtype, pl.Binary) and field.type == _F.TYPE_BYTES
    ):
        return _delimited
    if field.type == _F.TYPE_STRING and isinstance(dtype, pl.Date | pl.Time | pl.Datetime | pl.Decimal):
        return lambda column, there, lead: _delimited(_spelled(column), there, lead)
    return None


def _spelled(column: pa.Array) -> pa.Array:
    """Dates, times and decimals as text, as they are in JSON."""
    found = pl.Series("", column)
    return (
        found.dt.to_string("iso:strict").to_arrow()
        if isinstance(found.dtype, pl.Datetime)
        else found.cast(pl.String).to_arrow()
    )


def _delimited(column: pa.Array, there: Mask, lead: Lead) -> Parts:
    made, sizes = by.texts(column, there)
    return [*by.numbers((*lead, by.plain(sizes, there))), made]


def _enum(numbers: Mapping[str, int], where: str) -> Writer:
    names, values = pa.array(list(numbers), by.BINARY), np.asarray(list(numbers.values()), np.int64)

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        made, _ = by.texts(column, there)
        found = pc.index_in(made, names).fill_null(-1).to_numpy(zero_copy_only=False)
        if bool((found[there] < 0).any()):
            odd = made.filter(pa.array(there & (found < 0)))[0].as_py().decode("utf-8", "replace")
            raise by.misfit(where, f"{odd!r} is none of {', '.join(numbers)}")
        return by.numbers((*lead, by.plain(values[found], there)))

    return write


def _number(field: FieldDescriptor, dtype: Any, where: str) -> Writer | None:
    wire, kind = _NUMBERS[field.type]
    if field.type == _F.TYPE_BOOL:
        fits = isinstance(dtype, pl.Boolean)
    else:
        fits = dtype.is_integer() or (kind.startswith("float") and dtype.is_float())
    if not fits:
        return None
    if wire == _VARINT:
        coded = by.zigzag if field.type in (_F.TYPE_SINT32, _F.TYPE_SINT64) else by.plain
        return lambda column, there, lead: by.numbers((*lead, _coded(coded, column, kind, there, where)))

    def write(column: pa.Array, there: Mask, lead: Lead) -> Parts:
        found = by.cast_to(column, getattr(pa, kind)(), where).fill_null(0).to_numpy(zero_copy_only=False)
        return [*by.numbers(lead), by.fixed(found, there)]

    return write


def _coded(coded: Any, column: pa.Array, kind: str, there: Mask, where: str) -> Number:
    return coded(by.whole(column, kind, where), there)  # type: ignore[no-any-return]
