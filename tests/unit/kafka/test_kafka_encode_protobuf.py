"""Columns to Protobuf: byte for byte what Google's own library writes, and read back by the source's decoder."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from google.protobuf import message_factory
from hypothesis import given
from hypothesis import strategies as st

from dataflow.connectors.kafka.encode_protobuf import ProtobufRows, proto_of
from dataflow.connectors.kafka.protobuf import ProtobufDecoder, ProtoFile
from dataflow.errors import BadRecord, InvalidSpec

MOMENT = dt.datetime(2024, 1, 2, 3, 4, 5, 6000)


def file_of(text: str) -> ProtoFile:
    def nowhere(name: str) -> str:
        raise AssertionError(name)

    return ProtoFile.of_text(text, "orders.proto", nowhere)


def encoded(file: ProtoFile, rows: pl.DataFrame, name: str | None = None) -> list[bytes]:
    found: list[bytes] = ProtobufRows(file.message(name), rows.schema).encode(rows, b"").to_pylist()
    return found


def read(file: ProtoFile, values: list[bytes], name: str | None = None) -> list[Any]:
    """By Google's library, which would have written the same bytes."""
    found = [message_factory.GetMessageClass(file.message(name)).FromString(value) for value in values]
    assert [message.SerializeToString(deterministic=True) for message in found] == values
    return found


def test_every_type_of_column() -> None:
    deep = [{"n": 1, "tags": ["a", ""]}, None, {"n": None, "tags": []}]
    rows = pl.DataFrame(
        {
            "n": [1, None, -(2**62)],
            "small": pl.Series([1, None, -5], dtype=pl.Int8),
            "huge": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64),
            "text": ["x", None, "é" * 100],
            "raw": [b"\0", None, b""],
            "yes": [True, None, False],
            "real": [0.1, None, -1e300],
            "single": pl.Series([1.5, None, 0], dtype=pl.Float32),
            "at": pl.Series([MOMENT, None, dt.datetime(1900, 1, 1)], dtype=pl.Datetime("ns", "UTC")),
            "took": pl.Series([dt.timedelta(seconds=-1.5), None, dt.timedelta(days=400)], dtype=pl.Duration("ns")),
            "deep": deep,
            "list": [[1, -2], [], [2**40]],
            "texts": [["a", ""], [], ["b" * 200]],
            "deeper": [[deep[0], deep[2]], [], [deep[0]]],
        }
    )
    odd = pl.concat(
        [
            pl.DataFrame(
                {
                    "price": [Decimal("1.50")],
                    "day": [dt.date(2024, 1, 1)],
                    "local": [MOMENT],
                    "time": [dt.time(1)],
                }
            )
        ]
        * 3
    )
    file = file_of(proto_of(pl.Schema({**rows.schema, **odd.schema}), "Order"))
    values = encoded(file, rows.hstack(odd))
    read(file, values)
    back = ProtobufDecoder(file.message(None), None).decode(values)
    assert not back.refused
    assert back.rows.select(rows.columns).equals(rows.with_columns(pl.col("small").cast(pl.Int32)))
    assert back.rows.select(odd.columns).row(0) == ("1.50", "2024-01-01", "2024-01-02T03:04:05.006000", "01:00:00")


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(max_size=200),
            st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
            st.none() | st.timedeltas(dt.timedelta(days=-9000), dt.timedelta(days=9000)),
        ),
        max_size=12,
    )
)
def test_any_values(values: list[Any]) -> None:
    columns = {"n": pl.Int64, "text": pl.String, "list": pl.List(pl.Int32), "took": pl.Duration("us")}
    rows = pl.DataFrame(values, schema=columns, orient="row")
    file = file_of(proto_of(rows.schema, "Row"))
    for some in (rows, rows[len(values) // 2 :]):
        found = read(file, encoded(file, some))
        assert [(m.n if m.HasField("n") else None, list(m.list)) for m in found] == some.select("n", "list").rows()
        took = [m.took.ToTimedelta() if m.HasField("took") else None for m in found]
        assert took == some["took"].to_list()


GIVEN = """
syntax = "proto3";
package shop;
import "google/protobuf/wrappers.proto";
message Other { int64 x = 1; message Inner { sint64 z = 3; } }
message Order {
  enum Color { RED = 0; BLUE = 7; }
  sint32 s = 1;  fixed64 f = 2;  sfixed32 g = 300;
  Color color = 4;
  repeated Color colors = 5;
  repeated int32 loose = 6 [packed = false];
  map<string, Other> others = 7;
  google.protobuf.StringValue maybe = 8;
  oneof pick { string a = 9; int64 b = 10; }
  int64 unused = 11;
}
"""


def test_a_schema_of_somebody_else() -> None:
    rows = pl.DataFrame(
        {
            "s": [-5, None],
            "f": [2**63, None],
            "g": [-1, None],
            "color": ["BLUE", None],
            "colors": [["RED", "BLUE"], None],
            "loose": [[1, -1], None],
            "others": [[{"key": "a", "value": {"x": 1}}], None],
            "maybe": ["m", None],
            "a": [None, "x"],
            "b": [4, None],
        },
        schema_overrides={"f": pl.UInt64},
    )
    file = file_of(GIVEN)
    first, second = read(file, encoded(file, rows, "shop.Order"), "shop.Order")
    assert (first.s, first.f, first.g, first.color, list(first.colors)) == (-5, 2**63, -1, 7, [0, 7])
    assert (list(first.loose), first.others["a"].x, first.maybe.value, first.b) == ([1, -1], 1, "m", 4)
    assert (second.s, second.HasField("maybe"), second.WhichOneof("pick")) == (0, False, "a")
    inner = ProtobufRows(file.message("shop.Other.Inner"), pl.Schema({"z": pl.Int64}))
    assert (inner.indices, ProtobufRows(file.message("shop.Other"), pl.Schema({"x": pl.Int64})).indices) == (
        b"\4\0\0", b"\0",
    )  # fmt: skip
    assert ProtobufRows(file.message("shop.Order"), rows.schema).indices == b"\2\2"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1]}, "no field for the column 'x'"),
        ({"s": ["x"]}, "column 's' is VARCHAR, the schema wants sint32"),
        ({"color": [1.5]}, "the schema wants shop.Order.Color"),
        ({"colors": ["RED"]}, "a list of shop.Order.Color"),
        ({"others": [[{"key": "a", "value": {"y": 1}}]]}, "no field for the column 'others"),
    ],
)
def test_columns_that_do_not_fit(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        ProtobufRows(file_of(GIVEN).message("shop.Order"), pl.DataFrame(columns).schema)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"s": [2**31]}, "s does not fit"),
        ({"color": ["GREEN"]}, "'GREEN' is none of RED, BLUE"),
        ({"loose": [[1, None]]}, "an item is NULL"),
        ({"a": ["x"], "b": [1]}, "a and b does not fit the schema: only one"),
    ],
)
def test_rows_that_do_not_fit(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRecord, match=message):
        encoded(file_of(GIVEN), pl.DataFrame(columns), "shop.Order")


def test_numbers_of_fields_are_for_ever() -> None:
    def derived(columns: dict[str, Any], former: str) -> str:
        return proto_of(pl.Schema(columns), "Row", file_of(former).message(None))

    first = proto_of(pl.Schema({"a": pl.Int64, "b": pl.Struct({"x": pl.Int64, "y": pl.Int64})}), "Row")
    second = derived({"c": pl.String, "b": pl.Struct({"y": pl.Int64, "z": pl.Int64})}, first)
    assert [(f.name, f.number) for f in file_of(second).message(None).fields] == [("b", 2), ("c", 3)]
    assert [(f.name, f.number) for f in file_of(second).message("Row.BValue").fields] == [("y", 2), ("z", 3)]
    third = derived({"a": pl.Float64, "c": pl.String}, second)
    assert [(f.name, f.number) for f in file_of(third).message(None).fields] == [("c", 3), ("a", 4)]
    assert derived({"a": pl.Float64, "c": pl.String}, third) == third  # so it is registered once


def test_columns_that_protobuf_does_not_have() -> None:
    for columns, message in (({"l": pl.List(pl.List(pl.Int64))}, "'l'"), ({"a b": pl.Int64}, "'a b' cannot")):
        with pytest.raises(InvalidSpec, match=message):
            proto_of(pl.Schema(columns), "Row")
