"""One expression, from its text to what a `Program` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl
from sqlglot import exp

from dataflow.expressions import casts, syntax, types
from dataflow.expressions.compiler import Compiler
from dataflow.expressions.values import INT64, Check, Range, Ranges, Scope, Value, nearest

_WIDEST: Range = (-(2**127), 2**127 - 1)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute an expression, and the rows that cannot be computed that way."""

    expr: pl.Expr
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression that is ready to run over batches of one schema.

    `expr` and `checks` are the fast way to compute it and the rows that fail. `exact` is the slow one, where they can
    differ: it is needed for a batch in which `risks`, given the ranges of `leaves`, leave the 64-bit range, and for one
    that has failing rows. `repeats`: operands stand in `expr` more than once. `Program` puts these together."""

    expr: pl.Expr
    dtype: pl.DataType
    columns: frozenset[str]
    checks: tuple[Check, ...] = ()
    exact: Variant | None = None
    leaves: tuple[pl.Expr, ...] = ()
    risks: tuple[Callable[[Ranges], Range], ...] = ()
    repeats: bool = False

    @property
    def fallible(self) -> bool:
        """Whether there are rows for which it cannot be computed."""
        return bool(self.checks or self.exact)

    def overflows(self, ranges: Ranges) -> bool:
        """Whether a batch whose leaves have these ranges may hold a row that does not fit into 64 bits."""
        return any(low < INT64[0] or high > INT64[1] for low, high in (risk(ranges) for risk in self.risks))


def compile(text: str, schema: pl.Schema, *, want: Literal["boolean"] | None = None, cast: str = "") -> Compiled:
    """Parse `text`, check it against the columns of `schema` and compile it.

    With `want="boolean"` only a condition will do; `cast` names a type the result is cast to. Raises `InvalidSpec` with
    one problem: its path is empty, line and column count from 1 inside `text`, the hint names the nearest column or
    function where there is one."""
    tree = syntax.parse(text, schema)

    def value(scope: Scope) -> Value:
        compiler = Compiler(scope)
        found = compiler.condition(tree, "a filter") if want else compiler.value(tree)
        return _cast(scope, tree, found, cast) if cast else found

    scope = Scope(schema, text)
    plain = value(scope)
    expr = plain.expr if scope.typed(tree, plain.expr) == plain.dtype else plain.expr.cast(plain.dtype)
    repeats = len(expr.meta.root_names()) > len(list(tree.find_all(exp.Column)))
    compiled = Compiled(expr, plain.dtype, frozenset(scope.used), plain.checks, repeats=repeats)
    guarded = replace(compiled, leaves=tuple(scope.leaves), risks=tuple(scope.risks))
    widest = [INT64 if scope.typed(tree, leaf) == pl.Int64 else _WIDEST for leaf in scope.leaves]
    if not guarded.overflows(widest):  # whatever the numbers are, their types leave no room for an overflow
        if not scope.hurried:
            return compiled
        guarded = compiled
    exact = value(Scope(schema, text, exact=True))
    return replace(guarded, exact=Variant(exact.expr.cast(plain.dtype), exact.checks))


def column(name: str, schema: pl.Schema, *, cast: str = "") -> Compiled:
    """A column as it is, or cast to a type. Raises `InvalidSpec` as `compile` does."""
    return compile('"' + name.replace('"', '""') + '"', schema, cast=cast)


def _cast(scope: Scope, tree: exp.Expr, value: Value, target: str) -> Value:
    dtype = types.named(target)
    if dtype is None:
        hint = nearest(target, types.NAMES) or "known: " + ", ".join(types.NAMES)
        raise scope.fail(tree, f"unknown type {target!r}", hint=hint, code="unknown_type")
    return casts.cast(scope, tree, value, dtype, lenient=False)
