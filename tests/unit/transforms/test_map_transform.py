"""map: one shape of options, one order, types kept, and everything wrong told at once."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from dataflow.chain import Chain, Stage
from dataflow.components import Kind
from dataflow.domain.flow import OnRecord
from dataflow.errors import InvalidSpec, Problem
from dataflow.registry import component
from dataflow.seams import Applied, Context
from dataflow.transforms.map import MapTransform

ROWS = pl.DataFrame(
    {
        "id": [1, 2],
        "amount": [60, 70],
        "quantity": [2, 3],
        "ts": ["a", "b"],
        "note": ["x", "y"],
        "user": [{"address": {"city": "Ulm"}}, None],
    }
)


def make(**options: Any) -> MapTransform:
    kind = component(Kind.TRANSFORM, "map")
    transform: MapTransform = kind.build(kind.config(**options), Context(pipeline="p"))
    return transform


def apply(rows: pl.DataFrame = ROWS, **options: Any) -> Applied:
    transform = make(**options)
    schema = transform.bind(rows.schema)
    applied = transform.apply(rows)
    assert applied.rows.schema == schema
    assert applied.rows.height + (0 if applied.rejected is None else applied.rejected.height) == rows.height
    return applied


def problems(**options: Any) -> list[Problem]:
    with pytest.raises(InvalidSpec) as caught:
        make(**options).bind(ROWS.schema)
    return list(caught.value.problems)


def test_the_example_of_the_design() -> None:
    done = apply(set={"total": "amount * quantity"}, rename={"ts": "at"}, drop=["note"]).rows
    assert done.columns == ["id", "amount", "quantity", "at", "user", "total"]
    assert done["total"].to_list() == [120, 210]
    assert done["at"].to_list() == ["a", "b"]


def test_expressions_see_the_row_as_it_came_in() -> None:
    done = apply(set={"amount": "quantity", "quantity": "amount"}).rows
    assert (done["amount"].to_list(), done["quantity"].to_list()) == ([2, 3], [60, 70])


def test_renaming_comes_after_setting_and_may_swap() -> None:
    done = apply(set={"amount": "amount * 2"}, rename={"amount": "total"}).rows
    assert done["total"].to_list() == [120, 140]
    done = apply(rename={"amount": "quantity", "quantity": "amount"}, cast={"amount": "DOUBLE"}).rows
    assert done["amount"].to_list() == [2.0, 3.0]
    assert done["quantity"].to_list() == [60, 70]


def test_a_dropped_name_is_free_again() -> None:
    done = apply(drop=["amount"], rename={"quantity": "amount"}).rows
    assert done["amount"].to_list() == [2, 3]


def test_nested_values_and_constants() -> None:
    done = apply(
        set={"city": "$.user.address.city", "region": "'amount'", "flag": True, "n": 5, "f": 1.5, "none": None},
        select=["id"],
    ).rows
    assert done.columns == ["id", "city", "region", "flag", "n", "f", "none"]
    assert done.row(0) == (1, "Ulm", "amount", True, 5, 1.5, None)
    assert done.schema["n"] == pl.Int64
    assert done["city"].to_list() == ["Ulm", None]


def test_only_constants_are_as_long_as_the_batch() -> None:
    done = apply(set={"a": 1, "b": "'x'"}, select=[]).rows
    assert done.rows() == [(1, "x"), (1, "x")]


def test_select_orders_and_keeps_what_set_makes() -> None:
    assert apply(set={"t": "1", "u": "2"}, select=["u", "note", "id"]).rows.columns == ["u", "note", "id", "t"]


def test_a_cast_that_fails_rejects_the_row_with_the_columns_name() -> None:
    rows = pl.DataFrame({"n": ["1", "x"], "m": ["2", "3"]})
    applied = apply(rows, set={"k": "CAST(m AS INT)"}, rename={"n": "number"}, cast={"number": "INT"})
    assert applied.rows.rows() == [(1, "2", 2)]
    assert applied.rejected is not None
    (bad,) = applied.rejected.rows(named=True)
    assert bad["message"] == "number: 'x' is not a BIGINT"
    assert json.loads(bad["record"]) == {"n": "x", "m": "3"}


def test_a_computed_column_may_be_cast() -> None:
    done = apply(set={"total": "amount * quantity"}, cast={"total": "VARCHAR"}).rows
    assert done["total"].to_list() == ["120", "210"]


def test_any_row_can_be_a_dead_letter() -> None:
    rows = pl.DataFrame(
        {
            "s": ["x"],
            "b": [b"\xff"],
            "d": [Decimal("1.50")],
            "t": [dt.datetime(2024, 1, 31)],
            "span": [dt.timedelta(seconds=1)],
            "f": [float("nan")],
            "l": [[{"a": 1}]],
            "u": pl.Series([2**64 - 1], dtype=pl.UInt64),
        }
    )
    rejected = apply(rows, cast={"s": "INT"}).rejected
    assert rejected is not None
    record = json.loads(rejected["record"][0])
    assert record == {
        **{"s": "x", "b": "/w==", "d": "1.50", "t": "2024-01-31T00:00:00", "span": "0:00:01", "f": None},
        **{"l": [{"a": 1}], "u": 2**64 - 1},
    }


def test_types_are_kept() -> None:
    """Row 184: what is not named passes as it is, to the bit."""
    rows = pl.DataFrame(
        {
            "i8": pl.Series([1, None], dtype=pl.Int8),
            "u64": pl.Series([2**64 - 1, None], dtype=pl.UInt64),
            "f32": pl.Series([1.5, None], dtype=pl.Float32),
            "m": [Decimal("1.25"), None],
            "b": [b"\x00\xff", None],
            "d": [dt.date(2024, 1, 31), None],
            "z": pl.Series([dt.datetime(2024, 1, 31), None], dtype=pl.Datetime("ns", "Europe/Berlin")),
            "nested": [[{"a": [1, None]}], None],
            "e": pl.Series(["x", None], dtype=pl.Enum(["x"])),
        }
    )
    done = apply(rows, set={"new": "1"}, rename={"m": "money"}).rows
    assert done.drop("new").rename({"money": "m"}).equals(rows)
    assert done.drop("new").rename({"money": "m"}).schema == rows.schema


def test_columns_that_nobody_wants_are_not_needed() -> None:
    transform = make(set={"total": "amount * 2.5", "n": "CAST(note AS INT)"}, rename={"ts": "at"}, drop=["quantity"])
    transform.bind(ROWS.schema)
    assert transform.needs(frozenset(["total", "at"])) == {"amount", "ts", "note"}  # note: its cast may fail
    done = transform.apply(ROWS.select("amount", "ts")).rows
    assert done.columns == ["amount", "at", "total"]  # what is there passes; what needs other columns is left out


def test_everything_wrong_is_told_at_once() -> None:
    found = problems(
        set={"a": "amont * 2", "b": "id +"},
        rename={"idd": "x", "id": "amount"},
        drop=["nte"],
        cast={"ts": "blob2", "quantity": "int"},
        select=["id", "q"],
    )
    by_path = {p.path: p for p in found}
    assert by_path["set.a"].hint == "did you mean 'amount'?"
    assert (by_path["set.a"].line, by_path["set.a"].column) == (1, 1)
    assert (by_path["set.b"].line, by_path["set.b"].column) == (1, 5)
    assert by_path["rename.idd"].hint == "did you mean 'id'?"
    assert "two columns 'amount'" in by_path["rename.id"].message
    assert by_path["drop"].hint == "did you mean 'note'?"
    assert "unknown type 'blob2'" in by_path["cast.ts"].message
    assert "made by cast and not selected" in " ".join(p.message for p in found if p.path == "select")


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"rename": {"ts": "at"}, "select": ["id", "ts"]}, "unknown column 'ts'", "rename made it 'at'"),
        ({"rename": {"ts": "at"}, "select": ["id"]}, "'at' is made by rename and not selected", "add 'at'"),
        ({"drop": ["ts"], "cast": {"ts": "INT"}}, "unknown column 'ts'", "drop leaves it out"),
        ({"set": {"k": "1"}, "drop": ["k"]}, "made by set and dropped", ""),
        ({"select": ["id", "id"]}, "named twice", ""),
        ({"drop": ROWS.columns}, "no column is left", ""),
        ({"rename": {"id": "ts"}}, "two columns 'ts'", "drop: [ts]"),
        ({"rename": {"id": ""}}, "the new name is empty", ""),
        ({"cast": {"user": "INT"}}, "cannot be cast to BIGINT", "address"),
    ],
)
def test_contradictions(options: dict[str, Any], message: str, hint: str) -> None:
    first = problems(**options)[0]
    assert message in first.message
    assert hint in first.hint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mappings": "uid->user_id, x -> null"}, r"write rename: \{uid: user_id\} and drop: \[x\]"),
        ({"mappings": {"uid": "user_id"}}, r"write rename: \{uid: user_id\}"),
        ({"mappings": '{"uid": "user_id"}'}, r"write rename: \{uid: user_id\}"),
        ({"mappings": 5}, "write rename: {old: new}"),
        ({"preserveUnmapped": "true"}, "every column is kept"),
        ({"set": {"a": dt.date(2024, 1, 31)}}, "DATE '2024-01-31'"),
        ({"set": {"a": [1]}}, "an expression, a number, true, false or null is wanted"),
        ({"sett": {}}, "Extra inputs"),
    ],
)
def test_other_shapes_are_refused_with_the_new_spelling(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make(**options)


def test_the_order_of_the_chain_is_the_order_of_the_file() -> None:
    """Row 181: doubling before filtering differs from filtering before doubling."""
    kind = component(Kind.TRANSFORM, "filter")
    doubled = make(set={"amount": "amount * 2"})
    above = kind.build(kind.config(where="amount > 65"), Context(pipeline="p"))
    counts = []
    for order in ([doubled, above], [above, doubled]):
        chain = Chain([Stage(f"transforms[{n}]", stage) for n, stage in enumerate(order)], OnRecord.FAIL)
        chain.bind(ROWS.schema)
        counts.append(chain.apply(ROWS).counters.written)
    assert counts == [2, 1]
