"""Avro to columns: types, evolution, what cannot be read; and the registry that knows the schemas."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.connectors.kafka.avro import AvroDecoder, AvroSchema, registered, whole, writers_of
from dataflow.connectors.kafka.encode_avro import AvroRows
from dataflow.connectors.kafka.registry import HEADER, Reference, Registry, RegistryConfig
from dataflow.errors import NotFound, Rejected, Retryable
from tests.registry_server import RegistryServer, serving


def record(**fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Order", "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def optional(kind: Any) -> dict[str, Any]:
    return {"type": ["null", kind], "default": None}


def encoded(schema: Any, *values: Any) -> list[bytes]:
    parsed, found = fastavro.parse_schema(schema), []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, value)
        found.append(out.getvalue())
    return found


def decoder(schema: Any, writers: Any = None) -> AvroDecoder:
    parsed = AvroSchema(json.dumps(schema))
    return AvroDecoder(parsed, parsed.columns(), writers)


EVERYTHING = record(
    flag="boolean",
    small="int",
    large="long",
    single="float",
    double="double",
    raw="bytes",
    text="string",
    maybe=["null", "string"],
    color={"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]},
    fixed={"type": "fixed", "name": "Four", "size": 4},
    price={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
    day={"type": "int", "logicalType": "date"},
    clock={"type": "long", "logicalType": "time-micros"},
    at={"type": "long", "logicalType": "timestamp-millis"},
    micros=["null", {"type": "long", "logicalType": "timestamp-micros"}],
    local={"type": "long", "logicalType": "local-timestamp-micros"},
    key={"type": "string", "logicalType": "uuid"},
    tags={"type": "array", "items": ["null", "string"]},
    counts={"type": "map", "values": {"type": "array", "items": {"type": "int", "logicalType": "date"}}},
    inner={
        "type": "record",
        "name": "Inner",
        "fields": [{"name": "n", "type": "long"}, {"name": "again", "type": "Color"}],
    },
)
DAY = dt.date(2026, 3, 1)
AT = dt.datetime(2026, 3, 1, 12, 30, 1, 5000, tzinfo=dt.UTC)
VALUE: dict[str, Any] = {
    "flag": True,
    "small": -1,
    "large": 2**62,
    "single": 1.5,
    "double": 0.1,
    "raw": b"\xff",
    "text": "é",
    "maybe": None,
    "color": "BLUE",
    "fixed": b"abcd",
    "price": Decimal("-12.50"),
    "day": DAY,
    "clock": dt.time(1, 2, 3, 4),
    "at": AT,
    "micros": AT,
    "local": AT.replace(tzinfo=None),
    "key": UUID(int=7),
    "tags": ["a", None],
    "counts": {"x": [DAY], "y": []},
    "inner": {"n": 5, "again": "RED"},
}


def test_every_type() -> None:
    found = decoder(EVERYTHING).decode([*encoded(EVERYTHING, VALUE, {**VALUE, "micros": None}), None])
    assert found.refused == []
    first, second, none = found.rows.rows(named=True)
    pairs = [{"key": "x", "value": [DAY]}, {"key": "y", "value": []}]
    assert first == {**VALUE, "key": str(UUID(int=7)), "counts": pairs}
    assert second["micros"] is None
    assert set(none.values()) == {None}
    assert found.rows.schema["price"] == pl.Decimal(9, 2)
    assert found.rows.schema["at"] == pl.Datetime("ms", "UTC")
    assert found.rows.schema["small"] == pl.Int32


@given(st.lists(st.fixed_dictionaries({"n": st.integers(-(2**63), 2**63 - 1), "t": st.none() | st.text()})))
def test_what_was_written_is_read(values: list[dict[str, Any]]) -> None:
    schema = record(n="long", t=["null", "string"])
    assert decoder(schema).decode(encoded(schema, *values)).rows.rows(named=True) == values


def test_values_of_several_types_are_structs() -> None:
    color = {"type": "enum", "name": "Color", "symbols": ["RED"]}
    place = {"type": "record", "name": "Place", "namespace": "shop", "fields": [{"name": "city", "type": "string"}]}
    other = {**place, "namespace": "other", "fields": [{"name": "zip", "type": "int"}]}
    price = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
    counts = {"type": "map", "values": ["null", "string", "long"]}
    schema = record(
        any=["null", "string", "int", "long", "double", "boolean", color, place],
        same=["shop.Place", other],
        more=["null", price, {"type": "int", "logicalType": "time-millis"}, {"type": "array", "items": "long"}, counts],
        here=["null", "shop.Place"],
        there="shop.Place",
    )
    any_of = ["x", 2**40, 7, 0.5, True, ("Color", "RED"), ("shop.Place", {"city": "Oslo"}), None]
    more = [Decimal("1.50"), dt.time(1), [1, 2], {"a": "x", "b": 1, "c": None}, None, None, None, None]
    values = [
        {
            "any": one,
            "same": ("shop.Place", {"city": "Rome"}) if number % 2 else ("other.Place", {"zip": number}),
            "more": more[number],
            "here": {"city": "Bonn"} if number else None,
            "there": {"city": "Kiel"},
        }
        for number, one in enumerate(any_of)
    ]
    found = decoder(schema).decode(encoded(schema, *values))
    assert not found.refused
    assert dict(found.rows.schema["any"]) == {
        "string": pl.String,
        "long": pl.Int64,
        "double": pl.Float64,
        "boolean": pl.Boolean,
        "Color": pl.String,
        "Place": pl.Struct({"city": pl.String}),
    }

    def chosen(column: str) -> list[Any]:
        rows = found.rows[column].to_list()
        return [row and next(((k, v) for k, v in row.items() if v is not None), None) for row in rows]

    assert chosen("any") == [
        ("string", "x"),
        ("long", 2**40),
        ("long", 7),
        ("double", 0.5),
        ("boolean", True),
        ("Color", "RED"),
        ("Place", {"city": "Oslo"}),
        None,
    ]
    assert chosen("same")[:2] == [("other.Place", {"zip": 0}), ("shop.Place", {"city": "Rome"})]
    pairs = [(pair["key"], pair["value"]) for pair in chosen("more")[3][1]]
    assert pairs == [("a", {"string": "x", "long": None}), ("b", {"string": None, "long": 1}), ("c", None)]
    assert chosen("more")[:3] == [("bytes", Decimal("1.50")), ("int", dt.time(1)), ("array", [1, 2])]
    assert [found.rows["here"][0], found.rows["here"][1], found.rows["there"][0]] == [
        None,
        {"city": "Bonn"},
        {"city": "Kiel"},
    ]
    back = AvroRows(AvroSchema(json.dumps(schema)), found.rows.schema).encode(found.rows, b"").to_pylist()
    assert decoder(schema).decode(back).rows.equals(found.rows)  # and the sink writes them as they came


def test_what_is_no_record_is_one_column() -> None:
    assert decoder("long").decode(encoded("long", 7)).rows.rows() == [(7,)]


@given(st.binary(max_size=60))
def test_noise_is_refused_and_never_raises(noise: bytes) -> None:
    found = decoder(EVERYTHING).decode([noise, *encoded(EVERYTHING, VALUE)])
    assert found.rows.height + len(found.refused) == 2
    assert all(bad.index == 0 and bad.code == "BAD_AVRO" for bad in found.refused)


def test_left_over_bytes_are_refused() -> None:
    good = encoded(record(n="long"), {"n": 1})[0]
    found = decoder(record(n="long")).decode([good, good + b"x"])
    assert (found.rows.rows(), found.kept, [bad.index for bad in found.refused]) == ([(1,)], [0], [1])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("nothing", "not an Avro schema"),
        (record(a=["int", {"type": "long", "logicalType": "timestamp-millis"}]), "a may be int or long, which cannot"),
        (record(next=["null", "Order"]), "holds itself"),
        ({"type": "record", "name": "X"}, "no fields"),
    ],
)
def test_schemas_that_are_no_columns(schema: Any, message: str) -> None:
    with pytest.raises(Rejected, match=message) as refused:
        decoder(schema)
    assert refused.value.code == "BAD_SCHEMA"


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with serving(RegistryServer()) as running:
        yield running


def registry(server: RegistryServer, **options: Any) -> Registry:
    return Registry(RegistryConfig(**{"url": server.url, **options}), Path(), 5)


def framed(number: int, value: bytes) -> bytes:
    return HEADER.pack(0, number) + value


def test_values_are_fitted_to_the_pinned_schema(server: RegistryServer) -> None:
    older = record(n="int", gone="string")
    newer = record(n="long", more=["null", "string"])
    newer["fields"][1]["default"] = None
    other = record(n="string")
    ids = [server.register("orders-value", json.dumps(schema)) for schema in (older, newer, other)]
    values = [
        framed(ids[0], encoded(older, {"n": 1, "gone": "x"})[0]),
        framed(ids[1], encoded(newer, {"n": 2, "more": "y"})[0]),
        framed(ids[2], encoded(other, {"n": "z"})[0]),
        framed(77, b"\0"),
        b"bare",
        None,
    ]
    known = registry(server)
    found = decoder(newer, writers_of(known)).decode(values)
    assert found.rows.rows() == [(1, None), (2, "y"), (None, None)]
    assert [(bad.index, bad.code) for bad in found.refused] == [
        (2, "BAD_AVRO"),
        (3, "UNKNOWN_SCHEMA"),
        (4, "BAD_AVRO"),
    ]
    assert server.asked.count(f"/schemas/ids/{ids[0]}") == 1


def test_a_schema_that_refers_to_others(server: RegistryServer) -> None:
    place = {"type": "record", "name": "Place", "namespace": "shop", "fields": [{"name": "city", "type": "string"}]}
    order = record(here="shop.Place", there=["null", "shop.Place"])
    server.register("place", json.dumps(place))
    reference = {"name": "shop.Place", "subject": "place", "version": 1}
    number = server.register("orders-value", json.dumps(order), references=[reference])
    known = registry(server)
    found = known.newest("orders-value")
    assert (found.id, found.references) == (number, (Reference("shop.Place", "place", 1),))
    schema = AvroSchema(whole(known, found))
    assert schema.columns() == registered(known, found).columns()
    value = {"here": {"city": "Oslo"}, "there": None}
    complete = json.loads(whole(known, found))
    rows = AvroDecoder(schema, schema.columns(), writers_of(known)).decode(
        [framed(number, encoded(complete, value)[0])]
    )
    assert rows.rows.rows(named=True) == [value]


def test_what_a_registry_may_answer(server: RegistryServer) -> None:
    server.register("a b", '"long"')
    assert registry(server).newest("a b").text == '"long"'
    with pytest.raises(NotFound):
        registry(server).newest("nowhere")
    server.user = "me:hidden"
    with pytest.raises(Rejected) as refused:
        registry(server, username="me", password="wrong").by_id(1)
    assert refused.value.code == "AUTHENTICATION_FAILED"
    assert registry(server, username="me", password="hidden").by_id(1).kind == "AVRO"
    for status, kind in ((503, Retryable), (429, Retryable), (302, Rejected), (422, Rejected)):
        server.status = status
        with pytest.raises(kind):
            registry(server, username="me", password="hidden").by_id(1)
    with pytest.raises(Retryable):
        registry(server, url="http://127.0.0.1:1").by_id(1)
    server.status = 200
    two = registry(server, url=f"http://127.0.0.1:1,{server.url}/", username="me", password="hidden")
    assert two.by_id(1).text == '"long"'
    with pytest.raises(Rejected) as foreign:
        registered(two, two.by_id(server.register("p", "", kind="PROTOBUF")))
    assert foreign.value.code == "BAD_SCHEMA"


def test_registry_options() -> None:
    for options in ({"url": "ftp://x"}, {"url": "http://me:pw@x"}, {"url": "http://x", "username": "me"}):
        with pytest.raises(ValueError, match=r"http|keys|together"):
            RegistryConfig(**options)
    assert "hidden" not in repr(RegistryConfig(url="http://x", username="me", password="hidden"))
