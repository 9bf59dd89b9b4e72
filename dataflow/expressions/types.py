"""Types: their SQL names, and the families the checker thinks in.

INT and FLOAT are 64 bits wide here: a pipeline that says INT should not lose a large number. INT32, SMALLINT and
TINYINT are there for who wants less.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sqlglot import exp

from dataflow.expressions import syntax

D = exp.DType

_PLAIN: dict[exp.DType, pl.DataType] = {
    D.BOOLEAN: pl.Boolean(),
    D.TINYINT: pl.Int8(),
    D.SMALLINT: pl.Int16(),
    D.MEDIUMINT: pl.Int32(),
    D.INT: pl.Int64(),
    D.BIGINT: pl.Int64(),
    D.UTINYINT: pl.UInt8(),
    D.USMALLINT: pl.UInt16(),
    D.UINT: pl.UInt32(),
    D.UBIGINT: pl.UInt64(),
    D.FLOAT: pl.Float64(),
    D.DOUBLE: pl.Float64(),
    D.VARCHAR: pl.String(),
    D.TEXT: pl.String(),
    D.DATE: pl.Date(),
    D.TIME: pl.Time(),
    D.TIMESTAMP: pl.Datetime("us"),
    D.DATETIME: pl.Datetime("us"),
    D.TIMESTAMPTZ: pl.Datetime("us", "UTC"),
    D.BINARY: pl.Binary(),
    D.VARBINARY: pl.Binary(),
}

NAMES = (
    *("BOOLEAN", "INT", "BIGINT", "INT32", "SMALLINT", "TINYINT", "UBIGINT", "UINT", "DOUBLE", "DECIMAL(18, 2)"),
    *("VARCHAR", "DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "BLOB"),
)
"""The names to show to people; more are understood (STRING, TEXT, FLOAT, REAL, DATETIME, LONG ...)."""

_ALSO = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "integer": "INT",
    "str": "VARCHAR",
    "bool": "BOOLEAN",
    "number": "DOUBLE",
}


def named(text: str) -> pl.DataType | None:
    """The type of that name; None where there is none."""
    tree = syntax.parse_type(_ALSO.get(text.strip().lower(), text))
    return None if tree is None else from_tree(tree)


def from_tree(tree: exp.DataType) -> pl.DataType | None:
    """The type sqlglot read; None where this language has none such."""
    kind = tree.this
    if kind == D.DECIMAL:
        sizes = [int(part.name) for part in tree.expressions if part.name.isdigit()]
        precision, scale = [*sizes, 0][:2] if sizes else (18, 3)
        return pl.Decimal(precision, scale) if 1 <= precision <= 38 and scale <= precision else None
    if kind == D.USERDEFINED:
        other = _ALSO.get(str(tree.args.get("kind", "")).lower())
        return named(other) if other else None
    return _PLAIN.get(kind) if isinstance(kind, D) else None


def name(dtype: pl.DataType) -> str:
    """What to call a type in a message."""
    if isinstance(dtype, pl.Datetime):
        return "TIMESTAMPTZ" if dtype.time_zone else "TIMESTAMP"
    if isinstance(dtype, pl.Decimal):
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        return f"{name(inner) if isinstance(inner, pl.DataType) else inner}[]"
    if isinstance(dtype, pl.Struct):
        return "STRUCT(" + ", ".join(field.name for field in dtype.fields) + ")"
    special = {pl.String: "VARCHAR", pl.Int64: "BIGINT", pl.Int32: "INT32", pl.Float64: "DOUBLE", pl.Binary: "BLOB"}
    special |= {pl.Int16: "SMALLINT", pl.Int8: "TINYINT", pl.UInt64: "UBIGINT", pl.Duration: "INTERVAL"}
    return special.get(type(dtype), str(dtype).upper())


def is_int(dtype: pl.DataType) -> bool:
    return dtype.is_integer()


def is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric()


def is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def is_time(dtype: pl.DataType) -> bool:
    """A date or a timestamp."""
    return isinstance(dtype, pl.Date | pl.Datetime)


def is_null(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Null)


def common(dtypes: Sequence[pl.DataType]) -> pl.DataType | None:
    """The type that can hold all of these without loss of kind; None where there is none.

    Integers stay integers (64 bits where widths differ), dates meet timestamps, NULL goes with anything."""
    known = [dtype for dtype in dtypes if not is_null(dtype)]
    if not known:
        return pl.Null()
    if all(dtype == known[0] for dtype in known):
        return known[0]
    if all(is_int(dtype) for dtype in known):
        return pl.Int64()
    if all(is_number(dtype) for dtype in known):
        exact = all(is_int(dtype) or isinstance(dtype, pl.Decimal) for dtype in known)
        scales = [dtype.scale for dtype in known if isinstance(dtype, pl.Decimal)]
        return pl.Decimal(38, max(scales)) if exact else pl.Float64()
    if all(is_text(dtype) for dtype in known):
        return pl.String()
    if all(is_time(dtype) for dtype in known):
        zones = {dtype.time_zone for dtype in known if isinstance(dtype, pl.Datetime)}
        return pl.Datetime("us", zones.pop()) if len(zones) == 1 else None
    return None
