"""`filter`: keeps the rows for which a condition is TRUE. FALSE and NULL are filtered out and counted."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import OnRecord
from dataflow.errors import InvalidSpec
from dataflow.expressions import Compiled, Program, compile
from dataflow.seams import Applied, Context
from dataflow.transforms._records import old_options, on_error, rejects, within

_KEEP = "\0keep"
_OLD = {
    "expression": lambda value: f"write where: {json.dumps(value)}",
    "condition": lambda value: f"write where: {json.dumps(value)}",
    "errorHandling": on_error,
}


class FilterConfig(Config):
    """Options of `filter`."""

    where: str = Field(description="The condition: an SQL expression.", examples=["amount > 50 AND country <> 'US'"])

    @model_validator(mode="before")
    @classmethod
    def _spelling(cls, options: Any) -> Any:
        old_options(options, _OLD)
        return options


class FilterTransform:
    """See the module. A row whose condition cannot be computed (a failing CAST) is an error of that row."""

    def __init__(self, config: FilterConfig) -> None:
        self.on_error: OnRecord | None = None
        self._where = config.where
        self._condition: Compiled | None = None
        self._program = Program({})

    def bind(self, schema: pl.Schema) -> pl.Schema:
        try:
            self._condition = compile(self._where, schema, want="boolean")
        except InvalidSpec as refused:
            raise InvalidSpec(list(within("where", refused))) from refused
        self._program = Program({_KEEP: self._condition})
        return schema

    @property
    def fallible(self) -> bool:
        return self._condition is not None and self._condition.fallible

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return columns | (self._condition.columns if self._condition else frozenset())

    def apply(self, rows: pl.DataFrame) -> Applied:
        done = self._program.run(rows)
        good = rows if done.failures is None else done.rows.drop(_KEEP)
        kept = good.filter(done.rows.get_column(_KEEP))
        return Applied(kept, rejects(done.failures), filtered=done.rows.height - kept.height)


def build(config: FilterConfig, context: Context) -> FilterTransform:
    return FilterTransform(config)


TRANSFORM = Component(
    kind=Kind.TRANSFORM,
    name="filter",
    config=FilterConfig,
    build=build,
    summary="Keeps the rows for which a condition is true.",
)
