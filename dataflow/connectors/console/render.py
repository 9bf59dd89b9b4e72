"""Rows as text in six formats. Every format is a Polars expression over whole columns; only a table also needs to know
its widths first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl

from dataflow.connectors.console.cells import NULL, cell_text, json_text, name_json, name_text, paint, painted


class Format(StrEnum):
    PRETTYJSON = "prettyjson"
    COMPACTJSON = "compactjson"
    SIMPLE = "simple"
    TABLE = "table"
    STRUCTURED = "structured"
    KEYVALUE = "keyvalue"


@dataclass(frozen=True, slots=True)
class Style:
    """How to show. `stamp` (a time) and `metadata` are shown with each record, or once above a table, where given."""

    colour: bool = False
    width: int = 80
    stamp: str | None = None
    metadata: Mapping[str, str | int] = field(default_factory=dict)

    def about(self) -> dict[str, str | int]:
        return ({"timestamp": self.stamp} if self.stamp else {}) | dict(self.metadata)


def render(rows: pl.DataFrame, form: Format, style: Style, *, first: int = 1) -> str:
    """Text that ends with a newline, or nothing where there are no rows. `first` numbers the records from there.

    JSON is never cut: `style.width` bounds fields of the other formats."""
    if not rows.height:
        return ""
    if not rows.width:  # records without fields: nothing but their number is left to show
        return "{}\n" * rows.height if form in (Format.PRETTYJSON, Format.COMPACTJSON) else "\n" * rows.height
    return _FORMATS[form](rows, style, first)


def _lines(rows: pl.DataFrame, parts: Sequence[pl.Expr | str]) -> str:
    """One text for each row, joined by newlines."""
    pieces = [pl.lit(part) if isinstance(part, str) else part for part in parts]
    return "\n".join(rows.select(pl.concat_str(pieces)).to_series()) + "\n"


def _json(rows: pl.DataFrame, style: Style, newline: str, colon: str) -> str:
    """One object for each record; inside `data` of an envelope where a time or metadata are shown."""
    envelope: dict[str, object] = {}
    if style.stamp:
        envelope["timestamp"] = style.stamp
    if style.metadata:
        envelope["metadata"] = dict(style.metadata)
    outer = newline and newline + "  "
    inner = outer and outer + "  " if envelope else outer
    parts: list[pl.Expr | str] = ["{"]
    for key, content in envelope.items():
        parts.append(f"{outer}{paint(json.dumps(key), 'key', style.colour)}{colon}{json.dumps(content)},")
    if envelope:
        parts.append(f"{outer}{paint(json.dumps('data'), 'key', style.colour)}{colon}{{")
    for number, (name, dtype) in enumerate(rows.schema.items()):
        key = paint(name_json(name), "key", style.colour)
        parts.append(f"{',' if number else ''}{inner}{key}{colon}")
        value = json_text(name, dtype)
        parts.append(painted(pl.when(value != "null").then(value), dtype, "null", style.colour))
    parts.append((outer + "}" if envelope else "") + newline + "}")
    return _lines(rows, parts)


def _prettyjson(rows: pl.DataFrame, style: Style, first: int) -> str:
    return _json(rows, style, "\n", ": ")


def _compactjson(rows: pl.DataFrame, style: Style, first: int) -> str:
    return _json(rows, style, "", ":")


def _caption(style: Style) -> str:
    return " ".join(str(value) for value in style.about().values())


def _cells(rows: pl.DataFrame, style: Style) -> dict[str, pl.Expr]:
    return {name: cell_text(name, dtype, style.width) for name, dtype in rows.schema.items()}


def _simple(rows: pl.DataFrame, style: Style, first: int) -> str:
    """The values, tabs between them."""
    caption = _caption(style)
    parts: list[pl.Expr | str] = [f"{paint(caption, 'null', style.colour)}\t" if caption else ""]
    for name, text in _cells(rows, style).items():
        parts += [painted(text, rows.schema[name], NULL, style.colour), "\t"]
    return _lines(rows, parts[:-1])


def _keyvalue(rows: pl.DataFrame, style: Style, first: int) -> str:
    """logfmt: key=value, in quotes where a space, a quote or = is inside or nothing is; NULL is an empty value."""
    parts: list[pl.Expr | str] = []
    for key, value in style.about().items():
        parts.append(f"{paint(key, 'key', style.colour)}={value} ")
    for name, text in _cells(rows, style).items():
        quoted = pl.concat_str(pl.lit('"'), text.str.replace_all('"', '\\"', literal=True), pl.lit('"'))
        shown = pl.when((text == "") | text.str.contains(r'[\s"=]')).then(quoted).otherwise(text)
        key = name_text(name).replace(" ", "_")
        parts += [f"{paint(key, 'key', style.colour)}=", painted(shown, rows.schema[name], "", style.colour), " "]
    return _lines(rows, parts[:-1])


def _structured(rows: pl.DataFrame, style: Style, first: int) -> str:
    """A block for each record: its number, then a line for each field."""
    names = {name: name_text(name) for name in rows.columns}
    longest = max(len(name) for name in names.values())
    caption = f" {caption}" if (caption := _caption(style)) else ""
    number = pl.concat_str(pl.lit("-- record "), pl.int_range(first, first + rows.height).cast(pl.String))
    parts: list[pl.Expr | str] = [painted(number, pl.Null(), "", style.colour), paint(caption, "null", style.colour)]
    for name, text in _cells(rows, style).items():
        key = paint(names[name].ljust(longest), "key", style.colour)
        parts += [f"\n  {key}  ", painted(text, rows.schema[name], NULL, style.colour)]
    return _lines(rows, parts)


def _table(rows: pl.DataFrame, style: Style, first: int) -> str:
    """Columns as wide as their widest value, numbers to the right."""
    texts = rows.select(text.fill_null(NULL).alias(name) for name, text in _cells(rows, style).items())
    heads = {name: cut(name_text(name), style.width) for name in rows.columns}
    longest = texts.select(pl.all().str.len_chars().max()).row(0, named=True)
    widths = {name: max(len(heads[name]), longest[name]) for name in rows.columns}
    head: list[str] = []
    parts: list[pl.Expr | str] = []
    for name, dtype in rows.schema.items():
        width, right, last = widths[name], dtype.is_numeric(), name == rows.columns[-1]
        pad = str.rjust if right else str.ljust
        head.append(paint(heads[name] if last and not right else pad(heads[name], width), "key", style.colour))
        text = pl.col(name).str.pad_start(width) if right else pl.col(name).str.pad_end(0 if last else width)
        shown = pl.when(pl.lit(rows[name].is_not_null())).then(text)
        null = NULL if last and not right else pad(NULL, width)
        parts += [painted(shown, dtype, null, style.colour), "  "]
    rule = paint("  ".join("-" * width for width in widths.values()), "rule", style.colour)
    caption = f"{paint(about, 'null', style.colour)}\n" if (about := _caption(style)) else ""
    return f"{caption}{'  '.join(head)}\n{rule}\n{_lines(texts, parts[:-1])}"


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


_FORMATS: Mapping[Format, Callable[[pl.DataFrame, Style, int], str]] = {
    Format.PRETTYJSON: _prettyjson,
    Format.COMPACTJSON: _compactjson,
    Format.SIMPLE: _simple,
    Format.TABLE: _table,
    Format.STRUCTURED: _structured,
    Format.KEYVALUE: _keyvalue,
}
