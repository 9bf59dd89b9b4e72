"""flatmap: children of text and lists, their ids and numbers, and the count of rows."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dataflow.components import Kind
from dataflow.errors import InvalidSpec, Problem
from dataflow.registry import component
from dataflow.seams import Applied, Context
from dataflow.transforms.flatmap import FlatMapTransform, singular

ROWS = pl.DataFrame(
    {
        "id": [7, 8, 9],
        "tags": ["a, b ,,c", " , ", None],
        "items": [[{"sku": "x"}, {"sku": "y"}], [], None],
        "order": [{"lines": [1, None]}, {"lines": []}, None],
        "n": [1, 2, 3],
    }
)


def make(**options: Any) -> FlatMapTransform:
    kind = component(Kind.TRANSFORM, "flatmap")
    transform: FlatMapTransform = kind.build(kind.config(**options), Context(pipeline="p"))
    return transform


def apply(rows: pl.DataFrame = ROWS, **options: Any) -> Applied:
    transform = make(**options)
    schema = transform.bind(rows.schema)
    applied = transform.apply(rows)
    assert applied.rows.schema == schema
    assert rows.height + applied.expanded == applied.rows.height + applied.filtered
    return applied


def problem(rows: pl.DataFrame = ROWS, **options: Any) -> Problem:
    with pytest.raises(InvalidSpec) as caught:
        make(**options).bind(rows.schema)
    return caught.value.problems[0]


def test_text_is_cut_trimmed_and_empty_parts_left_out() -> None:
    applied = apply(field="tags")
    assert applied.rows.select("id", "tag", "parent_id", "split_index", "n").rows() == [
        ("7-0", "a", 7, 0, 1),
        ("7-1", "b", 7, 1, 1),
        ("7-2", "c", 7, 2, 1),
    ]
    assert "tags" not in applied.rows.columns
    assert (applied.filtered, applied.expanded) == (2, 2)


def test_lists_of_structs() -> None:
    applied = apply(field="items")
    assert applied.rows["item"].to_list() == [{"sku": "x"}, {"sku": "y"}]
    assert applied.rows["id"].to_list() == ["7-0", "7-1"]


def test_a_path_into_a_struct_and_null_elements_are_kept() -> None:
    applied = apply(field="order.lines", into="line")
    assert applied.rows.select("line", "split_index").rows() == [(1, 0), (None, 1)]
    assert "order" in applied.rows.columns


def test_an_array_is_a_list() -> None:
    rows = pl.DataFrame({"xs": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))})
    assert apply(rows, field="xs", into="x").rows.rows() == [(1, 0), (2, 1), (3, 0), (4, 1)]


@pytest.mark.parametrize(("delimiter", "parts"), [("|", ["a", "b,c"]), ("||", ["a|b,c"]), (";", ["a|b,c"])])
def test_other_delimiters(delimiter: str, parts: list[str]) -> None:
    rows = pl.DataFrame({"tags": ["a|b,c"]})
    assert apply(rows, field="tags", delimiter=delimiter).rows["tag"].to_list() == parts


def test_without_the_parent() -> None:
    assert apply(field="tags", keep_parent=False).rows.columns == ["id", "tag", "parent_id", "split_index"]
    assert apply(field="tags", keep_parent=False, id=None, index=None).rows.columns == ["tag"]


def test_without_ids_and_numbers() -> None:
    done = apply(field="tags", id=None, index=None).rows
    assert done.columns == ["id", "tag", "items", "order", "n"]
    assert done["id"].to_list() == [7, 7, 7]


def test_rows_without_an_id_get_numbers_only() -> None:
    assert apply(ROWS.drop("id"), field="tags").rows.columns == ["tag", "items", "order", "n", "split_index"]


def test_other_names() -> None:
    done = apply(field="tags", into="word", id="n", parent="of", index="at").rows
    assert done.select("n", "of", "at", "word").row(1) == ("1-1", 1, 1, "b")


def test_only_what_is_wanted_is_needed() -> None:
    transform = make(field="tags")
    transform.bind(ROWS.schema)
    wanted = transform.needs(frozenset(["tag"]))
    assert wanted == {"tags", "id"}
    assert transform.apply(ROWS.select("id", "tags")).rows.columns == ["id", "tag", "parent_id", "split_index"]


@pytest.mark.parametrize(
    ("options", "path", "message", "hint"),
    [
        ({"field": "tgas"}, "field", "unknown column 'tgas'", "did you mean 'tags'?"),
        ({"field": "order.line"}, "field", "unknown field 'line'", "did you mean 'lines'?"),
        ({"field": "n"}, "field", "'n' is BIGINT", "only lists and text"),
        ({"field": "tags", "into": "n"}, "into", "a column 'n' already", "another name"),
        ({"field": "tags", "index": "n"}, "index", "a column 'n' already", "null to leave it out"),
        ({"field": "tags", "index": "tag"}, "into", "a column 'tag' already", ""),
        ({"field": "tags", "id": "idd"}, "id", "unknown column 'idd'", "did you mean 'id'?"),
    ],
)
def test_refused(options: dict[str, Any], path: str, message: str, hint: str) -> None:
    found = problem(**options)
    assert found.path == path
    assert message in found.message
    assert hint in found.hint


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"splitField": "tags"}, "write field: tags"),
        ({"field": "tags", "targetField": "tag"}, "write into: tag"),
        ({"field": "tags", "preserveParent": True}, "write keep_parent: true"),
        ({}, "Field required"),
    ],
)
def test_old_options_and_missing_ones(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make(**options)


@pytest.mark.parametrize(
    ("many", "one"),
    [
        *(("tags", "tag"), ("categories", "category"), ("boxes", "box"), ("matches", "match"), ("houses", "house")),
        *(("address", "address"), ("status", "status"), ("data", "data"), ("s", "s")),
    ],
)
def test_singular(many: str, one: str) -> None:
    assert singular(many) == one


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=4), max_size=8), cut=st.integers(0, 8)
)
def test_batches_change_nothing(lists: list[list[int | None] | None], cut: int) -> None:
    rows = pl.DataFrame({"id": range(len(lists)), "xs": lists}, schema={"id": pl.Int64, "xs": pl.List(pl.Int64)})
    whole, first, second = (apply(part, field="xs", into="x") for part in (rows, rows.head(cut), rows.slice(cut)))
    assert pl.concat([first.rows, second.rows]).equals(whole.rows)
    assert whole.rows["x"].to_list() == [x for xs in lists for x in xs or []]
    assert whole.rows["id"].is_unique().all()
    assert first.filtered + second.filtered == whole.filtered == sum(not xs for xs in lists)
