"""What a node of an expression compiles to, and the scope it is compiled in."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import polars as pl
from sqlglot import exp

from dataflow.errors import InvalidSpec
from dataflow.expressions import syntax

Range = tuple[int, int]
Ranges = Sequence[Range]
"""Least and greatest value of every measured leaf in one batch, in the order of `Scope.leaves`."""

INT64: Range = (-(2**63), 2**63 - 1)
ABSENT = object()


@dataclass(frozen=True, slots=True)
class Check:
    """Rows for which `mask` is true cannot be evaluated. `message` gives the text for people, row by row."""

    mask: pl.Expr
    code: str
    message: pl.Expr

    def only(self, where: pl.Expr) -> Check:
        """The same check, for rows whose evaluation gets this far."""
        return replace(self, mask=self.mask & where)


@dataclass(frozen=True, slots=True)
class Value:
    """One typed node. `constant` is its Python value where it is a literal; `bounds` its range where it is integer
    arithmetic; `checks` say which rows cannot have it."""

    expr: pl.Expr
    dtype: pl.DataType
    checks: tuple[Check, ...] = ()
    constant: object = ABSENT
    bounds: Callable[[Ranges], Range] | None = None

    def only(self, where: pl.Expr) -> tuple[Check, ...]:
        return tuple(check.only(where) for check in self.checks)


@dataclass(slots=True)
class Scope:
    """The columns an expression may use, its text for messages, and what is gathered while it is compiled.

    `exact`: integer arithmetic is to find the rows that overflow, and text is read with patience. Without it, `leaves`
    and `risks` tell from the range of a batch's numbers whether it has to be run exactly, and `hurried` that a row
    found bad may be good after all."""

    schema: pl.Schema
    text: str
    exact: bool = False
    hurried: bool = False
    used: set[str] = field(default_factory=set)
    leaves: list[pl.Expr] = field(default_factory=list)
    risks: list[Callable[[Ranges], Range]] = field(default_factory=list)
    _empty: pl.LazyFrame | None = None

    def fail(self, node: exp.Expr, message: str, *, hint: str = "", code: str = "invalid_expression") -> InvalidSpec:
        return syntax.problem(self.text, message, syntax.offset(node), hint=hint, code=code)

    def typed(self, node: exp.Expr, expr: pl.Expr) -> pl.DataType:
        """The type Polars gives `expr`. Raises `InvalidSpec` at `node` where it gives none."""
        if self._empty is None:
            self._empty = pl.LazyFrame(schema=self.schema)
        try:
            return self._empty.select(expr.alias("_")).collect_schema()["_"]
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n")[0]
            raise self.fail(node, f"cannot be computed: {reason}", code="wrong_type") from error

    def value(self, node: exp.Expr, expr: pl.Expr, parts: Iterable[Value] = ()) -> Value:
        """A node's value with its type as Polars says, and the checks of its parts."""
        return Value(expr, self.typed(node, expr), checks_of(parts))

    def measured(self, expr: pl.Expr) -> Callable[[Ranges], Range]:
        """The range of `expr` in a batch, as one of the leaves to be measured."""
        at = next((n for n, leaf in enumerate(self.leaves) if leaf.meta.eq(expr)), len(self.leaves))
        if at == len(self.leaves):
            self.leaves.append(expr)
        return lambda ranges: ranges[at]


def checks_of(parts: Iterable[Value]) -> tuple[Check, ...]:
    return tuple(check for part in parts for check in part.checks)


def nearest(name: str, names: Iterable[str]) -> str:
    """`did you mean 'x'?`, or nothing."""
    by_case = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), list(by_case), n=1, cutoff=0.65)
    return f"did you mean {by_case[near[0]]!r}?" if near else ""
