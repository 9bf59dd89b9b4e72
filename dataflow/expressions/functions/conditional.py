"""Functions that choose between values: evaluated lazily, so that only the chosen argument can fail."""

from __future__ import annotations

import polars as pl

from dataflow.expressions import logic, types
from dataflow.expressions.functions.table import Call, function
from dataflow.expressions.values import Value, checks_of


@function("coalesce ifnull nvl", "any", "any*")
def coalesce(call: Call) -> Value:
    values, dtype = logic.unified(call.scope, call.node, call.args, "COALESCE")
    checks = list(values[0].checks)
    missing = values[0].expr.is_null()
    for value in values[1:]:
        checks += value.only(missing)
        missing = missing & value.expr.is_null()
    return Value(pl.coalesce(value.expr for value in values), dtype, tuple(checks))


@function("if iff", "bool", "any", "any?")
def choose(call: Call) -> Value:
    otherwise = call.args[2] if len(call) > 2 else Value(pl.lit(None), pl.Null())
    (then, other), dtype = logic.unified(call.scope, call.node, [call.args[1], otherwise], "IF")
    return logic.case([(call[0], call.args[0].checks, then)], other, dtype)


@function("nullif", "any", "any")
def nullif(call: Call) -> Value:
    a, b = call.args
    first, second = call.node.expressions
    left, right = logic.comparable(call.scope, (first, a), (second, b), "=")
    same = logic.compared("=", left, right)
    return Value(pl.when(same.fill_null(False)).then(None).otherwise(a.expr), a.dtype, checks_of((a, right)))


@function("exists has", "any")
def exists(call: Call) -> Value:
    return call.value(call[0].is_not_null(), pl.Boolean())


@function("greatest", "any", "any*")
def greatest(call: Call) -> Value:
    values, dtype = _ordered(call, "GREATEST")
    return Value(pl.max_horizontal(value.expr for value in values), dtype, checks_of(values))


@function("least", "any", "any*")
def least(call: Call) -> Value:
    values, dtype = _ordered(call, "LEAST")
    return Value(pl.min_horizontal(value.expr for value in values), dtype, checks_of(values))


def _ordered(call: Call, name: str) -> tuple[list[Value], pl.DataType]:
    values, dtype = logic.unified(call.scope, call.node, call.args, name)
    if isinstance(dtype, pl.List | pl.Struct | pl.Array):
        raise call.fail(f"{name} needs values that have an order, these are {types.name(dtype)}")
    return values, dtype
