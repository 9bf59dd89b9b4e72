"""Rows to messages: bytes, and the partition each one goes to."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from aiokafka.partitioner import murmur2 as reference
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflow.connectors.kafka.encode import Encoder
from dataflow.connectors.kafka.pack import Messages, packed
from dataflow.connectors.kafka.partitioner import murmur2, partition_of_key, partitions
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.errors import BadRecord, InvalidSpec


def config(**options: Any) -> KafkaSinkConfig:
    return KafkaSinkConfig(brokers="b:9092", topic="t", **options)


def messages_of(part: Messages) -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]:
    """As a reader of the topic finds them."""
    sent = [DefaultRecordBatch(bytes(one._build())) for one in packed(part, 2**20, 0, None)]
    return [(record.key, record.value, list(record.headers)) for one in sent for record in one]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40), max_size=20))
def test_murmur2_is_that_of_the_client(keys: list[bytes | None]) -> None:
    hashes = murmur2(pl.Series(keys, dtype=pl.Binary)).to_list()
    assert hashes == [None if key is None else reference(key) & 0xFFFFFFFF for key in keys]


@pytest.mark.parametrize(
    ("key", "expected"),  # from Kafka's own UtilsTest.testMurmur2
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_murmur2_is_that_of_java(key: bytes, expected: int) -> None:
    assert murmur2(pl.Series([key]))[0] == expected & 0xFFFFFFFF
    assert partition_of_key(key, 7) == (expected & 0x7FFFFFFF) % 7


def test_records_without_a_key_take_turns() -> None:
    none = pl.Series([None] * 3000, dtype=pl.Binary)
    assert partitions(none, 3, 0).rle().struct.unnest().rows() == [(1000, 0), (1000, 1), (1000, 2)]
    assert partitions(none, 3, 2500).rle().struct.unnest().rows() == [(500, 2), (1000, 0), (1000, 1), (500, 2)]
    mixed = partitions(pl.Series([None, b"21", None]), 5, 1000)
    assert mixed.to_list() == [1, partition_of_key(b"21", 5), 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5))
def test_each_row_once_in_the_order_of_its_key(keys: list[int], count: int) -> None:
    rows = pl.DataFrame({"k": keys, "n": range(len(keys))}, schema={"k": pl.Int64, "n": pl.Int64})
    encoded = Encoder(config(key="k"), rows.schema).encode(rows, count, 0)
    assert len({part.partition for part in encoded}) == len(encoded)
    seen = []
    for part in encoded:
        assert part.keys is not None
        for key, value, _ in messages_of(part):
            assert key is not None
            assert part.partition == partition_of_key(key, count)
            seen.append(json.loads(value or b""))
            assert str(seen[-1]["k"]).encode() == key
    assert sorted(row["n"] for row in seen) == list(range(len(keys)))
    for key in set(keys):
        mine = [row["n"] for row in seen if row["k"] == key]
        assert mine == sorted(mine)


def test_types_that_json_lacks() -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
    rows = pl.DataFrame(
        {
            "at": [moment],
            "day": [date(2024, 1, 2)],
            "raw": [b"\xff"],
            "took": [timedelta(hours=1)],
            "nan": [float("nan")],
            "deep": [{"raws": [b"a"], "none": None, "at": moment}],
            "line": ["a\nb"],
        }
    )
    [part] = Encoder(config(), rows.schema).encode(rows, 1, 0)
    [(_, value, _)] = messages_of(part)
    found = json.loads(value or b"")
    assert found.pop("at").startswith("2024-01-02T03:04:05.006")
    assert found.pop("deep")["raws"] == ["YQ=="]
    assert found == {"day": "2024-01-02", "raw": "/w==", "took": "PT1H", "nan": None, "line": "a\nb"}


def test_a_null_struct_stays_null() -> None:
    rows = pl.DataFrame({"s": [None, {"b": b"a"}]}, schema={"s": pl.Struct({"b": pl.Binary})})
    [part] = Encoder(config(), rows.schema).encode(rows, 1, 0)
    assert [json.loads(value or b"") for _, value, _ in messages_of(part)] == [{"s": None}, {"s": {"b": "YQ=="}}]


def test_strings_keys_and_headers() -> None:
    rows = pl.DataFrame({"k": ["a", None], "v": [1.5, None], "l": [[1], [2]]})
    options = config(format="string", value="v", key="k", headers={"l": "l", "k": "k"})
    [part] = Encoder(options, rows.schema).encode(rows, 1, 0)
    assert messages_of(part) == [
        (b"a", b"1.5", [("l", b"[1]"), ("k", b"a")]),
        (None, None, [("l", b"[2]")]),
    ]
    [only] = Encoder(config(format="string"), pl.Schema({"v": pl.Float64})).encode(rows.select("v"), 1, 0)
    assert messages_of(only) == [(None, b"1.5", []), (None, None, [])]
    [both] = Encoder(config(headers={"k": "k"}), rows.schema).encode(rows, 1, 0)
    assert messages_of(both)[0] == (None, b'{"k":"a","v":1.5,"l":[1]}', [("k", b"a")])


def test_what_does_not_fit_the_rows() -> None:
    schema = pl.Schema({"name": pl.String, "n": pl.Int64})
    for options, path in (
        ({"key": "nam"}, "key"),
        ({"headers": {"h": "1 +"}}, "headers.h"),
        ({"format": "string"}, "value"),
    ):
        with pytest.raises(InvalidSpec) as wrong:
            Encoder(config(**options), schema)
        assert wrong.value.problems[0].path == path
    rows = pl.DataFrame({"name": ["x"], "n": [1]})
    with pytest.raises(BadRecord):
        Encoder(config(key="CAST(name AS INT)"), schema).encode(rows, 1, 0)
