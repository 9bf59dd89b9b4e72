"""Messages to columns, and what is refused."""

from __future__ import annotations

import gc
import json
import sys
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.json_columns import columns_of
from dataflow.connectors.kafka.decode import BytesDecoder, JsonDecoder, StringDecoder, utf8
from dataflow.errors import Rejected

SCHEMA = pl.Schema({"n": pl.Int64, "x": pl.Float64, "s": pl.String, "in": pl.Struct({"b": pl.Boolean})})
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
        "s": st.none() | st.text(st.characters(blacklist_categories=["Cs"]), max_size=8),
        "in": st.none() | st.fixed_dictionaries({"b": st.booleans()}),
        "more": st.integers(0, 5),
    },
)
BAD = st.sampled_from(
    [b"", b"nope", b"[]", b"1", b"null", b'{"n":"x"}', b'{"n":1.5}', b"{} {}", b"{}\n{}", b'{"n":1}null']
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.just(True), VALUES) | st.tuples(st.just(False), BAD), max_size=12), st.booleans())
def test_each_message_is_a_row_or_a_refusal(given_: list[tuple[bool, Any]], spread: bool) -> None:
    messages = [json.dumps(v, indent=1 if spread else None).encode() if good else v for good, v in given_]
    decoded = JsonDecoder(SCHEMA).decode(messages)
    bad = [index for index, (good, _) in enumerate(given_) if not good]
    assert [refusal.index for refusal in decoded.refused] == bad
    assert decoded.kept is None or decoded.kept == [index for index in range(len(messages)) if index not in bad]
    assert decoded.rows.schema == SCHEMA
    expected = [v for good, v in given_ if good]
    found = decoded.rows.to_dicts()
    for row, value in zip(found, expected, strict=True):
        assert row["n"] == value.get("n")
        assert row["s"] == value.get("s")
        assert row["x"] == pytest.approx(value.get("x"))
        assert row["in"] in (value.get("in"), {"b": None})


def test_a_tombstone_is_a_row_of_nulls() -> None:
    assert JsonDecoder(SCHEMA).decode([None, b'{"n":1}']).rows["n"].to_list() == [None, 1]
    assert StringDecoder().decode([None, b"a"]).rows["value"].to_list() == [None, "a"]
    assert BytesDecoder().decode([None, b"\xff"]).rows["value"].to_list() == [None, b"\xff"]


def test_nothing_at_all() -> None:
    for decoder in (JsonDecoder(SCHEMA), StringDecoder(), BytesDecoder()):
        assert decoder.decode([]).rows.equals(decoder.schema.to_frame())


def test_declared_types() -> None:
    schema = pl.Schema(
        {
            "small": pl.Int16(),
            "big": pl.UInt64(),
            "price": pl.Decimal(18, 2),
            "day": pl.Date(),
            "at": pl.Datetime("us"),
            "tags": pl.List(pl.Int32()),
        }
    )
    message = (
        b'{"small":7,"big":18446744073709551615,"price":"1.25","day":"2024-01-02","at":"2024-01-02T03:04:05",'
        b'"tags":[1]}'
    )
    decoder = JsonDecoder(schema)
    row = decoder.decode([message]).rows.row(0, named=True)
    assert row == {
        "small": 7,
        "big": 2**64 - 1,
        "price": Decimal("1.25"),
        "day": date(2024, 1, 2),
        "at": datetime(2024, 1, 2, 3, 4, 5),
        "tags": [1],
    }
    refused = decoder.decode([b'{"small":40000}', b'{"day":"soon"}', b'{"price":"x"}', b'{"big":-1}', message]).refused
    assert [bad.index for bad in refused] == [0, 1, 2, 3]
    with pytest.raises(Rejected):
        JsonDecoder(pl.Schema({"raw": pl.Binary()}))


def test_text_that_is_not_utf8() -> None:
    decoded = StringDecoder().decode([b"a", b"\xff", "ü".encode()])
    assert decoded.rows["value"].to_list() == ["a", "ü"]
    assert decoded.kept == [0, 2]
    assert [bad.code for bad in decoded.refused] == ["BAD_TEXT"]
    text, bad = utf8(pl.Series([b"\xc3", None, b"b"], dtype=pl.Binary))
    assert (text.to_list(), bad) == ([None, None, "b"], [0])


def test_columns_from_a_sample() -> None:
    sample = [
        b'{"id":1,"x":1,"o":{"a":null,"l":[]},"late":null}',
        b"not json",
        b"[1]",
        b'{"id":2,"x":1.5,"o":{"l":[1,2.5]},"more":true,"big":99999999999999999999}',
        b'{"id":"x"}',
    ]
    assert columns_of(sample) == {
        "id": pl.Int64,
        "x": pl.Float64,
        "o": pl.Struct({"a": pl.String, "l": pl.List(pl.Float64)}),
        "late": pl.String,
        "more": pl.Boolean,
        "big": pl.String,
    }
    assert JsonDecoder(columns_of(sample)).decode(sample).kept == [0, 3]


def test_a_batch_leaves_no_memory_behind() -> None:
    """Each is small, but a topic brings some every second, for months."""
    decoder = JsonDecoder(pl.Schema({"n": pl.Int64}))
    values = [b'{"n":1}', b'{"n":2}']
    for _ in range(200):
        decoder.decode(values)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        decoder.decode(values)
    gc.collect()
    assert sys.getallocatedblocks() - before < 200
