"""The table of functions, and what a function is given: its call, checked for number and kind of arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from sqlglot import exp

from dataflow.errors import InvalidSpec
from dataflow.expressions import casts, types
from dataflow.expressions.values import Scope, Value, checks_of

KINDS: dict[str, tuple[str, Callable[[pl.DataType], bool]]] = {
    "any": ("a value", lambda dtype: True),
    "text": ("text", types.is_text),
    "int": ("an integer", types.is_int),
    "number": ("a number", types.is_number),
    "bool": ("a condition", lambda dtype: isinstance(dtype, pl.Boolean)),
    "time": ("a date or timestamp", types.is_time),
    "list": ("a list", lambda dtype: isinstance(dtype, pl.List | pl.Array)),
    "sized": ("text or a list", lambda dtype: types.is_text(dtype) or isinstance(dtype, pl.List | pl.Array)),
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function: its node, its typed arguments, and the scope for errors."""

    scope: Scope
    node: exp.Anonymous
    args: Sequence[Value]

    def __getitem__(self, n: int) -> pl.Expr:
        return self.args[n].expr

    def __len__(self) -> int:
        return len(self.args)

    def fail(self, message: str, n: int | None = None, *, hint: str = "") -> InvalidSpec:
        """The error for argument `n`, or for the call."""
        at = self.node if n is None else self.node.expressions[n]
        return self.scope.fail(at, message, hint=hint, code="wrong_argument")

    def constant(self, n: int, what: str) -> str:
        """Argument `n`, which must be written out as text."""
        value = self.args[n].constant
        if not isinstance(value, str):
            raise self.fail(f"{what} is written out as text", n, hint="such as 'x' in single quotes")
        return value

    def whole(self, n: int, what: str) -> int:
        """Argument `n`, which must be written out as an integer."""
        value = self.args[n].constant
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(f"{what} is written out as an integer", n)
        return value

    def value(self, expr: pl.Expr, dtype: pl.DataType | None = None) -> Value:
        """The result, with the checks of the arguments; its type as Polars says unless given."""
        return Value(expr, dtype or self.scope.typed(self.node, expr), checks_of(self.args))


@dataclass(frozen=True, slots=True)
class Function:
    """`parameters`: kinds in order, `?` for optional ones, `*` for the last one repeated."""

    name: str
    parameters: tuple[str, ...]
    build: Callable[[Call], Value | pl.Expr]

    @property
    def least(self) -> int:
        return sum(not p.endswith(("?", "*")) for p in self.parameters)

    @property
    def most(self) -> int | None:
        return None if self.parameters and self.parameters[-1].endswith("*") else len(self.parameters)

    def __call__(self, scope: Scope, node: exp.Anonymous, args: Sequence[Value]) -> Value:
        """Check the arguments and build the result. Raises `InvalidSpec`."""
        if len(args) < self.least or (self.most is not None and len(args) > self.most):
            wanted = f"{self.least}" if self.most == self.least else f"{self.least} to {self.most or 'many'}"
            message = f"{self.name.upper()} takes {wanted} arguments, here are {len(args)}"
            raise scope.fail(node, message, hint=self.usage(), code="wrong_argument")
        checked = []
        for n, value in enumerate(args):
            kind = self.parameters[min(n, len(self.parameters) - 1)].rstrip("?*")
            label, accepts = KINDS[kind]
            if types.is_null(value.dtype):
                value = _null_as(kind, value)
            elif kind == "time" and casts.is_text_literal(value):
                target = pl.Date() if len(str(value.constant)) <= len("2024-01-31") else pl.Datetime("us")
                value = casts.coerced(scope, node.expressions[n], value, target)
            elif not accepts(value.dtype):
                message = f"{self.name.upper()} needs {label} here, this is {types.name(value.dtype)}"
                raise scope.fail(node.expressions[n], message, hint=self.usage(), code="wrong_type")
            checked.append(value)
        call = Call(scope, node, checked)
        built = self.build(call)
        return built if isinstance(built, Value) else call.value(built)

    def usage(self) -> str:
        shown = [
            f"[{p[:-1]}]" if p.endswith("?") else f"{p[:-1]}, ..." if p.endswith("*") else p for p in self.parameters
        ]
        return f"{self.name.upper()}({', '.join(shown)})"


TABLE: dict[str, Function] = {}


def function(names: str, *parameters: str) -> Callable[[Callable[[Call], Value | pl.Expr]], Callable[..., object]]:
    """Put a function into the table under its names (`length len`)."""

    def put(build: Callable[[Call], Value | pl.Expr]) -> Callable[..., object]:
        for name in names.split():
            TABLE[name] = Function(names.split()[0], parameters, build)
        return build

    return put


def _null_as(kind: str, value: Value) -> Value:
    dtype: dict[str, pl.DataType] = {
        "text": pl.String(),
        "sized": pl.String(),
        "int": pl.Int64(),
        "number": pl.Float64(),
        "bool": pl.Boolean(),
        "time": pl.Datetime("us"),
        "list": pl.List(pl.String()),
    }
    return value if kind == "any" else Value(value.expr.cast(dtype[kind]), dtype[kind], value.checks)
