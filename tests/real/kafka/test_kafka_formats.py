"""Avro and Protobuf from a real topic, with a registry that is asked over HTTP, and without one."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from dataflow.connectors.kafka.protobuf import ProtoFile
from dataflow.connectors.kafka.registry import HEADER
from dataflow.connectors.kafka.source import KafkaSource
from dataflow.connectors.kafka.source_config import KafkaSourceConfig
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import InvalidSpec, NotFound, Rejected
from dataflow.seams import Context
from tests.registry_server import RegistryServer, serving

pytestmark = pytest.mark.kafka

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}


def avro(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with serving(RegistryServer(user="me:hidden")) as running:
        yield running


async def drain(source: Any) -> tuple[pl.DataFrame, list[str]]:
    found = await source.discover()
    chunks = [chunk for split in found.splits async for chunk in source.read(split, None, pin=found.pin)]
    rejected = [code for chunk in chunks if chunk.rejected is not None for code in chunk.rejected["code"]]
    return pl.concat([found.schema.to_frame(), *(chunk.rows for chunk in chunks)]), rejected


async def test_avro_of_a_registry(broker: Any, server: RegistryServer) -> None:
    topic = await broker.topic()
    older = {**ORDER, "fields": ORDER["fields"][:2]}
    first = server.register(f"{topic}-value", json.dumps(older))
    second = server.register(f"{topic}-value", json.dumps(ORDER))
    values = [
        HEADER.pack(0, first) + avro(older, {"id": 1, "at": 1000}),
        HEADER.pack(0, second) + avro(ORDER, {"id": 2, "at": 2000, "note": "é"}),
        HEADER.pack(0, 99) + b"\0",
        b"{}",
    ]
    await broker.put(topic, values)
    place = {"url": server.url, "username": "me", "password": "hidden"}
    rows, rejected = await drain(broker.source(topic, format="avro", registry=place, metadata=["offset"]))
    assert rows.schema == {"id": pl.Int64, "at": pl.Datetime("ms", "UTC"), "note": pl.String, "_offset": pl.Int64}
    assert rows.select("id", "note", "_offset").rows() == [(1, None, 0), (2, "é", 1)]
    assert rejected == ["UNKNOWN_SCHEMA", "BAD_AVRO"]
    elsewhere = {**place, "subject": f"{topic}-nowhere"}
    with pytest.raises(NotFound):
        await broker.source(topic, format="avro", registry=elsewhere).discover()
    with pytest.raises(Rejected) as refused:
        await broker.source(topic, format="avro", registry={**place, "password": "wrong"}).discover()
    assert refused.value.code == "AUTHENTICATION_FAILED"
    with pytest.raises(Rejected) as other:
        await broker.source(topic, format="protobuf", registry=place).discover()
    assert other.value.code == "BAD_SCHEMA"


async def test_a_subject_of_another_name_and_a_plan_without_the_registry(broker: Any, server: RegistryServer) -> None:
    """Where subjects are not called after topics, the messages name the schema. What is pinned needs no registry."""
    topic = await broker.topic()
    number = server.register("Order", json.dumps(ORDER))
    await broker.put(topic, [HEADER.pack(0, number) + avro(ORDER, {"id": 1, "at": 0, "note": None})])
    place = {"url": server.url, "username": "me", "password": "hidden"}
    rows, _ = await drain(broker.source(topic, format="avro", registry=place))
    assert rows["id"].to_list() == [1]
    empty = await broker.topic()
    with pytest.raises(Rejected) as refused:
        await broker.source(empty, format="avro", registry=place).discover()
    assert refused.value.code == "EMPTY"


async def test_avro_by_a_schema_of_the_definition(broker: Any, tmp_path: Path) -> None:
    topic = await broker.topic()
    await broker.put(topic, [avro(ORDER, {"id": 1, "at": 0, "note": "x"}), None, b"\xff"], keys=[b"k"] * 3)
    (tmp_path / "order.avsc").write_text(json.dumps(ORDER))
    for schema in (json.dumps(ORDER), "order.avsc"):
        config = KafkaSourceConfig(brokers=broker.address, topic=topic, until="end", format="avro", schema=schema)
        source = KafkaSource(config, Context(pipeline="test", base=tmp_path))
        rows, rejected = await drain(source)
        assert (rows["note"].to_list(), rejected) == (["x", None], ["BAD_AVRO"])
    with pytest.raises(NotFound, match=r"nowhere\.avsc"):
        await broker.source(topic, format="avro", schema="nowhere.avsc").discover()


async def test_protobuf(broker: Any, server: RegistryServer, tmp_path: Path) -> None:
    written = FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    order = written.message_type.add(name="Order")
    for number, name in enumerate(("id", "quantity"), 1):
        order.field.add(name=name, number=number, type=FieldDescriptorProto.TYPE_INT64, label=1)
    files = FileDescriptorSet(file=[written]).SerializeToString()
    message = message_factory.GetMessageClass(ProtoFile.parse(files).message("shop.Order"))(id=7, quantity=2)
    (tmp_path / "order.desc").write_bytes(files)
    bare, framed = await broker.topic(), await broker.topic()
    serialized = base64.b64encode(written.SerializeToString()).decode()
    number = server.register(f"{framed}-value", "syntax = ...", "PROTOBUF", serialized=serialized)
    await broker.put(bare, [message.SerializeToString(), b"\xff"])
    await broker.put(framed, [HEADER.pack(0, number) + b"\0" + message.SerializeToString(), b"bare"])
    by_file = broker.source(bare, format="protobuf", schema=str(tmp_path / "order.desc"), message="shop.Order")
    place = {"url": server.url, "username": "me", "password": "hidden"}
    for source in (by_file, broker.source(framed, format="protobuf", registry=place)):
        rows, rejected = await drain(source)
        assert (rows.rows(), rejected) == ([(7, 2)], ["BAD_PROTOBUF"])


ROWS = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "customer": ["a", None, "é"],
        "amount": [1.5, -2.0, None],
        "at": pl.Series([0, None, 1_700_000_000_123_456_000], dtype=pl.Datetime("ns", "UTC")),
        "tags": [["x", "y"], [], ["z"]],
        "place": [{"city": "Oslo", "zip": 150}, None, {"city": None, "zip": 1}],
        "_key": ["k1", "k2", None],
    }
)
NAMES = ["id", "customer", "amount", "at", "tags", "place"]


async def write(sink: Any, rows: pl.DataFrame, pipeline: str = "orders") -> None:
    of = lane(pipeline)
    await sink.prepare(rows.schema, [of])
    async with sink.open(of, rows.schema) as writer:
        await writer.write(rows)
        at = Receipt(
            pipeline=pipeline,
            generation=1,
            lane=of.name,
            epoch=1,
            positions={of.splits[0]: Position("1")},
            counters=Counters(read=rows.height, written=rows.height),
        )
        await writer.commit(at)


def lane(pipeline: str) -> Lane:
    return Lane(pipeline=pipeline, generation=1, sink="sink", number=0, splits=("split-0",))


@pytest.mark.parametrize("format", ["avro", "protobuf"])
async def test_from_the_sink_to_the_source(broker: Any, server: RegistryServer, format: str) -> None:
    """With a schema that nobody wrote: derived, registered, found again by its id; read by another's reader, too."""
    topic = await broker.topic()
    place = {"url": server.url, "username": "me", "password": "hidden"}
    options = {"format": format, "registry": place, "receipts_topic": f"{topic}.r", "key": "_key", "exclude": ["_key"]}
    await write(broker.sink(topic, headers={"h": "customer"}, **options), ROWS)
    found, rejected = await drain(broker.source(topic, format=format, registry=place, metadata=["key"]))
    assert (found.select(*NAMES, "_key").equals(ROWS), rejected) == (True, [])
    messages = await broker.get(topic)
    assert [message.headers for message in messages] == [(("h", b"a"),), (), (("h", "é".encode()),)]
    [number] = server.subjects[f"{topic}-value"]
    assert {message.value[:5] for message in messages} == {HEADER.pack(0, number)}
    text = server.schemas[number - 1]["schema"]
    if format == "avro":
        parsed = fastavro.parse_schema(json.loads(text))
        theirs = [fastavro.schemaless_reader(io.BytesIO(message.value[5:]), parsed) for message in messages]
        assert [(row["id"], row["customer"], row["place"]) for row in theirs] == ROWS.select(
            "id", "customer", "place"
        ).rows()
    else:
        made = by_hand()
        theirs = [made.FromString(message.value[6:]) for message in messages]
        assert [(row.id, row.customer, list(row.tags), row.place.city) for row in theirs] == [
            (1, "a", ["x", "y"], "Oslo"), (2, "", [], ""), (3, "é", ["z"], ""),
        ]  # fmt: skip
    await write(broker.sink(topic, **options), ROWS, "again")
    assert server.subjects[f"{topic}-value"] == [number]  # registered once


def by_hand() -> Any:
    """The message that is derived for ROWS, spelled without any of our code."""
    file = FileDescriptorProto(name="x.proto", syntax="proto3")
    order = file.message_type.add(name="Order")
    inner = order.nested_type.add(name="PlaceValue")
    kinds = FieldDescriptorProto
    for holder, fields in (
        (inner, (("city", kinds.TYPE_STRING, 1), ("zip", kinds.TYPE_INT64, 1))),
        (order, (("id", kinds.TYPE_INT64, 1), ("customer", kinds.TYPE_STRING, 1), ("amount", kinds.TYPE_DOUBLE, 1))),
    ):
        for number, (name, kind, label) in enumerate(fields, 1):
            holder.field.add(name=name, number=number, type=kind, label=label)
    order.field.add(name="tags", number=5, type=kinds.TYPE_STRING, label=3)
    order.field.add(name="place", number=6, type=kinds.TYPE_MESSAGE, type_name=".Order.PlaceValue", label=1)
    return message_factory.GetMessageClass(ProtoFile(FileDescriptorSet(file=[file])).message("Order"))


async def test_a_schema_that_the_registry_does_not_take(broker: Any, server: RegistryServer) -> None:
    topic = await broker.topic()
    place = {"url": server.url, "username": "me", "password": "hidden"}

    def sink(**more: Any) -> Any:
        return broker.sink(
            topic, format="avro", receipts_topic=f"{topic}.r", **{"registry": place | more.pop("more", {}), **more}
        )

    rows = ROWS.select("id")
    with pytest.raises(NotFound):
        await sink(more={"register": False}).prepare(rows.schema, [lane("orders")])
    server.register(f"{topic}-value", json.dumps(ORDER))
    other = json.dumps({**ORDER, "fields": [{"name": "id", "type": "string"}]})
    with pytest.raises(Rejected, match="is incompatible") as refused:
        await sink(schema=other).prepare(pl.Schema({"id": pl.String}), [lane("orders")])
    assert refused.value.code == "INCOMPATIBLE_SCHEMA"
    with pytest.raises(InvalidSpec, match="no column 'at'"):  # the newest one, as nothing is registered
        await sink(more={"register": False}).prepare(rows.schema, [lane("orders")])
    with pytest.raises(NotFound):
        await sink(schema=other, more={"register": False}).prepare(pl.Schema({"id": pl.String}), [lane("orders")])
    server.status_of_register = 422
    with pytest.raises(Rejected, match="nobody likes it") as refused:
        await sink(schema=json.dumps(ORDER)).prepare(ROWS.select("id", "at").schema, [lane("orders")])
    assert refused.value.code == "BAD_SCHEMA"
    fitting = ROWS.select("id", "at").drop_nulls()
    await write(sink(more={"register": False}), fitting)  # by what is there
    found, _ = await drain(broker.source(topic, format="avro", registry=place))
    assert found.select("id", "note").rows() == [(1, None), (3, None)]
    with pytest.raises(Rejected) as closed:
        await sink(more={"password": "wrong"}).probe()
    assert closed.value.code == "AUTHENTICATION_FAILED"
    assert f"{topic}-value" in await sink().probe()


async def test_protobuf_of_a_file_without_a_registry(broker: Any, tmp_path: Path) -> None:
    topic = await broker.topic()
    (tmp_path / "order.proto").write_text(
        """
        syntax = "proto3";
        import "google/protobuf/timestamp.proto";
        import "place.proto";
        message Order { int64 id = 1; optional string customer = 2; optional double amount = 3;
                        google.protobuf.Timestamp at = 4; repeated string tags = 5; Place place = 6; }
        """
    )
    (tmp_path / "place.proto").write_text(
        'syntax = "proto3"; message Place { optional string city = 1; optional int64 zip = 2; }'
    )
    options = {"format": "protobuf", "schema": "order.proto"}
    await write(broker.sink(topic, base=tmp_path, exclude=["_key"], receipts_topic=f"{topic}.r", **options), ROWS)
    config = KafkaSourceConfig(brokers=broker.address, topic=topic, until="end", **options)
    found, rejected = await drain(KafkaSource(config, Context(pipeline="test", base=tmp_path)))
    assert (found.select(NAMES).equals(ROWS.select(NAMES)), rejected) == (True, [])
    await write(broker.sink(topic, receipts_topic=f"{topic}.r", format="bytes", value="raw"), RAW, "raw")
    assert [message.value for message in await broker.get(topic)][-2:] == [b"\xff\0", None]


RAW = pl.DataFrame({"raw": [b"\xff\0", None], "n": [1, 2]})
