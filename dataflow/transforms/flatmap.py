"""`flatmap`: one row becomes one row for every part of a field: of a list, or of text cut at a delimiter.

Parts of text are trimmed and empty ones left out; elements of lists stay as they are, NULL ones too. A row whose
field is NULL or has no parts becomes nothing, and is counted as filtered. The field gives way to the column `into`.

Children are numbered from 0 in the column `split_index`. Where the rows have a column `id`, a child's id is its
parent's with that number (`o17-0`, `o17-1`), and the parent's own is in `parent_id`: repeating the run gives the same
ids. `index`, `id` and `parent` name other columns, or `null` to leave them out.
"""

from __future__ import annotations

from typing import Any

import polars as pl
from pydantic import Field, model_validator

from dataflow.components import Component, Config, Kind
from dataflow.domain.flow import OnRecord
from dataflow.errors import InvalidSpec, Problem
from dataflow.expressions import Compiled, compile, type_name
from dataflow.seams import Applied, Context
from dataflow.transforms._records import old_options, on_error, unknown, within

_PARTS = "\0parts"
_INDEX = "\0index"

_OLD = {
    "splitField": lambda value: f"write field: {value}",
    "targetField": lambda value: f"write into: {value}",
    "preserveParent": lambda value: f"write keep_parent: {str(value).lower()}",
    "errorHandling": on_error,
}


class FlatMapConfig(Config):
    """Options of `flatmap`."""

    field: str = Field(
        min_length=1, description="The column to split; a dotted path leads into structs.", examples=["tags"]
    )
    into: str | None = Field(
        None,
        min_length=1,
        description="Column for one part; default: the singular of field (tags: tag, entries: entry).",
    )
    delimiter: str = Field(",", min_length=1, description="What text is cut at.")
    keep_parent: bool = Field(True, description="Keep the parent's other columns; false: only the part, ids and index.")
    index: str | None = Field(
        "split_index", min_length=1, description="Column for the child's number, from 0; null: none."
    )
    id: str | None = Field(
        "id", min_length=1, description="Column that identifies a row, if there is such; null: none."
    )
    parent: str | None = Field("parent_id", min_length=1, description="Column for the parent's id; null: none.")

    @model_validator(mode="before")
    @classmethod
    def _spelling(cls, options: Any) -> Any:
        old_options(options, _OLD)
        return options


def singular(name: str) -> str:
    """categories: category, boxes: box, tags: tag; a name that is no plural stays."""
    if name.endswith("ies") and len(name) > 3:
        return name[:-3] + "y"
    if name.endswith(("ches", "shes", "sses", "xes", "zes")):
        return name[:-2]
    return name[:-1] if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > 1 else name


class FlatMapTransform:
    """See the module. It makes no errors of its own: what it cannot split is refused when it is bound."""

    def __init__(self, config: FlatMapConfig) -> None:
        self.on_error: OnRecord | None = None
        self._config = config
        self._into = config.into or singular(config.field.rpartition(".")[2])
        self._source: Compiled | None = None
        self._parts: pl.Expr = pl.lit(None)
        self._children = False
        self._own: frozenset[str] = frozenset()

    def bind(self, schema: pl.Schema) -> pl.Schema:
        c = self._config
        self._source = self._find(schema)
        inner = self._split(self._source)
        self._children = c.id is not None and c.id in schema
        if "id" in c.model_fields_set and c.id is not None and c.id not in schema:
            raise InvalidSpec([unknown("id", c.id, schema)])
        made: dict[str, tuple[str, pl.DataType]] = {"into": (self._into, inner)}
        if self._children and c.id is not None:
            made["id"] = (c.id, pl.String())
            if c.parent is not None:
                made["parent"] = (c.parent, schema[c.id])
        if c.index is not None:
            made["index"] = (c.index, pl.Int64())
        self._refuse_clashes(schema, made)
        kept = [name for name in schema if name != c.field] if c.keep_parent else []
        self._own = frozenset(name for name, _ in made.values())
        out: dict[str, pl.DataType] = {}
        for name in schema:
            if name == c.field:
                out[self._into] = inner
            elif name in kept or (self._children and name == c.id):
                out[name] = schema[name]
        return pl.Schema(out | dict(made.values()))

    @property
    def fallible(self) -> bool:
        return False

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        assert self._source is not None
        ids = {self._config.id} if self._children and self._config.id else set()
        return (columns - self._own) | self._source.columns | ids

    def apply(self, rows: pl.DataFrame) -> Applied:
        c = self._config
        counted = rows.lazy().with_columns(self._parts.alias(_PARTS)).filter(pl.col(_PARTS).list.len() > 0).collect()
        lengths = pl.int_ranges(0, pl.col(_PARTS).list.len()).alias(_INDEX)
        split = counted.with_columns(lengths).explode(_PARTS, _INDEX)
        number = pl.col(_INDEX).cast(pl.Int64)
        made = {self._into: pl.col(_PARTS)}
        if self._children and c.id is not None:
            made[c.id] = pl.concat_str(pl.col(c.id).cast(pl.String), pl.lit("-"), number)
            if c.parent is not None:
                made[c.parent] = pl.col(c.id)
        if c.index is not None:
            made[c.index] = number
        names: list[str] = []
        for name in rows.columns:
            if name == c.field:
                names.append(self._into)
            elif c.keep_parent or (self._children and name == c.id):
                names.append(name)
        names = list(dict.fromkeys([*names, *made]))
        out = split.select([made[name].alias(name) if name in made else pl.col(name) for name in names])
        filtered = rows.height - counted.height
        return Applied(out, filtered=filtered, expanded=out.height - counted.height)

    def _find(self, schema: pl.Schema) -> Compiled:
        """The field as a column, or as a path into one. Raises `InvalidSpec`."""
        field = self._config.field
        try:
            return compile('"' + field.replace('"', '""') + '"' if field in schema else field, schema)
        except InvalidSpec as refused:
            if "." in field and field.partition(".")[0] in schema:
                raise InvalidSpec(list(within("field", refused))) from refused
            raise InvalidSpec([unknown("field", field, schema)]) from refused

    def _split(self, source: Compiled) -> pl.DataType:
        """Prepare the expression that gives the list of parts; returns their type. Raises `InvalidSpec`."""
        dtype = source.dtype
        if isinstance(dtype, pl.List | pl.Array):
            self._parts = source.expr.arr.to_list() if isinstance(dtype, pl.Array) else source.expr
            inner = dtype.inner
            return inner if isinstance(inner, pl.DataType) else inner()
        if isinstance(dtype, pl.String):
            part = pl.element().str.strip_chars()
            self._parts = source.expr.str.split(self._config.delimiter).list.eval(part.filter(part != ""))
            return dtype
        hint = "only lists and text have parts"
        raise InvalidSpec(
            [Problem("field", f"{self._config.field!r} is {type_name(dtype)}", code="wrong_type", hint=hint)]
        )

    def _refuse_clashes(self, schema: pl.Schema, made: dict[str, tuple[str, pl.DataType]]) -> None:
        names = [name for name, _ in made.values()]
        problems = []
        for option, (name, _) in made.items():
            taken = name in schema and name != self._config.field and option != "id" and self._config.keep_parent
            if taken or names.count(name) > 1:
                hint = f"{option}: another name" + ("" if option == "into" else ", or null to leave it out")
                problems.append(
                    Problem(option, f"there is a column {name!r} already", code="duplicate_column", hint=hint)
                )
        if problems:
            raise InvalidSpec(problems)


def build(config: FlatMapConfig, context: Context) -> FlatMapTransform:
    return FlatMapTransform(config)


TRANSFORM = Component(
    kind=Kind.TRANSFORM,
    name="flatmap",
    config=FlatMapConfig,
    build=build,
    summary="One row becomes one row for every part of a list or text.",
)
