"""Columns to Avro: read back by fastavro, and by the source's own decoder."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.connectors.kafka.avro import AvroDecoder, AvroSchema
from dataflow.connectors.kafka.encode_avro import AvroRows, schema_of
from dataflow.errors import BadRecord, InvalidSpec

MOMENT = dt.datetime(2024, 1, 2, 3, 4, 5, 6000)


def record(**fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Order", "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def encoded(schema: Any, rows: pl.DataFrame) -> list[bytes]:
    found: list[bytes] = AvroRows(AvroSchema(json.dumps(schema)), rows.schema).encode(rows, b"").to_pylist()
    return found


def read(schema: Any, values: list[bytes]) -> list[Any]:
    """By fastavro, to the last byte."""
    parsed, found = fastavro.parse_schema(schema), []
    for value in values:
        source = io.BytesIO(value)
        found.append(fastavro.schemaless_reader(source, parsed))
        assert source.tell() == len(value)
    return found


def everything() -> pl.DataFrame:
    deep = [{"n": 1, "tags": ["a", None]}, None, {"n": None, "tags": None}]
    return pl.DataFrame(
        {
            "n": [1, None, -(2**62)],
            "small": pl.Series([1, None, -5], dtype=pl.Int8),
            "huge": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64),
            "text": ["x", None, "é" * 100],
            "kind": pl.Series(["a", None, "b"], dtype=pl.Categorical),
            "raw": [b"\0", None, b""],
            "yes": [True, None, False],
            "real": [0.1, None, -1e300],
            "single": pl.Series([1.5, None, 0], dtype=pl.Float32),
            "price": [Decimal("1.50"), None, Decimal("-128.00")],
            "day": [dt.date(2024, 1, 1), None, dt.date(1900, 1, 1)],
            "at": pl.Series([MOMENT, None, dt.datetime(1900, 1, 1)], dtype=pl.Datetime("us", "UTC")),
            "local": [MOMENT, None, MOMENT],
            "time": [dt.time(1, 2, 3, 4), None, dt.time(0)],
            "list": [[1, None], None, []],
            "deep": deep,
            "deeper": [[deep[0], None], None, [deep[2]]],
            "nothing": [None, None, None],
        }
    )


def test_every_type_of_column() -> None:
    rows = everything()
    schema = schema_of(rows.schema, "Order")
    values = encoded(json.loads(schema), rows)
    expected = rows.rows(named=True)
    assert read(json.loads(schema), values) == [
        row | {"at": row["at"] and row["at"].replace(tzinfo=dt.UTC), "huge": row["huge"] and Decimal(row["huge"])}
        for row in expected
    ]
    parsed = AvroSchema(schema)
    back = AvroDecoder(parsed, parsed.columns(), None).decode(values)
    assert not back.refused
    assert back.rows.select("n", "text", "raw", "real", "day", "at", "local", "time", "list", "deep", "deeper").equals(
        rows.select("n", "text", "raw", "real", "day", "at", "local", "time", "list", "deep", "deeper")
    )


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(max_size=200),
            st.none() | st.lists(st.none() | st.binary(max_size=3), max_size=4),
            st.none() | st.decimals(-(10**20), 10**20, places=3),
        ),
        max_size=12,
    )
)
def test_any_values(values: list[Any]) -> None:
    columns = {"n": pl.Int64, "text": pl.String, "raws": pl.List(pl.Binary), "price": pl.Decimal(30, 3)}
    rows = pl.DataFrame(values, schema=columns, orient="row")
    schema = json.loads(schema_of(rows.schema, "Row"))
    assert read(schema, encoded(schema, rows)) == rows.rows(named=True)
    half = rows[len(values) // 2 :]  # a part of a buffer
    assert read(schema, encoded(schema, half)) == half.rows(named=True)


def test_a_schema_of_somebody_else() -> None:
    color = {"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]}
    place = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": ["string", "null"]}]}
    schema = record(
        n="int",
        real="double",
        color=color,
        other=["null", "Color"],
        here=place,
        there=["null", "Place"],
        hash={"type": "fixed", "name": "Hash", "size": 2},
        price={"type": "fixed", "name": "Price", "size": 20, "logicalType": "decimal", "precision": 30, "scale": 2},
        at={"type": "long", "logicalType": "timestamp-millis"},
        counts={"type": "map", "values": ["null", "long"]},
        any=["null", "string", "long", "boolean"],
        text="bytes",
        id={"type": "string", "logicalType": "uuid"},
    )
    schema["fields"] += [
        {"name": "more", "type": ["null", "string"], "default": None},
        {"name": "count", "type": "long", "default": 7},
        {"name": "next", "type": ["null", "Order"], "default": None},
    ]
    rows = pl.DataFrame(
        {
            "real": [1, 2],  # columns come in any order
            "n": [5, 6],
            "color": ["BLUE", "RED"],
            "other": [None, "BLUE"],
            "here": [{"city": "Oslo"}, {"city": None}],
            "there": [None, {"city": "Rome"}],
            "hash": [b"ab", b"cd"],
            "price": pl.Series(["1.5", "-2"]).cast(pl.Decimal(10, 1)),
            "at": [MOMENT, MOMENT],
            "counts": [[{"key": "a", "value": 1}, {"key": "b", "value": None}], []],
            "any": pl.Series(
                [{"string": None, "boolean": True}, {"string": "x", "boolean": None}],
                dtype=pl.Struct({"string": pl.String, "boolean": pl.Boolean}),
            ),
            "text": ["a", "b"],
            "id": ["1" * 8 + "-1111-1111-1111-" + "1" * 12] * 2,
        }
    )
    first, second = read(schema, encoded(schema, rows))
    assert (first["n"], first["real"], first["color"], first["other"]) == (5, 1.0, "BLUE", None)
    assert (second["there"], second["here"], second["hash"], second["any"]) == (
        {"city": "Rome"}, {"city": None}, b"cd", "x",
    )  # fmt: skip
    assert (first["price"], second["price"]) == (Decimal("1.50"), Decimal("-2.00"))
    assert first["at"] == MOMENT.replace(microsecond=6000, tzinfo=dt.UTC)
    assert (first["counts"], second["counts"], first["any"]) == ({"a": 1, "b": None}, {}, True)
    assert (first["more"], first["count"], first["next"], first["text"]) == (None, 7, None, b"a")


def test_one_column_of_a_schema_that_is_no_record() -> None:
    assert encoded("long", pl.DataFrame({"value": [-1]})) == [b"\1"]


@pytest.mark.parametrize(
    ("schema", "column", "message"),
    [
        (record(n="long"), {"m": [1]}, "no column 'n'"),
        (record(n="long"), {"n": [1], "m": [1]}, "no field for the column 'm'"),
        (record(n="long"), {"n": ["x"]}, "column 'n' is VARCHAR, the schema wants long"),
        (record(n=record(m="string")), {"n": [{"m": 1}]}, "column 'n.m'"),
        (record(n=["null", "string", "boolean"]), {"n": [1]}, "column 'n'"),
        (record(n={"type": "long", "logicalType": "local-timestamp-millis"}), {"n": [1]}, "local-timestamp-millis"),
        ("long", {"n": [1], "m": [1]}, "no record"),
    ],
)
def test_columns_that_do_not_fit(schema: Any, column: dict[str, Any], message: str) -> None:
    if isinstance(schema, dict) and isinstance(schema["fields"][0]["type"], dict):
        schema["fields"][0]["type"]["name"] = "Inner"
    with pytest.raises(InvalidSpec, match=message) as refused:
        AvroRows(AvroSchema(json.dumps(schema)), pl.DataFrame(column).schema)
    assert refused.value.problems[0].path == "schema"


@pytest.mark.parametrize(
    ("schema", "column", "message"),
    [
        (record(n="long"), [1, None], "n does not fit the schema: it is NULL"),
        (record(n="int"), [2**31], "n does not fit"),
        (record(n=["string", "long"]), [None, 1], "NULL"),
        (record(n={"type": "enum", "name": "E", "symbols": ["A"]}), ["A", "B"], "'B' is none of A"),
        (record(n={"type": "fixed", "name": "F", "size": 2}), [b"abc"], "2 bytes"),
        (record(n={"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 0}), [1000], "n does not fit"),
        (record(n={"type": "array", "items": "long"}), [[1, None]], r"n\[\] does not fit"),
    ],
)
def test_rows_that_do_not_fit(schema: Any, column: list[Any], message: str) -> None:
    with pytest.raises(BadRecord, match=message):
        encoded(schema, pl.DataFrame({"n": column}))


def test_columns_that_avro_does_not_have() -> None:
    for columns, message in (({"took": pl.Duration("us")}, "took"), ({"a b": pl.Int64}, "'a b' cannot be the name")):
        with pytest.raises(InvalidSpec, match=message):
            schema_of(pl.Schema(columns), "Row")
