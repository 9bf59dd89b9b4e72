"""One expression, from its text to what a `Program` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl
from sqlglot import exp

from dataflow.expressions import casts, syntax, types
from dataflow.expressions.compiler import Compiler
from dataflow.expressions.values import INT64, Check, Range, Ranges, Scope, Value

_WIDEST: Range = (-(2**127), 2**127 - 1)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute an expression, and the rows that cannot be computed that way."""

    expr: pl.Expr
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression that is ready to run over batches of one schema.

    `expr` and `checks` are the plain way to compute it and the rows that fail. Where its integers could overflow,
    `exact` is the way that finds those rows too: it is needed for a batch in which `risks`, given the ranges of
    `leaves`, leave the 64-bit range. `Program` puts these together."""

    expr: pl.Expr
    dtype: pl.DataType
    columns: frozenset[str]
    checks: tuple[Check, ...] = ()
    exact: Variant | None = None
    leaves: tuple[pl.Expr, ...] = ()
    risks: tuple[Callable[[Ranges], Range], ...] = ()

    def overflows(self, ranges: Ranges) -> bool:
        """Whether a batch whose leaves have these ranges may hold a row that does not fit into 64 bits."""
        return any(low < INT64[0] or high > INT64[1] for low, high in (risk(ranges) for risk in self.risks))


def compile(text: str, schema: pl.Schema, *, want: Literal["boolean"] | None = None) -> Compiled:
    """Parse `text`, check it against the columns of `schema` and compile it.

    With `want="boolean"` only a condition will do. Raises `InvalidSpec` with one problem: its path is empty, line and
    column count from 1 inside `text`, the hint names the nearest column or function where there is one."""
    tree = syntax.parse(text, schema)

    def value(scope: Scope) -> Value:
        compiler = Compiler(scope)
        return compiler.condition(tree, "a filter") if want else compiler.value(tree)

    scope = Scope(schema, text)
    plain = value(scope)
    expr = plain.expr
    if scope.typed(tree, expr) != plain.dtype:
        expr = expr.cast(plain.dtype)
    compiled = Compiled(expr, plain.dtype, frozenset(scope.used), plain.checks)
    widest = [INT64 if scope.typed(tree, leaf) == pl.Int64 else _WIDEST for leaf in scope.leaves]
    guarded = Compiled(
        expr,
        plain.dtype,
        compiled.columns,
        plain.checks,
        leaves=tuple(scope.leaves),
        risks=tuple(scope.risks),
    )
    if not guarded.overflows(widest):
        return compiled
    exact = value(Scope(schema, text, exact=True))
    variant = Variant(exact.expr.cast(plain.dtype), exact.checks)
    return Compiled(
        expr, plain.dtype, compiled.columns, plain.checks, exact=variant, leaves=guarded.leaves, risks=guarded.risks
    )


def compile_cast(column: str, target: str, schema: pl.Schema) -> Compiled:
    """`CAST(column AS target)` for a column that is there. Raises `InvalidSpec` as `compile` does."""
    dtype = types.named(target)
    scope = Scope(schema, target)
    node = exp.column(column, quoted=True)
    if dtype is None:
        hint = "known: " + ", ".join(types.NAMES)
        raise scope.fail(node, f"unknown type {target!r}", hint=hint, code="unknown_type")
    value = casts.cast(scope, node, Value(pl.col(column), schema[column]), dtype, lenient=False)
    return Compiled(value.expr, dtype, frozenset([column]), value.checks)
