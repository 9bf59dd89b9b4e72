"""Comparisons, AND, OR, NOT, IN, BETWEEN, LIKE, IS, CASE: SQL's three-valued logic.

Polars' `&` and `|` are three-valued already. What is added here is types that must fit, and which rows a failing cast
counts for: the right side of AND and OR, and a branch of CASE, is evaluated only for the rows that get there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl
from sqlglot import exp

from dataflow.expressions import casts, types
from dataflow.expressions.values import Check, Scope, Value, checks_of

_SYMBOL: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.LT: "<",
    exp.LTE: "<=",
}
_NULL = pl.lit(None, dtype=pl.Boolean)


def comparison(scope: Scope, node: exp.Expr, left: Value, right: Value) -> Value:
    """One of the six comparisons."""
    symbol = _SYMBOL[type(node)]
    left, right = comparable(scope, (node.this, left), (node.expression, right), symbol)
    return Value(compared(symbol, left, right), pl.Boolean(), checks_of((left, right)))


def compared(symbol: str, left: Value, right: Value) -> pl.Expr:
    """The comparison of two values that have passed `comparable`."""
    if types.is_null(left.dtype) or types.is_null(right.dtype):
        return _NULL
    a, b = left.expr, right.expr
    return {"=": a == b, "<>": a != b, ">": a > b, ">=": a >= b, "<": a < b, "<=": a <= b}[symbol]


def comparable(
    scope: Scope, left: tuple[exp.Expr, Value], right: tuple[exp.Expr, Value], symbol: str
) -> tuple[Value, Value]:
    """Both sides in types that compare; a text literal beside a date becomes a date. Raises `InvalidSpec`."""
    (at_left, a), (at_right, b) = left, right
    if types.is_time(a.dtype) and casts.is_text_literal(b):
        b = casts.coerced(scope, at_right, b, _moment(a.dtype, b))
    elif types.is_time(b.dtype) and casts.is_text_literal(a):
        a = casts.coerced(scope, at_left, a, _moment(b.dtype, a))
    both = types.common([a.dtype, b.dtype])
    ordered = symbol not in ("=", "<>")
    if both is None or (ordered and isinstance(both, pl.List | pl.Struct | pl.Array)):
        message = f"{types.name(a.dtype)} {symbol} {types.name(b.dtype)} cannot be compared"
        raise scope.fail(at_left, message, hint=_hint(a, b), code="wrong_type")
    if types.is_time(both):
        a, b = (v if v.dtype == both else casts.cast(scope, at_left, v, both, lenient=True) for v in (a, b))
    return a, b


def connected(left: Value, right: Value, *, both: bool) -> Value:
    """`left AND right` or `left OR right`; errors of the right side count where the left side has not decided."""
    decided = left.expr.eq_missing(pl.lit(not both))
    checks = (*left.checks, *right.only(~decided)) if right.checks else left.checks
    return Value(left.expr & right.expr if both else left.expr | right.expr, pl.Boolean(), checks)


def balanced(values: Sequence[Value], *, both: bool) -> Value:
    """A chain of ANDs or ORs as a tree of little depth, so that a thousand terms do not recurse a thousand deep."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return connected(balanced(values[:half], both=both), balanced(values[half:], both=both), both=both)


def one_of(scope: Scope, node: exp.In, value: Value, choices: Sequence[tuple[exp.Expr, Value]]) -> Value:
    """`value IN (choices)`: NULL where nothing matches and something is NULL."""
    pairs = [comparable(scope, (node.this, value), choice, "=") for choice in choices]
    parts = [value, *(choice for _, choice in pairs)]
    known = [choice for _, choice in pairs if not types.is_null(choice.dtype)]
    first = next((own for own, choice in pairs if not types.is_null(choice.dtype)), value)
    plain = all(isinstance(choice.constant, str | int) and choice.dtype == value.dtype for choice in known)
    if plain and known:
        found = first.expr.is_in(pl.lit(pl.Series([choice.constant for choice in known], dtype=value.dtype)).implode())
    else:
        found = pl.any_horizontal(compared("=", own, choice) for own, choice in pairs)
    if any(types.is_null(choice.dtype) for _, choice in pairs):
        found = found | _NULL
    return Value(found, pl.Boolean(), checks_of(parts))


def like(scope: Scope, node: exp.Like | exp.ILike, value: Value, pattern: Value, escape: str = "") -> Value:
    """LIKE with `%` and `_`; the pattern is a literal, and becomes a plain text test where it can."""
    for at, part in ((node.this, value), (node.expression, pattern)):
        if not types.is_text(part.dtype) and not types.is_null(part.dtype):
            raise scope.fail(at, f"LIKE needs text, this is {types.name(part.dtype)}", code="wrong_type")
    if types.is_null(pattern.dtype) or types.is_null(value.dtype):
        return Value(_NULL, pl.Boolean(), value.checks)
    if not isinstance(pattern.constant, str):
        raise scope.fail(node.expression, "the pattern of LIKE is written out", hint="CONTAINS(a, b) compares columns")
    fold = isinstance(node, exp.ILike)
    expr = _matched(value.expr, _wildcards(pattern.constant, escape), fold=fold)
    return Value(~expr if node.args.get("negate") else expr, pl.Boolean(), value.checks)


def case(branches: Sequence[tuple[pl.Expr, tuple[Check, ...], Value]], default: Value, dtype: pl.DataType) -> Value:
    """CASE over conditions that are ready: the first that is TRUE gives the value. Values have `dtype` already."""
    checks: list[Check] = []
    open_rows: pl.Expr = pl.lit(True)
    expr = default.expr
    for condition, own, value in branches:
        taken = condition.fill_null(False)
        checks += [check.only(open_rows) for check in own]
        checks += value.only(open_rows & taken)
        open_rows = open_rows & ~taken
    for condition, _, value in reversed(branches):
        expr = pl.when(condition).then(value.expr).otherwise(expr)
    return Value(expr, dtype, (*checks, *default.only(open_rows)))


def unified(scope: Scope, node: exp.Expr, values: Sequence[Value], what: str) -> tuple[list[Value], pl.DataType]:
    """All values in their common type. Raises `InvalidSpec` where they have none."""
    dtype = types.common([value.dtype for value in values])
    temporal = [value.dtype for value in values if types.is_time(value.dtype)]
    if dtype is None and temporal:
        target = types.common(temporal)
        if target is not None and all(types.is_time(v.dtype) or casts.is_text_literal(v) for v in values):
            values = [casts.coerced(scope, node, v, target) if casts.is_text_literal(v) else v for v in values]
            dtype = target
    if dtype is None:
        kinds = " and ".join(dict.fromkeys(types.name(value.dtype) for value in values))
        raise scope.fail(node, f"{what} needs values of one type, these are {kinds}", code="wrong_type")
    return [casts.cast(scope, node, value, dtype, lenient=True) for value in values], dtype


def _matched(expr: pl.Expr, parts: list[str | bool | None], *, fold: bool) -> pl.Expr:
    """`parts`: literal text, None for `_`, True for `%`."""
    words = [part for part in parts if isinstance(part, str)]
    if not fold and None not in parts and len(words) <= 1:
        word = words[0] if words else ""
        open_start, open_end = bool(parts) and parts[0] is True, bool(parts) and parts[-1] is True
        if open_start and open_end:
            return expr.str.contains(word, literal=True)
        if open_end:
            return expr.str.starts_with(word)
        return expr.str.ends_with(word) if open_start else expr == word
    shape = "".join(re.escape(p) if isinstance(p, str) else "." if p is None else ".*" for p in parts)
    return expr.str.contains(f"^(?s{'i' if fold else ''}:{shape})$")


def _wildcards(pattern: str, escape: str) -> list[str | bool | None]:
    parts: list[str | bool | None] = []
    characters = iter(pattern)
    for character in characters:
        if character == escape and escape:
            character = next(characters, "")
        elif character in "%_":
            parts.append(character == "%" or None)
            continue
        if parts and isinstance(parts[-1], str):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _moment(dtype: pl.DataType, literal: Value) -> pl.DataType:
    """What a text literal beside a date means: a date, or a timestamp where it is longer than a date."""
    if isinstance(dtype, pl.Date) and len(str(literal.constant).strip()) > len("2024-01-31"):
        return pl.Datetime("us")
    return dtype


def _hint(a: Value, b: Value) -> str:
    texts, others = [v for v in (a, b) if types.is_text(v.dtype)], [v for v in (a, b) if not types.is_text(v.dtype)]
    if texts and others and types.is_number(others[0].dtype):
        if casts.is_text_literal(texts[0]) and not casts.is_text_literal(others[0]):
            shown = str(texts[0].constant)
            return (
                f"write {shown} without quotes" if shown.replace(".", "", 1).isdigit() else "compare it with a number"
            )
        return "CAST(... AS DOUBLE) makes a number of text"
    if types.is_time(a.dtype) and types.is_time(b.dtype):
        return "one has a time zone and the other has none: CAST(... AS TIMESTAMPTZ)"
    if isinstance(a.dtype, pl.Boolean) or isinstance(b.dtype, pl.Boolean):
        return "TRUE and FALSE are written without quotes"
    return ""
