"""+ - * / // % and the minus sign.

Integers are computed in 64 bits and never wrap: a row whose result does not fit is an error (OVERFLOW). Finding such
rows costs ten times the sum itself, so it is done only for batches in which it can happen: interval arithmetic
over the least and greatest value of each operand says whether it can. Division by zero gives NULL.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
from sqlglot import exp

from dataflow.expressions import types
from dataflow.expressions.values import ABSENT, INT64, Check, Range, Ranges, Scope, Value, checks_of

_SYMBOL: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.IntDiv: "//",
    exp.Mod: "%",
}
_WIDTH: dict[type[pl.DataType], int] = {
    pl.Int8: 7,
    pl.Int16: 15,
    pl.Int32: 31,
    pl.UInt8: 8,
    pl.UInt16: 16,
    pl.UInt32: 32,
}


def binary(scope: Scope, node: exp.Expr, left: Value, right: Value) -> Value:
    """A binary operator on two values whose types have not been checked yet."""
    symbol = _SYMBOL[type(node)]
    if types.is_null(left.dtype) and types.is_null(right.dtype):
        return Value(pl.lit(None), pl.Null(), checks_of((left, right)))
    if types.is_time(left.dtype) or types.is_time(right.dtype) or isinstance(left.dtype, pl.Duration):
        return _time(scope, node, symbol, left, right)
    for side, operand in ((node.this, left), (node.expression, right)):
        if not types.is_number(operand.dtype) and not types.is_null(operand.dtype):
            kind = types.name(operand.dtype)
            hint = "CAST(... AS DOUBLE) makes a number of it; CONCAT joins text" if types.is_text(operand.dtype) else ""
            raise scope.fail(side, f"{symbol} needs numbers, this is {kind}", hint=hint, code="wrong_type")
    if symbol == "/":
        top, bottom = left.expr.cast(pl.Float64), right.expr.cast(pl.Float64)
        if isinstance(right.constant, int | float) and right.constant:
            return Value(top / bottom, pl.Float64(), checks_of((left, right)))
        return Value(pl.when(bottom != 0).then(top / bottom), pl.Float64(), checks_of((left, right)))
    whole = all(types.is_int(v.dtype) or types.is_null(v.dtype) for v in (left, right))
    if whole:
        return integer(scope, symbol, left, right)
    if symbol == "//":
        raise scope.fail(node, "// divides integers", hint="FLOOR(a / b) does what you mean", code="wrong_type")
    if symbol == "%":
        remainder = left.expr.sign() * (left.expr.abs() % right.expr.abs())
        expr = pl.when(right.expr != 0).then(remainder)
        return scope.value(node, expr, (left, right))
    plain = {"+": left.expr + right.expr, "-": left.expr - right.expr, "*": left.expr * right.expr}
    return scope.value(node, plain[symbol], (left, right))


def negated(scope: Scope, node: exp.Expr, value: Value) -> Value:
    """The minus sign."""
    if isinstance(value.constant, int | float) and not isinstance(value.constant, bool):
        return literal(-value.constant)
    if types.is_int(value.dtype):
        return integer(scope, "-", literal(0), value)
    if not types.is_number(value.dtype) and not types.is_null(value.dtype):
        raise scope.fail(node, f"- needs a number, this is {types.name(value.dtype)}", code="wrong_type")
    return Value(-value.expr, value.dtype, value.checks)


def absolute(scope: Scope, value: Value) -> Value:
    """ABS of an integer, which overflows for the least one."""
    return integer(scope, "abs", value, literal(0))


def literal(number: int | float) -> Value:
    dtype = pl.Int64() if isinstance(number, int) else pl.Float64()
    return Value(pl.lit(number, dtype=dtype), dtype, constant=number)


def integer(scope: Scope, symbol: str, left: Value, right: Value) -> Value:
    """Integer arithmetic in 64 bits. In an exact scope it is done in 128 bits, and rows that do not fit are errors."""
    low, high = _bounds(scope, left), _bounds(scope, right)

    def bounds(ranges: Ranges) -> Range:
        return _interval(symbol, low(ranges), high(ranges))

    scope.risks.append(bounds)
    wide = pl.Int128 if scope.exact else pl.Int64
    a, b = (v.expr if v.dtype == wide else v.expr.cast(wide, strict=False) for v in (left, right))
    result = _compute(symbol, a, b)
    checks = checks_of((left, right))
    if scope.exact:
        narrow = result.cast(pl.Int64, strict=False)
        shown = ("abs({})",) if symbol == "abs" else ("{} " + symbol + " {}",)
        operands = (a,) if symbol == "abs" else (a, b)
        text = pl.format(shown[0] + " does not fit into 64 bits", *operands)
        checks += (Check(result.is_not_null() & narrow.is_null(), "OVERFLOW", text),)
        result = narrow
    return Value(result, pl.Int64(), checks, bounds=lambda ranges: _clipped(bounds(ranges)))


def _compute(symbol: str, a: pl.Expr, b: pl.Expr) -> pl.Expr:
    match symbol:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "abs":
            return a.abs()
    # Polars rounds quotients down; SQL (and DuckDB) rounds towards zero, and the remainder has the dividend's sign.
    # Zero gives NULL in Polars already.
    if symbol == "%":
        return a.sign() * (a.abs() % b.abs())
    return a.sign() * b.sign() * (a.abs() // b.abs())


def _bounds(scope: Scope, value: Value) -> Callable[[Ranges], Range]:
    if value.bounds is not None:
        return value.bounds
    if value.constant is not ABSENT and isinstance(value.constant, int):
        fixed = value.constant
        return lambda ranges: (fixed, fixed)
    if types.is_null(value.dtype):
        return lambda ranges: (0, 0)
    if width := _WIDTH.get(type(value.dtype)):
        least = 0 if value.dtype.is_unsigned_integer() else -(2**width)
        return lambda ranges: (least, 2**width - 1)
    measured = scope.measured(value.expr)
    scope.risks.append(measured)  # UBIGINT and wider may not fit to begin with
    return measured


def _interval(symbol: str, left: Range, right: Range) -> Range:
    match symbol:
        case "+":
            return left[0] + right[0], left[1] + right[1]
        case "-":
            return left[0] - right[1], left[1] - right[0]
        case "*":
            corners = [a * b for a in left for b in right]
            return min(corners), max(corners)
    largest = max(abs(left[0]), abs(left[1]))
    return -largest, largest


def _clipped(found: Range) -> Range:
    """What is left of a result once rows that do not fit are errors."""
    return max(found[0], INT64[0]), min(found[1], INT64[1])


def _time(scope: Scope, node: exp.Expr, symbol: str, left: Value, right: Value) -> Value:
    parts = (left, right)
    if types.is_null(left.dtype) or types.is_null(right.dtype):
        return scope.value(node, left.expr + right.expr, parts)
    spans = (isinstance(left.dtype, pl.Duration), isinstance(right.dtype, pl.Duration))
    if symbol == "-" and types.is_time(left.dtype) and types.is_time(right.dtype):
        if isinstance(left.dtype, pl.Date) and isinstance(right.dtype, pl.Date):
            return Value((left.expr - right.expr).dt.total_days(), pl.Int64(), checks_of(parts))
        return scope.value(node, left.expr - right.expr, parts)
    if symbol in "+-" and any(spans):
        return scope.value(node, left.expr + right.expr if symbol == "+" else left.expr - right.expr, parts)
    both = f"{types.name(left.dtype)} {symbol} {types.name(right.dtype)}"
    raise scope.fail(node, f"{both} has no meaning", hint="write INTERVAL '1 day' for a span", code="wrong_type")
