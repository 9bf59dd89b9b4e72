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
from dataflow.connectors.kafka.partitioner import murmur2, partition_of_key, partitions, unkeyed
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.errors import BadRecord, InvalidSpec


def config(**options: Any) -> KafkaSinkConfig:
    return KafkaSinkConfig(brokers="b:9092", topic="t", **options)


Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def by_partition(messages: Messages) -> dict[int, list[Message]]:
    """As readers of the topic find them."""
    found: dict[int, list[Message]] = {}
    for partition, batch in packed(messages, 2**20, 0, None):
        sent = DefaultRecordBatch(bytes(batch._build()))
        found.setdefault(partition, []).extend((r.key, r.value, list(r.headers)) for r in sent)
    return found


def messages_of(messages: Messages) -> list[Message]:
    """The same of a topic with one partition."""
    [(partition, found)] = by_partition(messages).items()
    assert partition == 0
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40), max_size=20))
def test_murmur2_is_that_of_the_client(keys: list[bytes | None]) -> None:
    hashes = murmur2(pl.Series(keys, dtype=pl.Binary)).tolist()
    assert len(hashes) == len(keys)
    for key, found in zip(keys, hashes, strict=True):
        assert key is None or found == reference(key) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("key", "expected"),  # from Kafka's own UtilsTest.testMurmur2
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_murmur2_is_that_of_java(key: bytes, expected: int) -> None:
    assert murmur2(pl.Series([key]))[0] == expected & 0xFFFFFFFF
    assert partition_of_key(key, 7) == (expected & 0x7FFFFFFF) % 7


def test_records_without_a_key_take_turns() -> None:
    assert unkeyed(3000, 3, 0).tolist() == [0] * 1000 + [1] * 1000 + [2] * 1000
    assert unkeyed(3000, 3, 2500).tolist() == [2] * 500 + [0] * 1000 + [1] * 1000 + [2] * 500
    mixed = partitions(pl.Series([None, b"21", None]), 5, 1000)
    assert mixed.tolist() == [1, partition_of_key(b"21", 5), 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 5))
def test_each_row_once_in_the_order_of_its_key(keys: list[int], count: int) -> None:
    rows = pl.DataFrame({"k": keys, "n": range(len(keys))}, schema={"k": pl.Int64, "n": pl.Int64})
    encoded = Encoder(config(key="k"), rows.schema).encode(rows, count, 0)
    seen = []
    for partition, messages in by_partition(encoded).items():
        for key, value, _ in messages:
            assert key is not None
            assert partition == partition_of_key(key, count)
            seen.append(json.loads(value or b""))
            assert str(seen[-1]["k"]).encode() == key
    assert sorted(row["n"] for row in seen) == list(range(len(keys)))
    for key in set(keys):
        mine = [row["n"] for row in seen if row["k"] == key]
        assert mine == sorted(mine)


def test_a_row_may_name_its_partition() -> None:
    rows = pl.DataFrame({"k": ["a", "b", "c"], "p": [2, None, 0]}, schema_overrides={"p": pl.UInt8})
    chosen = Encoder(config(key="k", partition="p", format="string", value="k"), rows.schema)
    expected: dict[int, list[bytes | None]] = {2: [b"a"]}
    expected.setdefault(0, []).append(b"c")
    expected.setdefault(partition_of_key(b"b", 3), []).append(b"b")
    found = by_partition(chosen.encode(rows, 3, 0))
    assert {place: sorted(value or b"" for _, value, _ in messages) for place, messages in found.items()} == {
        place: sorted(value or b"" for value in values) for place, values in expected.items()
    }
    with pytest.raises(BadRecord, match="no partition 2"):
        chosen.encode(rows, 2, 0)


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
    part = Encoder(config(), rows.schema).encode(rows, 1, 0)
    [(_, value, _)] = messages_of(part)
    found = json.loads(value or b"")
    assert found.pop("at").startswith("2024-01-02T03:04:05.006")
    assert found.pop("deep")["raws"] == ["YQ=="]
    assert found == {"day": "2024-01-02", "raw": "/w==", "took": "PT1H", "nan": None, "line": "a\nb"}


def test_a_null_struct_stays_null() -> None:
    rows = pl.DataFrame({"s": [None, {"b": b"a"}]}, schema={"s": pl.Struct({"b": pl.Binary})})
    part = Encoder(config(), rows.schema).encode(rows, 1, 0)
    assert [json.loads(value or b"") for _, value, _ in messages_of(part)] == [{"s": None}, {"s": {"b": "YQ=="}}]


def test_strings_keys_and_headers() -> None:
    rows = pl.DataFrame({"k": ["a", None], "v": [1.5, None], "l": [[1], [2]]})
    options = config(format="string", value="v", key="k", headers={"l": "l", "k": "k"})
    part = Encoder(options, rows.schema).encode(rows, 1, 0)
    assert messages_of(part) == [
        (b"a", b"1.5", [("l", b"[1]"), ("k", b"a")]),
        (None, None, [("l", b"[2]")]),
    ]
    only = Encoder(config(format="string"), pl.Schema({"v": pl.Float64})).encode(rows.select("v"), 1, 0)
    assert messages_of(only) == [(None, b"1.5", []), (None, None, [])]
    both = Encoder(config(headers={"k": "k"}), rows.schema).encode(rows, 1, 0)
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
