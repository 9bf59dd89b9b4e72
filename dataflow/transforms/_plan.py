"""What a `map` does, worked out against the incoming columns: one entry for every outgoing column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from dataflow.errors import InvalidSpec, Problem
from dataflow.expressions import Compiled, column, compile
from dataflow.transforms._records import unknown, within


@dataclass(frozen=True, slots=True)
class Column:
    """One outgoing column: `made` is where the batch holds it, computed by `compiled` or as it came in.

    `needs` are the incoming columns behind it."""

    name: str
    made: str
    dtype: pl.DataType
    needs: frozenset[str]
    compiled: Compiled | None = None
    set_by: str | None = None  # the expression behind a column made by `set`


@dataclass(frozen=True, slots=True)
class Plan:
    columns: tuple[Column, ...]


@dataclass(slots=True)
class _Draft:
    """The columns between two steps, in order, and what is wrong so far."""

    schema: pl.Schema
    columns: dict[str, Column] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)  # a name that a step took away -> what became of it
    problems: list[Problem] = field(default_factory=list)

    def missing(self, path: str, name: str) -> None:
        self.problems.append(unknown(path, name, self.columns, hint=self.gone.get(name, "")))


def plan(
    schema: pl.Schema,
    setting: Mapping[str, str | bool | int | float | None],
    rename: Mapping[str, str],
    cast: Mapping[str, str],
    drop: Sequence[str],
    select: Sequence[str] | None,
) -> Plan:
    """The outgoing columns. Raises `InvalidSpec` with every problem of every option."""
    draft = _Draft(schema, {name: Column(name, name, dtype, frozenset([name])) for name, dtype in schema.items()})
    _set(draft, setting)
    _drop(draft, drop)
    _rename(draft, rename)
    _cast(draft, cast)
    _select(draft, select, rename, cast)
    if not draft.columns and not draft.problems:
        draft.problems.append(Problem("drop", "no column is left", code="no_columns"))
    if draft.problems:
        raise InvalidSpec(draft.problems)
    return Plan(tuple(draft.columns.values()))


def _set(draft: _Draft, setting: Mapping[str, str | bool | int | float | None]) -> None:
    for n, (name, given) in enumerate(setting.items()):
        text = given if isinstance(given, str) else _literal(given)
        if not name:
            draft.problems.append(Problem("set", "a column has no name", code="no_name"))
            continue
        try:
            compiled = compile(text, draft.schema)
        except InvalidSpec as refused:
            draft.problems += within(f"set.{name}", refused)
            continue
        made = f"\0{n}"
        draft.columns[name] = Column(name, made, compiled.dtype, compiled.columns, compiled, text)


def _rename(draft: _Draft, rename: Mapping[str, str]) -> None:
    for old in rename:
        if old not in draft.columns:
            draft.missing(f"rename.{old}", old)
    moved: dict[str, Column] = {}
    for name, found in draft.columns.items():
        new = rename.get(name, name)
        if not new:
            draft.problems.append(Problem(f"rename.{name}", "the new name is empty", code="no_name"))
        elif new in moved:
            path = f"rename.{name}" if name in rename else f"rename.{moved[new].name}"
            message = f"there would be two columns {new!r}"
            draft.problems.append(Problem(path, message, code="duplicate_column", hint=f"drop: [{new}] comes first"))
        else:
            moved[new] = found
    draft.gone |= {old: f"rename made it {new!r}" for old, new in rename.items() if old not in moved}
    draft.columns = {new: replace(found, name=new) for new, found in moved.items()}


def _cast(draft: _Draft, cast: Mapping[str, str]) -> None:
    for n, (name, target) in enumerate(cast.items()):
        found = draft.columns.get(name)
        if found is None:
            draft.missing(f"cast.{name}", name)
            continue
        try:
            if found.set_by is None:
                compiled = column(found.made, draft.schema, cast=target)
            else:
                compiled = compile(found.set_by, draft.schema, cast=target)
        except InvalidSpec as refused:
            # The place is that of the type's name, not one inside an expression.
            draft.problems += [replace(p, line=0, column=0) for p in within(f"cast.{name}", refused)]
            continue
        made = found.made if found.compiled else f"\0cast{n}"
        draft.columns[name] = replace(found, made=made, dtype=compiled.dtype, compiled=compiled)


def _drop(draft: _Draft, drop: Sequence[str]) -> None:
    for name in drop:
        if name not in draft.columns:
            draft.missing("drop", name)
        elif draft.columns[name].set_by is not None:
            draft.problems.append(Problem("drop", f"{name!r} is made by set and dropped again", code="pointless"))
        else:
            draft.columns.pop(name)
            draft.gone[name] = "drop leaves it out"


def _select(draft: _Draft, select: Sequence[str] | None, rename: Mapping[str, str], cast: Mapping[str, str]) -> None:
    if select is None:
        return
    for name in select:
        if name not in draft.columns:
            draft.missing("select", name)
    if len(set(select)) < len(select):
        twice = next(name for name in select if list(select).count(name) > 1)
        draft.problems.append(Problem("select", f"{twice!r} is named twice", code="duplicate_column"))
    for name in (*rename.values(), *cast):
        if name in draft.columns and name not in select and draft.columns[name].set_by is None:
            maker = "cast" if name in cast else "rename"
            message = f"{name!r} is made by {maker} and not selected"
            draft.problems.append(Problem("select", message, code="pointless", hint=f"add {name!r} to select"))
    chosen = {name: draft.columns[name] for name in select if name in draft.columns}
    draft.columns = chosen | {n: c for n, c in draft.columns.items() if c.set_by is not None and n not in chosen}


def _literal(value: bool | int | float | None) -> str:
    """A constant of the file as an expression."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return f"CAST('{value}' AS DOUBLE)"
    return repr(value)
