"""The transforms of one lane, compiled once and applied batch by batch, with the record error policy of each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from dataflow.domain.flow import Counters, OnRecord
from dataflow.errors import BadRecord, InvalidSpec
from dataflow.seams import Transform


@dataclass(frozen=True, slots=True)
class Stage:
    """One transform with its name in the definition (`transforms[0]`)."""

    name: str
    transform: Transform


@dataclass(frozen=True, slots=True)
class Passed:
    """A batch after all stages: rows for the sink, dead letters for it, and what to count."""

    rows: pl.DataFrame
    dead: tuple[pl.DataFrame, ...]
    counters: Counters


class Chain:
    """Not usable before `bind`. `apply` is pure and thread-safe as far as its transforms are."""

    def __init__(self, stages: Sequence[Stage], on_record: OnRecord) -> None:
        self._stages = tuple(stages)
        self._on_record = on_record
        self.schemas: list[pl.Schema] = []

    def bind(self, schema: pl.Schema) -> pl.Schema:
        """Compile every stage against the columns that reach it; returns the outgoing schema.

        Raises `InvalidSpec` with every problem of the first stage that has any, paths made absolute."""
        self.schemas = [schema]
        for stage in self._stages:
            try:
                schema = stage.transform.bind(schema)
            except InvalidSpec as refused:
                raise InvalidSpec(
                    [replace(p, path=f"{stage.name}.{p.path}" if p.path else stage.name) for p in refused.problems]
                ) from refused
            self.schemas.append(schema)
        return schema

    def columns(self) -> list[str]:
        """The source columns that matter for the rows that leave the chain, in the source's order."""
        wanted = frozenset(self.schemas[-1])
        for stage, incoming in zip(reversed(self._stages), reversed(self.schemas[:-1]), strict=True):
            kept = (stage.transform.on_error or self._on_record) is OnRecord.DEAD_LETTER
            wanted = frozenset(incoming) if kept and stage.transform.fallible else stage.transform.needs(wanted)
        return [name for name in self.schemas[0] if name in wanted]

    def apply(self, rows: pl.DataFrame, rejected: pl.DataFrame | None = None, *, bytes_read: int = 0) -> Passed:
        """Run one batch through all stages. `rejected` are records the source could not read.

        Raises `BadRecord` at the first bad record of a stage whose policy is `fail`."""
        dead: list[pl.DataFrame] = []
        counters = Counters(read=rows.height, bytes_read=bytes_read)
        if rejected is not None and rejected.height:
            counters += Counters(read=rejected.height) + self._refuse(rejected, self._on_record, dead)
        for stage in self._stages:
            if not rows.height:
                break
            applied = stage.transform.apply(rows)
            rows = applied.rows
            counters += Counters(filtered=applied.filtered, expanded=applied.expanded)
            if applied.rejected is not None and applied.rejected.height:
                named = applied.rejected.with_columns(stage=pl.lit(stage.name))
                counters += self._refuse(named, stage.transform.on_error or self._on_record, dead)
        return Passed(rows, tuple(dead), counters + Counters(written=rows.height))

    def _refuse(self, rejected: pl.DataFrame, policy: OnRecord, dead: list[pl.DataFrame]) -> Counters:
        if policy is OnRecord.FAIL:
            first = rejected.row(0, named=True)
            raise BadRecord(
                f"{first['stage']}: {first['message']}",
                code=first["code"] or BadRecord.code,
                where=first["where"] or "",
                hint="errors.on_record is fail; skip or dead_letter would go on",
            )
        if policy is OnRecord.SKIP:
            return Counters(failed=rejected.height)
        dead.append(rejected)
        return Counters(failed=rejected.height, dead_lettered=rejected.height)
