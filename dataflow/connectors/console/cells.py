"""Values as text: whole columns at once, safe for a terminal.

Times are ISO 8601, bytes are base64, nested values are JSON. Control characters never reach the terminal as
themselves: a record must not be able to move the cursor or change a title.
"""

from __future__ import annotations

import json

import polars as pl
from polars.datatypes import DataTypeClass

ELLIPSIS = "…"
NULL = "NULL"

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_SHORT = {9: "\\t", 10: "\\n", 13: "\\r"}
_ESCAPED = {chr(code): _SHORT.get(code, f"\\x{code:02x}") for code in _CONTROLS}
_ESCAPED_IN_JSON = {chr(code): f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}  # the others JSON escapes itself

COLOURS = {"key": "36", "text": "32", "number": "33", "boolean": "35", "time": "34", "null": "90", "rule": "90"}
"""ANSI colours (SGR codes) by what is shown."""


def paint(text: str, what: str, colour: bool) -> str:
    return f"\x1b[{COLOURS[what]}m{text}\x1b[0m" if colour else text


def tone(dtype: pl.DataType) -> str:
    """Which of `COLOURS` a column of this type has."""
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "boolean"
    return "time" if dtype.is_temporal() else "text"


def plain(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """`value` with JSON's types only, all the way down: no bytes, times as ISO 8601."""
    if dtype == pl.Binary:
        return value.bin.encode("base64")
    if isinstance(dtype, pl.Datetime):
        return value.dt.to_string("%Y-%m-%dT%H:%M:%S%.f" + ("%:z" if dtype.time_zone else ""))
    if isinstance(dtype, pl.Duration):
        return value.dt.to_string("iso")
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return value.cast(pl.String)
    if isinstance(dtype, pl.List):
        return value.list.eval(plain(pl.element(), _type(dtype.inner)))
    if isinstance(dtype, pl.Array):
        return value.arr.eval(plain(pl.element(), _type(dtype.inner)), as_list=True)
    if isinstance(dtype, pl.Struct):
        fields = [plain(value.struct.field(f.name), _type(f.dtype)).alias(f.name) for f in dtype.fields]
        return pl.when(value.is_null()).then(None).otherwise(pl.struct(fields)) if fields else value
    return value


def json_text(column: str, dtype: pl.DataType) -> pl.Expr:
    """The column as JSON values; NULL, NaN and infinities are `null`. Decimals are strings, exact."""
    wrapped = pl.struct(plain(pl.col(column), dtype).alias("v")).struct.json_encode()
    value = wrapped.str.strip_prefix('{"v":').str.strip_suffix("}")
    return value.str.replace_many(list(_ESCAPED_IN_JSON), list(_ESCAPED_IN_JSON.values()))


def cell_text(column: str, dtype: pl.DataType, width: int) -> pl.Expr:
    """The column as text of at most `width` characters on one line; NULL stays NULL."""
    value = pl.col(column)
    if dtype.is_nested():
        text: pl.Expr = pl.when(value.is_not_null()).then(json_text(column, dtype))
    else:
        text = plain(value, dtype).cast(pl.String)
    text = text.str.replace_many(list(_ESCAPED), list(_ESCAPED.values()))
    return pl.when(text.str.len_chars() > width).then(text.str.head(width - 1) + ELLIPSIS).otherwise(text)


def name_text(name: str) -> str:
    """A column's name on one line."""
    return "".join(_ESCAPED.get(character, character) for character in name)


def name_json(name: str) -> str:
    """A column's name as a JSON string."""
    return "".join(_ESCAPED_IN_JSON.get(character, character) for character in json.dumps(name, ensure_ascii=False))


def painted(value: pl.Expr, dtype: pl.DataType, null: str, colour: bool) -> pl.Expr:
    """`value` (text) in its column's colour, `null` where it is NULL."""
    if not colour:
        return value.fill_null(null)
    shown = pl.concat_str(pl.lit(f"\x1b[{COLOURS[tone(dtype)]}m"), value, pl.lit("\x1b[0m"))
    return shown.fill_null(paint(null, "null", colour))


def _type(dtype: DataTypeClass | pl.DataType) -> pl.DataType:
    """Polars types the types inside a type loosely: a class stands for its only instance."""
    return dtype if isinstance(dtype, pl.DataType) else dtype()
