"""Functions of numbers. Integers stay integers where the result is one."""

from __future__ import annotations

import polars as pl
from sqlglot import exp

from dataflow.expressions import arithmetic, types
from dataflow.expressions.functions.table import Call, function
from dataflow.expressions.values import Value, checks_of


@function("abs", "number")
def absolute(call: Call) -> Value | pl.Expr:
    if types.is_int(call.args[0].dtype):
        return arithmetic.absolute(call.scope, call.args[0])
    return call[0].abs()


@function("round", "number", "int?")
def rounded(call: Call) -> Value | pl.Expr:
    """Halves go away from zero, as in SQL."""
    places = call.whole(1, "the number of decimals of ROUND") if len(call) > 1 else 0
    if places < 0:
        raise call.fail("the number of decimals of ROUND is not negative", 1)
    if types.is_int(call.args[0].dtype):
        return call.args[0]
    return call[0].round(places, mode="half_away_from_zero")


@function("floor", "number")
def floor(call: Call) -> Value | pl.Expr:
    return call.args[0] if types.is_int(call.args[0].dtype) else call[0].floor()


@function("ceil ceiling", "number")
def ceil(call: Call) -> Value | pl.Expr:
    return call.args[0] if types.is_int(call.args[0].dtype) else call[0].ceil()


@function("trunc", "number")
def trunc(call: Call) -> Value | pl.Expr:
    return call.args[0] if types.is_int(call.args[0].dtype) else call[0].truncate()


@function("sign", "number")
def sign(call: Call) -> pl.Expr:
    return pl.when(call[0] > 0).then(1).when(call[0] < 0).then(-1).when(call[0] == 0).then(0).cast(pl.Int64)


@function("mod", "number", "number")
def modulo(call: Call) -> Value:
    left, right = call.node.expressions
    return arithmetic.binary(call.scope, exp.Mod(this=left, expression=right), *call.args)


@function("sqrt", "number")
def sqrt(call: Call) -> pl.Expr:
    return _float(call, 0).sqrt()


@function("power pow", "number", "number")
def power(call: Call) -> Value:
    return Value(_float(call, 0).pow(_float(call, 1)), pl.Float64(), checks_of(call.args))


@function("exp", "number")
def exponential(call: Call) -> pl.Expr:
    return _float(call, 0).exp()


@function("ln", "number")
def natural_logarithm(call: Call) -> pl.Expr:
    return _float(call, 0).log()


@function("log log10", "number")
def logarithm(call: Call) -> pl.Expr:
    return _float(call, 0).log10()


@function("isnan", "number")
def is_nan(call: Call) -> Value:
    return call.value(_float(call, 0).is_nan(), pl.Boolean())


def _float(call: Call, n: int) -> pl.Expr:
    return call[n].cast(pl.Float64)
