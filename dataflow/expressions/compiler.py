"""sqlglot tree -> typed Polars expression, node by node. What is not listed here is not in the language."""

from __future__ import annotations

from functools import singledispatchmethod

import polars as pl
from sqlglot import exp

from dataflow.expressions import arithmetic, casts, logic, types
from dataflow.expressions.functions import TABLE, Call, time
from dataflow.expressions.values import INT64, Scope, Value, checks_of, nearest

_AGGREGATES = frozenset(
    ("count", "sum", "avg", "min", "max", "median", "stddev", "first", "last", "array_agg", "list", "string_agg")
)
_UNSTEADY = frozenset(
    ("now", "current_date", "current_timestamp", "current_time", "today", "random", "rand", "uuid", "gen_random_uuid")
)
_COMPARED = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_REFUSED: dict[type[exp.Expr], str] = {
    exp.Query: "a subquery",
    exp.Window: "a window function",
    exp.Star: "* (all columns)",
    exp.Tuple: "a list of values outside IN",
    exp.Alias: "a second name (AS)",
}
_SPANS = {"microsecond": "us", "millisecond": "ms", "second": "s", "minute": "m", "hour": "h"}
_SPANS |= {"day": "d", "week": "w", "month": "mo", "year": "y"}


class Compiler:
    """Compiles one tree in one scope. Raises `InvalidSpec` at the first node that does not fit."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def condition(self, node: exp.Expr, what: str) -> Value:
        """A value that is TRUE, FALSE or NULL."""
        value = self.value(node)
        if types.is_null(value.dtype):
            return Value(pl.lit(None, dtype=pl.Boolean), pl.Boolean(), value.checks)
        if not isinstance(value.dtype, pl.Boolean):
            kind = types.name(value.dtype)
            hint = "compare it with something, such as = or >" if types.is_number(value.dtype) else ""
            if what == "OR" and types.is_text(value.dtype):
                hint = "|| is OR here: CONCAT(a, b) joins text"
            raise self._scope.fail(node, f"{what} needs a condition, this is {kind}", hint=hint, code="wrong_type")
        return value

    @singledispatchmethod
    def value(self, node: exp.Expr) -> Value:
        """The typed value of any node."""
        known = next((name for kind, name in _REFUSED.items() if isinstance(node, kind)), None)
        message = f"{known} is not allowed here" if known else f"{node.key.upper()} is not part of the language"
        hint = "POWER(a, b) raises to a power" if isinstance(node, exp.BitwiseXor) else ""
        raise self._scope.fail(node, message, hint=hint, code="not_allowed")

    @value.register
    def _(self, node: exp.Paren) -> Value:
        return self.value(node.this)

    @value.register
    def _(self, node: exp.Null) -> Value:
        return Value(pl.lit(None), pl.Null())

    @value.register
    def _(self, node: exp.Boolean) -> Value:
        return Value(pl.lit(bool(node.this)), pl.Boolean(), constant=bool(node.this))

    @value.register
    def _(self, node: exp.Literal) -> Value:
        if node.is_string:
            return Value(pl.lit(node.name), pl.String(), constant=node.name)
        try:
            number: int | float = int(node.name) if node.name.isdigit() else float(node.name)
        except ValueError:
            raise self._scope.fail(node, f"{node.name!r} is no number") from None
        if isinstance(number, int) and number > INT64[1]:
            raise self._scope.fail(node, f"{number} does not fit into 64 bits", hint=f"{number}.0 is a DOUBLE")
        return arithmetic.literal(number)

    @value.register
    def _(self, node: exp.Column) -> Value:
        names = [part.name for part in node.parts]
        schema = self._scope.schema
        if names[0] in schema:
            self._scope.used.add(names[0])
            found = Value(self._text_as_string(pl.col(names[0]), schema[names[0]]), _plain(schema[names[0]]))
            for name in names[1:]:
                found = self._field(node, found, name)
            return found
        whole = ".".join(names)
        if whole in schema:  # a header such as user.city, kept as one name by a flat file
            self._scope.used.add(whole)
            return Value(self._text_as_string(pl.col(whole), schema[whole]), _plain(schema[whole]))
        hint = nearest(names[0], schema) or ("columns: " + ", ".join(list(schema)[:12]) if schema else "")
        first = node.parts[0]
        if first.args.get("quoted"):
            hint = f"text is written in single quotes: '{names[0]}'" + (f"; {hint}" if "did you" in hint else "")
        if len(names) == 1 and names[0].lower() in _UNSTEADY:
            hint = "a transform reads no clock: the same record gives the same result for ever"
        raise self._scope.fail(first, f"unknown column {names[0]!r}", hint=hint, code="unknown_column")

    @value.register
    def _(self, node: exp.Dot) -> Value:
        if not isinstance(node.expression, exp.Identifier):
            raise self._scope.fail(node.expression, "a field's name is expected after the dot")
        return self._field(node.expression, self.value(node.this), node.expression.name)

    @value.register
    def _(self, node: exp.Bracket) -> Value:
        value = self.value(node.this)
        if len(node.expressions) != 1 or isinstance(node.expressions[0], exp.Slice):
            raise self._scope.fail(node, "one index is expected in brackets")
        at = self.value(node.expressions[0])
        if isinstance(value.dtype, pl.Struct) and isinstance(at.constant, str):
            return self._field(node.expressions[0], value, at.constant)
        if not isinstance(value.dtype, pl.List | pl.Array) or not types.is_int(at.dtype):
            kinds = f"{types.name(value.dtype)}[{types.name(at.dtype)}]"
            raise self._scope.fail(node, f"{kinds} has no meaning", hint="lists are indexed from 0", code="wrong_type")
        listed = value.expr.arr.to_list() if isinstance(value.dtype, pl.Array) else value.expr
        expr = listed.list.get(at.expr, null_on_oob=True)
        return self._scope.value(node, expr, (value, at))

    @value.register
    def _(self, node: exp.Neg) -> Value:
        if isinstance(node.this, exp.Literal) and node.this.name == str(-INT64[0]):
            return arithmetic.literal(INT64[0])
        return arithmetic.negated(self._scope, node, self.value(node.this))

    @value.register(exp.Add)
    @value.register(exp.Sub)
    @value.register(exp.Mul)
    @value.register(exp.Div)
    @value.register(exp.IntDiv)
    @value.register(exp.Mod)
    def _(self, node: exp.Binary) -> Value:
        if isinstance(node.expression, exp.Interval) and isinstance(node, exp.Add | exp.Sub):
            return self._offset(node, self.value(node.this), node.expression)
        return arithmetic.binary(self._scope, node, self.value(node.this), self.value(node.expression))

    @value.register(exp.EQ)
    @value.register(exp.NEQ)
    @value.register(exp.GT)
    @value.register(exp.GTE)
    @value.register(exp.LT)
    @value.register(exp.LTE)
    def _(self, node: exp.Binary) -> Value:
        if isinstance(node.this, _COMPARED):
            raise self._scope.fail(node.this, "comparisons do not chain", hint="a < b AND b < c", code="wrong_type")
        return logic.comparison(self._scope, node, self.value(node.this), self.value(node.expression))

    @value.register(exp.And)
    @value.register(exp.Or)
    def _(self, node: exp.Connector) -> Value:
        both = isinstance(node, exp.And)
        terms: list[exp.Expr] = []
        rest: exp.Expr = node
        while type(rest) is type(node):
            terms.append(rest.expression)
            rest = rest.this
        terms.append(rest)
        name = "AND" if both else "OR"
        return logic.balanced([self.condition(term, name) for term in reversed(terms)], both=both)

    @value.register
    def _(self, node: exp.Not) -> Value:
        value = self.condition(node.this, "NOT")
        return Value(~value.expr, pl.Boolean(), value.checks)

    @value.register
    def _(self, node: exp.Is) -> Value:
        value = self.value(node.this)
        if isinstance(node.expression, exp.Null):
            return Value(value.expr.is_null(), pl.Boolean(), value.checks)
        if isinstance(node.expression, exp.Boolean):
            value = self.condition(node.this, "IS TRUE")
            return Value(value.expr.eq_missing(pl.lit(bool(node.expression.this))), pl.Boolean(), value.checks)
        raise self._scope.fail(node.expression, "IS is followed by NULL, NOT NULL, TRUE or FALSE")

    @value.register(exp.NullSafeEQ)
    @value.register(exp.NullSafeNEQ)
    def _(self, node: exp.Binary) -> Value:
        sides = ((node.this, self.value(node.this)), (node.expression, self.value(node.expression)))
        left, right = logic.comparable(self._scope, *sides, "=")
        same = left.expr.eq_missing(right.expr)
        expr = same if isinstance(node, exp.NullSafeEQ) else ~same
        return Value(expr, pl.Boolean(), checks_of((left, right)))

    @value.register
    def _(self, node: exp.In) -> Value:
        if node.args.get("query") is not None or not node.expressions:
            raise self._scope.fail(node, "IN is followed by values in parentheses", code="not_allowed")
        return logic.one_of(self._scope, node, self.value(node.this), [(e, self.value(e)) for e in node.expressions])

    @value.register
    def _(self, node: exp.Between) -> Value:
        value = self.value(node.this)
        low, high = node.args["low"], node.args["high"]
        a, least = logic.comparable(self._scope, (node.this, value), (low, self.value(low)), ">=")
        b, most = logic.comparable(self._scope, (node.this, value), (high, self.value(high)), "<=")
        expr = logic.compared(">=", a, least) & logic.compared("<=", b, most)
        return Value(expr, pl.Boolean(), checks_of((value, least, most)))

    @value.register(exp.Like)
    @value.register(exp.ILike)
    def _(self, node: exp.Like | exp.ILike) -> Value:
        return logic.like(self._scope, node, self.value(node.this), self.value(node.expression))

    @value.register
    def _(self, node: exp.Escape) -> Value:
        inner = node.this
        if not isinstance(inner, exp.Like | exp.ILike) or len(node.expression.name) != 1:
            raise self._scope.fail(node, "ESCAPE follows LIKE and names one character")
        escape = node.expression.name
        return logic.like(self._scope, inner, self.value(inner.this), self.value(inner.expression), escape)

    @value.register
    def _(self, node: exp.Case) -> Value:
        subject = node.this
        conditions: list[Value] = []
        for branch in node.args["ifs"]:
            if subject is None:
                conditions.append(self.condition(branch.this, "WHEN"))
            else:
                pair = ((subject, self.value(subject)), (branch.this, self.value(branch.this)))
                left, right = logic.comparable(self._scope, *pair, "=")
                conditions.append(Value(logic.compared("=", left, right), pl.Boolean(), checks_of((left, right))))
        default = node.args.get("default")
        results = [self.value(branch.args["true"]) for branch in node.args["ifs"]]
        results.append(Value(pl.lit(None), pl.Null()) if default is None else self.value(default))
        unified, dtype = logic.unified(self._scope, node, results, "CASE")
        branches = [(c.expr, c.checks, v) for c, v in zip(conditions, unified, strict=False)]
        return logic.case(branches, unified[-1], dtype)

    @value.register
    def _(self, node: exp.Cast) -> Value:
        target = types.from_tree(node.to)
        if target is None:
            shown = node.to.args.get("kind") or node.to.sql()
            hint = nearest(str(shown), types.NAMES) or "known: " + ", ".join(types.NAMES)
            raise self._scope.fail(node, f"unknown type {shown}", hint=hint, code="unknown_type")
        value = self.value(node.this)
        lenient = isinstance(node, exp.TryCast)
        if casts.is_text_literal(value) and target.is_temporal() and not lenient:
            return casts.coerced(self._scope, node.this, value, target)
        return casts.cast(self._scope, node, value, target, lenient=lenient)

    @value.register
    def _(self, node: exp.Extract) -> Value:
        value = self.value(node.expression)
        if not types.is_time(value.dtype):
            kind = types.name(value.dtype)
            raise self._scope.fail(
                node.expression, f"EXTRACT needs a date or timestamp, this is {kind}", code="wrong_type"
            )
        return time.part(Call(self._scope, exp.Anonymous(expressions=[node.expression]), [value]), node.this.name, 0)

    @value.register
    def _(self, node: exp.Anonymous) -> Value:
        name = str(node.name).lower()
        if name not in TABLE:
            hint = nearest(name, TABLE)
            if name in _AGGREGATES:
                hint = "it needs many records; min and max of one record are LEAST and GREATEST"
                raise self._scope.fail(node, f"{name.upper()} is an aggregate", hint=hint, code="not_allowed")
            if name in _UNSTEADY:
                hint = "a transform reads no clock and no chance: the same record gives the same result for ever"
            raise self._scope.fail(node, f"unknown function {name!r}", hint=hint, code="unknown_function")
        return TABLE[name](self._scope, node, [self.value(argument) for argument in node.expressions])

    def _field(self, node: exp.Expr, value: Value, name: str) -> Value:
        if not isinstance(value.dtype, pl.Struct):
            message = f"{types.name(value.dtype)} has no field {name!r}"
            hint = "lists are indexed: x[0]" if isinstance(value.dtype, pl.List) else ""
            raise self._scope.fail(node, message, hint=hint, code="unknown_column")
        fields = {field.name: field.dtype for field in value.dtype.fields}
        if name not in fields:
            hint = nearest(name, fields) or "fields: " + ", ".join(list(fields)[:12])
            raise self._scope.fail(node, f"unknown field {name!r}", hint=hint, code="unknown_column")
        dtype = self._scope.typed(node, value.expr.struct.field(name))
        return Value(self._text_as_string(value.expr.struct.field(name), dtype), _plain(dtype), value.checks)

    def _offset(self, node: exp.Binary, value: Value, span: exp.Interval) -> Value:
        """A date or timestamp, some months, days or seconds later or earlier."""
        words = f"{span.this.name if span.this else ''} {span.unit.name if span.unit else ''}".split()
        unit = words[1].lower().removesuffix("s") if len(words) == 2 else ""
        if unit not in _SPANS or not words[0].lstrip("-").isdigit():
            raise self._scope.fail(
                span, "INTERVAL is followed by a number and a unit", hint="such as INTERVAL '3 days'"
            )
        if not types.is_time(value.dtype):
            kind = types.name(value.dtype)
            raise self._scope.fail(
                node.this, f"INTERVAL is added to a date or timestamp, this is {kind}", code="wrong_type"
            )
        count = int(words[0]) if isinstance(node, exp.Add) else -int(words[0])
        fine = _SPANS[unit] in ("us", "ms", "s", "m", "h") and isinstance(value.dtype, pl.Date)
        start = value.expr.cast(pl.Datetime("us")) if fine else value.expr
        return self._scope.value(node, start.dt.offset_by(f"{count}{_SPANS[unit]}"), (value,))

    @staticmethod
    def _text_as_string(expr: pl.Expr, dtype: pl.DataType) -> pl.Expr:
        return expr.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else expr


def _plain(dtype: pl.DataType) -> pl.DataType:
    return pl.String() if isinstance(dtype, pl.Categorical | pl.Enum) else dtype
