"""`mask`: text columns keep their last characters, the others become asterisks."""

from __future__ import annotations

import polars as pl
from pydantic import Field

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import OnRecord
from dataflow.errors import InvalidSpec, Problem
from dataflow.seams import Applied, Context


class MaskConfig(Config):
    columns: tuple[str, ...] = Field(min_length=1, description="Which text columns.")
    keep: int = Field(4, ge=0, description="How many characters at the end stay.")


class Mask:
    fallible = False

    def __init__(self, config: MaskConfig, context: Context) -> None:
        self.on_error: OnRecord | None = None
        self._config = config

    def bind(self, schema: pl.Schema) -> pl.Schema:
        wrong = [name for name in self._config.columns if schema.get(name) != pl.String]
        if wrong:
            raise InvalidSpec([Problem("columns", f"{name!r} is no text column", "bad_column") for name in wrong])
        return schema

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return columns

    def apply(self, rows: pl.DataFrame) -> Applied:
        def masked(column: pl.Expr) -> pl.Expr:
            hidden = (column.str.len_chars().cast(pl.Int64) - self._config.keep).clip(lower_bound=0)
            return pl.lit("*").repeat_by(hidden).list.join("") + column.str.tail(self._config.keep)

        here = [name for name in self._config.columns if name in rows.columns]
        return Applied(rows.with_columns(masked(pl.col(name)).alias(name) for name in here))


TRANSFORM = Component(Kind.TRANSFORM, "mask", MaskConfig, Mask, "Hides all but the end of text.")
