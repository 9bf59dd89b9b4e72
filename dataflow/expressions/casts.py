"""CAST and TRY_CAST: which are allowed, how each is computed, and how a value that does not fit is told.

Text is read strictly: `12` is an integer and `12x`, `1.5` and the empty text are not. Timestamps are ISO 8601, with
`T` or a space; an offset is taken into account. A fraction is rounded to the nearest integer, halves away from zero.
"""

from __future__ import annotations

import polars as pl
from sqlglot import exp

from dataflow.expressions import types
from dataflow.expressions.values import ABSENT, Check, Scope, Value

_BOOLEAN = {"true": True, "t": True, "yes": True, "y": True, "1": True}
_BOOLEAN |= {"false": False, "f": False, "no": False, "n": False, "0": False}
_MOMENTS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_ZONED = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")


def cast(scope: Scope, node: exp.Expr, value: Value, target: pl.DataType, *, lenient: bool) -> Value:
    """`value` as `target`. Where a value does not fit, `lenient` gives NULL; otherwise the row fails (CAST_FAILED).

    Raises `InvalidSpec` where no value of the one type could ever become the other."""
    if value.dtype == target:
        return Value(value.expr, target, value.checks)
    if types.is_null(value.dtype):
        return Value(pl.lit(None, dtype=target), target, value.checks)
    patient = scope.exact or lenient
    expr = _convert(value.expr, value.dtype, target, patient=patient)
    if expr is None:
        hint = _hint(value.dtype, target)
        message = f"{types.name(value.dtype)} cannot be cast to {types.name(target)}"
        raise scope.fail(node, message, hint=hint, code="wrong_type")
    checks = value.checks
    scope.hurried = scope.hurried or (types.is_text(value.dtype) and not patient)
    if not lenient and not _always_fits(value.dtype, target):
        lost = value.expr.is_not_null() & expr.is_null()
        checks += (Check(lost, "CAST_FAILED", refusal(value, f"is not a {types.name(target)}")),)
    result = scope.value(node, expr)
    return Value(expr, result.dtype, checks)


def coerced(scope: Scope, node: exp.Expr, value: Value, target: pl.DataType) -> Value:
    """A text literal beside a date or time, read as one: `ts > '2024-01-01'`."""
    shown = str(value.constant)
    converted = _convert(pl.lit(shown), pl.String(), target, patient=True)
    if converted is None or pl.select(converted).item() is None:
        example = "2024-01-31" if isinstance(target, pl.Date) else "2024-01-31 12:00:00"
        raise scope.fail(
            node, f"'{shown}' is not a {types.name(target)}", hint=f"such as '{example}'", code="wrong_type"
        )
    return Value(pl.lit(pl.select(converted).item(), dtype=target), target)


def is_text_literal(value: Value) -> bool:
    return value.constant is not ABSENT and isinstance(value.constant, str)


def refusal(value: Value, reason: str) -> pl.Expr:
    """The message for a row whose `value` is refused: the value itself, cut to a readable length, and why."""
    shown = value.expr if types.is_text(value.dtype) else value.expr.cast(pl.String, strict=False)
    quote = "'" if types.is_text(value.dtype) else ""
    return pl.format(f"{quote}{{}}{quote} {reason}", shown.str.head(80))


def _always_fits(source: pl.DataType, target: pl.DataType) -> bool:
    if isinstance(target, pl.String):
        return True
    if isinstance(target, pl.Float64):
        return types.is_number(source) or isinstance(source, pl.Boolean)
    return types.is_time(source) and types.is_time(target)


def _convert(expr: pl.Expr, source: pl.DataType, target: pl.DataType, *, patient: bool) -> pl.Expr | None:
    """The conversion, NULL where a value does not fit; None where there is none between these types.

    Unless `patient`, text is read without looking for blanks around it and rarer forms of timestamps: several times
    faster, and NULL for some texts that do fit. `Program` runs a batch again patiently where that happens."""
    if types.is_text(source):
        return _from_text(expr, target, patient=patient)
    if isinstance(target, pl.String):
        return _to_text(expr, source)
    if isinstance(target, pl.Boolean):
        return expr != 0 if types.is_number(source) else None
    if types.is_number(target) and (types.is_number(source) or isinstance(source, pl.Boolean)):
        if source.is_float() and types.is_int(target):
            expr = expr.round(0, mode="half_away_from_zero")
        return expr.cast(target, strict=False)
    if types.is_time(source) and types.is_time(target):
        return _moved(expr, source, target)
    if isinstance(source, pl.Datetime) and isinstance(target, pl.Time):
        return expr.dt.time()
    return None


def _from_text(expr: pl.Expr, target: pl.DataType, *, patient: bool) -> pl.Expr | None:
    trimmed = expr.str.strip_chars() if patient else expr
    if isinstance(target, pl.Boolean):
        return trimmed.str.to_lowercase().replace_strict(_BOOLEAN, default=None, return_dtype=pl.Boolean)
    if types.is_number(target):
        return trimmed.cast(target, strict=False)
    if isinstance(target, pl.Date):
        return trimmed.str.to_date("%Y-%m-%d", strict=False)
    if isinstance(target, pl.Time):
        return trimmed.str.to_time("%H:%M:%S%.f", strict=False)
    if isinstance(target, pl.Datetime):
        return _moment(trimmed, target, patient=patient)
    return expr.cast(pl.Binary) if isinstance(target, pl.Binary) else None


def _moment(text: pl.Expr, target: pl.Datetime, *, patient: bool) -> pl.Expr:
    """ISO 8601 text as a timestamp. The formats are tried row by row: a batch's first row decides nothing."""
    unit = target.time_unit or "us"
    plain, with_zone = (_MOMENTS, _ZONED) if patient else (_MOMENTS[:2], _ZONED[:1])
    naive = pl.coalesce(text.str.to_datetime(shape, time_unit=unit, strict=False) for shape in plain)
    zoned = pl.coalesce(text.str.to_datetime(shape, time_unit=unit, strict=False) for shape in with_zone)
    if target.time_zone is None:
        return pl.coalesce(naive, zoned.dt.replace_time_zone(None))
    home = naive.dt.replace_time_zone(target.time_zone, ambiguous="earliest", non_existent="null")
    return pl.coalesce(zoned.dt.convert_time_zone(target.time_zone), home)


def _moved(expr: pl.Expr, source: pl.DataType, target: pl.DataType) -> pl.Expr:
    """Between dates, timestamps and zoned timestamps. A timestamp without a zone is taken to be UTC."""
    if isinstance(target, pl.Date):
        return expr.dt.date() if isinstance(source, pl.Datetime) else expr
    if not isinstance(target, pl.Datetime):
        return expr
    if isinstance(source, pl.Datetime) and source.time_zone:
        zone = target.time_zone or "UTC"
        moved = expr.dt.convert_time_zone(zone)
        return (moved if target.time_zone else moved.dt.replace_time_zone(None)).dt.cast_time_unit(target.time_unit)
    plain = expr.cast(pl.Datetime(target.time_unit))
    if not target.time_zone:
        return plain
    return plain.dt.replace_time_zone("UTC").dt.convert_time_zone(target.time_zone)


def _to_text(expr: pl.Expr, source: pl.DataType) -> pl.Expr | None:
    if isinstance(source, pl.Datetime):
        return expr.dt.strftime("%Y-%m-%d %H:%M:%S%.f" + ("%:z" if source.time_zone else ""))
    if isinstance(source, pl.Struct):
        return pl.when(expr.is_not_null()).then(expr.struct.json_encode())
    if isinstance(source, pl.List | pl.Array | pl.Duration):
        return None
    return expr.cast(pl.String, strict=False)


def _hint(source: pl.DataType, target: pl.DataType) -> str:
    if types.is_int(source) and types.is_time(target):
        return "EPOCH_MS(x) reads milliseconds since 1970, TO_TIMESTAMP(x) seconds"
    if isinstance(source, pl.List | pl.Array):
        return "ARRAY_TO_STRING(x, ',') joins a list"
    if isinstance(source, pl.Struct):
        return "name one of its fields: " + ", ".join(field.name for field in source.fields)
    return ""
