"""Functions of dates and timestamps. None of them reads a clock: the same record gives the same result for ever."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from dataflow.expressions import casts, types
from dataflow.expressions.functions.table import Call, function
from dataflow.expressions.values import Check, Value

PARTS: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda e: e.dt.year(),
    "quarter": lambda e: e.dt.quarter(),
    "month": lambda e: e.dt.month(),
    "week": lambda e: e.dt.week(),
    "day": lambda e: e.dt.day(),
    "dayofyear": lambda e: e.dt.ordinal_day(),
    "dayofweek": lambda e: e.dt.weekday() % 7,
    "isodow": lambda e: e.dt.weekday(),
    "hour": lambda e: e.dt.hour(),
    "minute": lambda e: e.dt.minute(),
    "second": lambda e: e.dt.second(),
    "millisecond": lambda e: e.dt.second().cast(pl.Int64) * 1000 + e.dt.millisecond(),
    "microsecond": lambda e: e.dt.second().cast(pl.Int64) * 1_000_000 + e.dt.microsecond(),
}
"""Of a date or timestamp, as integers. dayofweek: Sunday is 0; isodow: Monday is 1; week: ISO 8601."""

_ALSO = {"doy": "dayofyear", "dow": "dayofweek", "weekday": "dayofweek", "weekofyear": "week", "dayofmonth": "day"}
_TRUNCATED = {
    **{"year": "1y", "quarter": "1q", "month": "1mo", "week": "1w", "day": "1d"},
    **{"hour": "1h", "minute": "1m", "second": "1s", "millisecond": "1ms", "microsecond": "1us"},
}
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999 in microseconds since 1970."""


def part(call: Call, unit: str, n: int) -> Value:
    """One part of argument `n`, as BIGINT. Raises `InvalidSpec` for an unknown unit."""
    unit = _unit(unit)
    if unit not in PARTS:
        raise call.fail(f"unknown part {unit!r}", 0, hint="known: " + ", ".join(PARTS))
    expr = call[n].cast(pl.Datetime("us")) if isinstance(call.args[n].dtype, pl.Date) else call[n]
    return call.value(PARTS[unit](expr).cast(pl.Int64), pl.Int64())


def _part_function(name: str, *also: str) -> None:
    function(" ".join((name, *also)), "time")(lambda call: part(call, name, 0))


for _name in PARTS:
    _part_function(_name, *(alias for alias, meant in _ALSO.items() if meant == _name))


@function("date_part datepart", "text", "time")
def date_part(call: Call) -> Value:
    return part(call, call.constant(0, "the part of DATE_PART"), 1)


@function("date_trunc datetrunc", "text", "time")
def date_trunc(call: Call) -> pl.Expr:
    unit = _unit(call.constant(0, "the unit of DATE_TRUNC"))
    if unit not in _TRUNCATED:
        raise call.fail(f"unknown unit {unit!r}", 0, hint="known: " + ", ".join(_TRUNCATED))
    if isinstance(call.args[1].dtype, pl.Date) and _TRUNCATED[unit][1:] in ("h", "m", "s", "ms", "us"):
        return call[1]
    return call[1].dt.truncate(_TRUNCATED[unit])


@function("date_diff datediff", "text", "time", "time")
def date_diff(call: Call) -> Value:
    """How many boundaries of the unit lie between the two, the later second."""
    unit = _unit(call.constant(0, "the unit of DATE_DIFF"))
    a, b = (_moment(call, n) for n in (1, 2))
    if unit in ("year", "quarter", "month"):
        per_year = {"year": 1, "quarter": 4, "month": 12}[unit]

        def count(e: pl.Expr) -> pl.Expr:
            inside = {"year": pl.lit(0), "quarter": e.dt.quarter(), "month": e.dt.month()}[unit]
            return e.dt.year().cast(pl.Int64) * per_year + inside.cast(pl.Int64)

        return call.value(count(b) - count(a), pl.Int64())
    sizes = {"week": 7 * 86_400_000_000, "day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000}
    sizes |= {"second": 1_000_000, "millisecond": 1_000, "microsecond": 1}
    if unit not in sizes:
        raise call.fail(f"unknown unit {unit!r}", 0, hint="known: year, quarter, month, " + ", ".join(sizes))
    size = _TRUNCATED[unit]
    span = b.dt.truncate(size) - a.dt.truncate(size)
    return call.value(span.dt.total_microseconds() // sizes[unit], pl.Int64())


@function("strptime", "text", "text")
def strptime(call: Call) -> Value:
    parsed = _parsed(call)
    shape = call.constant(1, "a format")
    lost = call[0].is_not_null() & parsed.expr.is_null()
    told = casts.refusal(call.args[0], "does not read as " + shape.replace("{", "{{").replace("}", "}}"))
    return Value(parsed.expr, parsed.dtype, (*parsed.checks, Check(lost, "STRPTIME_FAILED", told)))


@function("try_strptime", "text", "text")
def try_strptime(call: Call) -> Value:
    return _parsed(call)


@function("strftime", "time", "text")
def strftime(call: Call) -> pl.Expr:
    return call[0].dt.strftime(_format(call))


@function("epoch", "time")
def epoch(call: Call) -> Value:
    """Seconds since 1970, with their fraction."""
    return call.value(_moment(call, 0).dt.timestamp("us") / 1_000_000, pl.Float64())


@function("epoch_us", "time")
def epoch_us(call: Call) -> Value:
    return call.value(_moment(call, 0).dt.timestamp("us"), pl.Int64())


@function("epoch_ms", "any")
def epoch_ms(call: Call) -> Value:
    """Milliseconds since 1970 of a timestamp; of an integer, the timestamp."""
    if types.is_int(call.args[0].dtype):
        return _from_epoch(call, call[0].cast(pl.Int128) * 1000, None)
    if not types.is_time(call.args[0].dtype):
        raise call.fail(f"EPOCH_MS needs a timestamp or an integer, this is {types.name(call.args[0].dtype)}", 0)
    return call.value(_moment(call, 0).dt.timestamp("ms"), pl.Int64())


@function("to_timestamp", "number")
def to_timestamp(call: Call) -> Value:
    """Seconds since 1970, as a timestamp in UTC."""
    return _from_epoch(call, (call[0].cast(pl.Float64) * 1_000_000).round(0), "UTC")


@function("to_date date", "any")
def to_date(call: Call) -> Value:
    """DATE(x) is CAST(x AS DATE)."""
    return casts.cast(call.scope, call.node, call.args[0], pl.Date(), lenient=False)


def _from_epoch(call: Call, micros: pl.Expr, zone: str | None) -> Value:
    """Microseconds since 1970 as a timestamp; outside the years 1 to 9999 the row fails (CAST_FAILED)."""
    fits = micros.is_between(_FIRST, _LAST)
    expr = pl.when(fits).then(micros).cast(pl.Int64, strict=False).cast(pl.Datetime("us"))
    lost = Check(call[0].is_not_null() & expr.is_null(), "CAST_FAILED", casts.refusal(call.args[0], "is no TIMESTAMP"))
    value = call.value(expr.dt.replace_time_zone(zone) if zone else expr)
    return Value(value.expr, value.dtype, (*value.checks, lost))


def _moment(call: Call, n: int) -> pl.Expr:
    return call[n].cast(pl.Datetime("us")) if isinstance(call.args[n].dtype, pl.Date) else call[n]


def _unit(name: str) -> str:
    lowered = name.lower()
    plain = lowered[:-1] if lowered.endswith("s") and lowered[:-1] in _TRUNCATED else lowered
    return _ALSO.get(plain, plain)


def _format(call: Call) -> str:
    shape = call.constant(1, "a format")
    try:
        pl.select(pl.lit("2024-01-31").str.to_datetime("%Y-%m-%d", time_zone="UTC").dt.strftime(shape))
    except pl.exceptions.PolarsError as error:
        raise call.fail(f"{shape!r} is no date format", 1, hint="such as '%Y-%m-%d %H:%M:%S'") from error
    if "%" not in shape:
        raise call.fail(f"{shape!r} is no date format", 1, hint="such as '%Y-%m-%d %H:%M:%S'")
    return shape


def _parsed(call: Call) -> Value:
    shape = _format(call)
    zone = "UTC" if any(mark in shape for mark in ("%z", "%:z", "%#z", "%+")) else None

    def read(text: pl.Expr, *, strict: bool) -> pl.Expr:
        return text.str.to_datetime(shape, time_unit="us", time_zone=zone, strict=strict)

    written = pl.lit("2024-01-31").str.to_datetime("%Y-%m-%d", time_zone="UTC").dt.strftime(shape)
    try:
        pl.select(read(written, strict=True))
    except pl.exceptions.PolarsError as error:
        hint = "it names a whole date, and minutes where it names hours"
        raise call.fail(f"no timestamp can be read with {shape!r}", 1, hint=hint) from error
    return call.value(read(call[0], strict=False))
