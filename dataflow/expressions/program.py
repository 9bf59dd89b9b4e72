"""Compiled expressions over batches: all columns in one pass, and the rows that cannot be computed told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from dataflow.expressions.compiled import Compiled, Variant
from dataflow.expressions.values import Range

_BAD = "\0bad"


@dataclass(frozen=True, slots=True)
class Failures:
    """Rows as they came, and for each a stable code and a message for people (columns `code`, `message`)."""

    rows: pl.DataFrame
    reasons: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Outcome:
    """The good rows, in order, with the computed columns added or replaced; and the rows that failed."""

    rows: pl.DataFrame
    failures: Failures | None = None


class Program:
    """Adds the columns `outputs` to batches. All of them see the row as it came in. Thread-safe: holds no state.

    `labels`: what to call an output in a message about a row; without one the message stands alone."""

    def __init__(self, outputs: Mapping[str, Compiled], labels: Mapping[str, str] | None = None) -> None:
        self._outputs = dict(outputs)
        self._labels = dict(labels or {})
        self._guarded = {name: c for name, c in self._outputs.items() if c.exact is not None}
        self._leaves = [leaf for c in self._guarded.values() for leaf in c.leaves]

    def run(self, rows: pl.DataFrame) -> Outcome:
        """Compute every output for every row. A row with an error is left out and reported once, with its first one.

        What Polars itself refuses at run time (nothing that is known of) is narrowed down to the rows that cause it."""
        try:
            return self._run(rows)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            if rows.height <= 1:
                message = f"cannot be computed: {str(error).partition(chr(10))[0]}"
                return Outcome(self._none(rows), _failures(rows, [("EVALUATION_FAILED", message)] * rows.height))
        half = rows.height // 2
        return _joined(self.run(rows.head(half)), self.run(rows.slice(half)))

    def _run(self, rows: pl.DataFrame) -> Outcome:
        if not self._outputs:
            return Outcome(rows)
        exact = self._overflowing(rows) if self._guarded else frozenset[str]()
        done = self._compute(rows, exact)
        if done.failures is not None and exact != self._guarded.keys():
            return self._compute(rows, frozenset(self._guarded))
        return done

    def _compute(self, rows: pl.DataFrame, exact: frozenset[str]) -> Outcome:
        chosen = {
            name: c.exact if c.exact is not None and name in exact else Variant(c.expr, c.checks)
            for name, c in self._outputs.items()
        }
        columns = [variant.expr.alias(name) for name, variant in chosen.items()]
        checks = [(name, check) for name, variant in chosen.items() for check in variant.checks]
        # Lazily, what expressions and checks have in common (the cast itself) is computed once; where there is nothing
        # in common, planning for it costs more than a small batch.
        if not checks and not any(c.repeats for c in self._outputs.values()):
            return Outcome(rows.with_columns(columns))
        if not checks:
            return Outcome(rows.lazy().with_columns(columns).collect())
        masks = [check.mask for _, check in checks]
        done = rows.lazy().with_columns(*columns, pl.any_horizontal(masks).fill_null(False).alias(_BAD)).collect()
        bad = done.get_column(_BAD)
        done = done.drop(_BAD)
        if not bad.any():
            return Outcome(done)
        failed = rows.filter(bad)
        reasons = failed.select(
            code=pl.coalesce(pl.when(c.mask).then(pl.lit(c.code)) for _, c in checks),
            message=pl.coalesce(pl.when(c.mask).then(self._told(name, c.message)) for name, c in checks),
        )
        return Outcome(done.filter(~bad), Failures(failed, reasons))

    def _overflowing(self, rows: pl.DataFrame) -> frozenset[str]:
        """The outputs whose integers may not fit into 64 bits in this batch, by the ranges of what they are made of."""
        ends = [(leaf.min().alias(f"{n}-"), leaf.max().alias(f"{n}+")) for n, leaf in enumerate(self._leaves)]
        found = rows.select(end for pair in ends for end in pair).row(0) if ends else ()
        ranges: list[Range] = [(a or 0, b or 0) for a, b in zip(found[::2], found[1::2], strict=True)]
        at, names = 0, set()
        for name, compiled in self._guarded.items():
            if compiled.overflows(ranges[at : at + len(compiled.leaves)]):
                names.add(name)
            at += len(compiled.leaves)
        return frozenset(names)

    def _told(self, name: str, message: pl.Expr) -> pl.Expr:
        label = self._labels.get(name)
        return message if label is None else pl.concat_str(pl.lit(f"{label}: "), message)

    def _none(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.clear().with_columns(
            pl.Series(name, [], dtype=compiled.dtype) for name, compiled in self._outputs.items()
        )


def _failures(rows: pl.DataFrame, reasons: Sequence[tuple[str, str]]) -> Failures:
    schema = {"code": pl.String, "message": pl.String}
    return Failures(rows, pl.DataFrame(reasons, schema=schema, orient="row"))


def _joined(first: Outcome, second: Outcome) -> Outcome:
    found = [outcome.failures for outcome in (first, second) if outcome.failures is not None]
    failures = Failures(pl.concat([f.rows for f in found]), pl.concat([f.reasons for f in found])) if found else None
    return Outcome(pl.concat([first.rows, second.rows]), failures)
