"""What every transform must keep: no record unaccounted for, no memory between batches, the types it promised."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataflow.seams import REJECTS, Applied, Transform


def exercise_transform(make: Callable[[], Transform], rows: pl.DataFrame, *, examples: int = 50) -> None:
    """Exercise transforms that `make` returns on `rows`; raises AssertionError with what went wrong.

    Checked: rows in + expanded == rows out + filtered + rejected; any cutting into batches gives the same rows and
    rejected records; the outgoing columns and types are those `bind` promised; applying twice gives the same; the
    columns that `needs` names suffice for what is wanted.
    """
    transform = make()
    schema = transform.bind(rows.schema)
    whole = _applied(transform, rows, schema)
    _same(whole, _applied(transform, rows, schema), "the same batch gives another result the second time")
    _applied(transform, rows.clear(), schema)
    _check_needs(transform, rows, schema, whole)

    @settings(max_examples=examples, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck))
    @given(cuts=st.lists(st.integers(0, rows.height), max_size=8))
    def cut(cuts: list[int]) -> None:
        edges = [0, *sorted(cuts), rows.height]
        fresh = make()
        fresh.bind(rows.schema)
        parts = [_applied(fresh, rows.slice(begin, end - begin), schema) for begin, end in pairwise(edges)]
        joined = Applied(
            pl.concat([part.rows for part in parts]),
            pl.concat([_rejected(part) for part in parts]),
            sum(part.filtered for part in parts),
            sum(part.expanded for part in parts),
        )
        _same(whole, joined, f"batches cut at {edges} give another result than one batch")

    cut()


def _rejected(applied: Applied) -> pl.DataFrame:
    return REJECTS.to_frame() if applied.rejected is None else applied.rejected


def _applied(transform: Transform, rows: pl.DataFrame, schema: pl.Schema) -> Applied:
    """Apply, and check what holds for every single batch."""
    before = rows.clone()
    applied = transform.apply(rows)
    assert rows.equals(before), "the batch itself was changed"
    assert applied.rows.schema == schema, f"rows of {applied.rows.schema}, not {schema} as bind promised"
    rejected = _rejected(applied)
    assert rejected.schema == REJECTS, f"rejected records have {rejected.schema}"
    come = rows.height + applied.expanded
    gone = applied.rows.height + applied.filtered + rejected.height
    assert come == gone, f"{come} records came in or were added, {gone} are accounted for"
    return applied


def _same(one: Applied, other: Applied, message: str) -> None:
    assert one.rows.equals(other.rows), message
    assert _rejected(one).equals(_rejected(other)), f"{message} (rejected records)"
    assert (one.filtered, one.expanded) == (other.filtered, other.expanded), f"{message} (counts)"


def _check_needs(transform: Transform, rows: pl.DataFrame, schema: pl.Schema, whole: Applied) -> None:
    """What `needs` leaves out may hold anything: the wanted columns and the counts stay what they were."""
    for wanted in [frozenset(schema), *(frozenset([name]) for name in schema)]:
        needed = transform.needs(wanted)
        assert needed <= frozenset(rows.columns), (
            f"needs {sorted(needed - frozenset(rows.columns))}, which is not there"
        )
        blank = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in rows.schema.items() if name not in needed]
        applied = transform.apply(rows.with_columns(blank))
        columns = sorted(wanted)
        assert applied.rows.select(columns).equals(whole.rows.select(columns)), f"{columns} need more than {needed}"
