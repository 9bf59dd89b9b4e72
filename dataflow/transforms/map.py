"""`map`: computes, drops, renames, casts and selects columns.

The options work in this order, whatever their order in the file:

1. `set`: new or replaced columns. Every expression sees the row as it came in, not the other results.
2. `drop`: columns to leave out.
3. `rename`: old name -> new name.
4. `cast`: name -> type.
5. `select`: the columns to keep, in that order. What `set` makes is kept too, after them, named or not.

Each step uses the names the step before it left behind. What another option makes pointless (a column that is
renamed and then not selected) is refused.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

import polars as pl
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import OnRecord
from dataflow.expressions import Compiled, Program
from dataflow.seams import Applied, Context
from dataflow.transforms._plan import Plan, plan
from dataflow.transforms._records import old_options, on_error, rejects

Constant = bool | int | float | None


class MapConfig(Config):
    """Options of `map`. Texts of `set` are expressions; numbers, true, false and null stand for themselves."""

    set: dict[str, str | Constant] = Field(
        default_factory=dict,
        description="Column -> expression, or a constant. A constant text is quoted twice: \"'eu'\".",
        examples=[{"total": "amount * quantity", "region": "'eu'"}],
    )
    rename: dict[str, str] = Field(default_factory=dict, description="Old name -> new name.", examples=[{"ts": "at"}])
    select: list[str] | None = Field(
        None, description="Columns to keep, in this order; those of `set` are kept too.", examples=[["id", "at"]]
    )
    drop: list[str] = Field(default_factory=list, description="Columns to leave out.", examples=[["note"]])
    cast: dict[str, str] = Field(
        default_factory=dict,
        description="Column -> type; a value that does not fit is an error of its row.",
        examples=[{"amount": "DECIMAL(10, 2)"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _spelling(cls, options: Any) -> Any:
        old_options(options, _OLD)
        return options

    @field_validator("set", mode="before")
    @classmethod
    def _constants(cls, values: Any) -> Any:
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, datetime.date):
                kind = "TIMESTAMP" if isinstance(value, datetime.datetime) else "DATE"
                raise PydanticCustomError("constant", "{name}: write \"{kind} '{value}'\"", _said(name, value, kind))
            if not isinstance(value, str | Constant):
                told = "{name}: an expression, a number, true, false or null is wanted"
                raise PydanticCustomError("constant", told, _said(name, value, ""))
        return values


def _said(name: object, value: object, kind: str) -> dict[str, Any]:
    return {"name": str(name), "value": str(value), "kind": kind}


def _new_spelling(old: object) -> str:
    """What the three shapes of the original's `mappings` are now."""
    pairs: dict[str, str] = {}
    if isinstance(old, str) and old.lstrip().startswith("{"):
        try:
            old = json.loads(old)
        except ValueError:
            old = None
    if isinstance(old, dict):
        pairs = {str(key): str(value) for key, value in old.items()}
    elif isinstance(old, str):
        pairs = {a.strip(): b.strip() for a, arrow, b in (part.partition("->") for part in old.split(",")) if arrow}
    renamed = {a: b for a, b in pairs.items() if b not in ("null", "None", "")}
    dropped = [a for a in pairs if a not in renamed]
    if not pairs:
        return "write rename: {old: new}, and drop: [name]"
    parts = ["rename: {" + ", ".join(f"{a}: {b}" for a, b in renamed.items()) + "}"] if renamed else []
    return "write " + " and ".join(parts + (["drop: [" + ", ".join(dropped) + "]"] if dropped else []))


_OLD = {
    "mappings": _new_spelling,
    "preserveUnmapped": lambda value: "every column is kept unless drop or select says otherwise",
    "errorHandling": on_error,
}


class MapTransform:
    """See the module. A row whose expression or cast cannot be computed is an error of that row."""

    def __init__(self, config: MapConfig) -> None:
        self.on_error: OnRecord | None = None
        self._config = config
        self._plan: Plan | None = None
        self._programs: dict[frozenset[str], tuple[Program, list[pl.Expr]]] = {}

    def bind(self, schema: pl.Schema) -> pl.Schema:
        c = self._config
        self._plan = plan(schema, c.set, c.rename, c.cast, c.drop, c.select)
        self._programs = {}
        return pl.Schema({step.name: step.dtype for step in self._plan.columns})

    @property
    def fallible(self) -> bool:
        return self._plan is not None and any(step.compiled and step.compiled.fallible for step in self._plan.columns)

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        """An expression that can fail is needed even if nobody wants its column: it decides about the row."""
        assert self._plan is not None
        wanted: set[str] = set()
        for step in self._plan.columns:
            if step.name in columns or (step.compiled and step.compiled.fallible):
                wanted |= step.needs
        return frozenset(wanted)

    def apply(self, rows: pl.DataFrame) -> Applied:
        program, shape = self._for(frozenset(rows.columns))
        done = program.run(rows)
        return Applied(done.rows.select(shape), rejects(done.failures))

    def _for(self, there: frozenset[str]) -> tuple[Program, list[pl.Expr]]:
        """The program and the outgoing columns for batches that have these columns: a source may leave out others."""
        if there not in self._programs:
            assert self._plan is not None
            steps = [step for step in self._plan.columns if step.needs <= there]
            outputs: dict[str, Compiled] = {step.made: step.compiled for step in steps if step.compiled is not None}
            labels = {step.made: step.name for step in steps}
            self._programs[there] = Program(outputs, labels), [pl.col(step.made).alias(step.name) for step in steps]
        return self._programs[there]


def build(config: MapConfig, context: Context) -> MapTransform:
    return MapTransform(config)


TRANSFORM = Component(
    kind=Kind.TRANSFORM,
    name="map",
    config=MapConfig,
    build=build,
    summary="Computes, renames, casts, drops and selects columns.",
)
