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
from dataflow.errors import NotFound, Rejected
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
