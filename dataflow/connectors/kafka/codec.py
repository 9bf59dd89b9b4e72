"""Which columns the values have, decided when a run is planned; and their decoder, made from what was decided then."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from dataflow.connectors.json_columns import columns_of
from dataflow.connectors.kafka import avro, planning, protobuf
from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.decode import Decoder, Format, JsonDecoder, make_decoder
from dataflow.connectors.kafka.given import avro_given, protobuf_given
from dataflow.connectors.kafka.pin import Pin
from dataflow.connectors.kafka.registry import Registered, Registry, split_header
from dataflow.connectors.kafka.source_config import KafkaSourceConfig
from dataflow.errors import NotFound, Rejected


class Codec:
    """Reads values of the source's format. The schema that was found is pinned: a registry may be away later."""

    def __init__(self, config: KafkaSourceConfig, cluster: Cluster, base: Path) -> None:
        self._config, self._cluster, self._base = config, cluster, base
        registry = config.registry
        self._registry = Registry(registry, base, cluster.timeout) if registry is not None else None

    async def found(self, topics: Sequence[str], bounds: planning.Bounds) -> tuple[pl.Schema, str]:
        """Columns, and what `decoder` needs beside them. Raises `Rejected` (BAD_SCHEMA, EMPTY), and what a registry
        raises."""
        match self._config.format:
            case Format.AVRO | Format.PROTOBUF:
                extra = await self._schema(topics, bounds)
                return self._structured(extra).schema, _packed(extra)
            case Format.JSON if self._config.declared is not None:
                return JsonDecoder(self._config.declared).schema, ""
            case Format.JSON:
                return await self._inferred(bounds), ""
            case plain:
                return make_decoder(plain, pl.Schema()).schema, ""

    def decoder(self, pin: Pin) -> Decoder:
        if self._config.format in (Format.AVRO, Format.PROTOBUF):
            return self._structured(_unpacked(pin.extra))
        return make_decoder(self._config.format, pin.columns)

    async def _inferred(self, bounds: planning.Bounds) -> pl.Schema:
        seen = await planning.sample(self._cluster, bounds, self._config.sample)
        found = await asyncio.to_thread(columns_of, seen)
        if not found:
            raise Rejected(
                f"the columns of {self._config.written} cannot be told from {len(seen)} messages",
                code="EMPTY",
                hint="declare them with columns: {name: type}",
            )
        return found

    async def _schema(self, topics: Sequence[str], bounds: planning.Bounds) -> str:
        """The schema that values are to fit: Avro as JSON text, Protobuf as a descriptor set in base64."""
        if self._config.schema_ is not None:
            return await asyncio.to_thread(self._given, self._config.schema_)
        assert self._registry is not None
        registry, serialized = self._registry, self._config.format is Format.PROTOBUF
        subject = self._config.registry.subject if self._config.registry else None
        try:
            found = await asyncio.to_thread(registry.newest, subject or f"{topics[0]}-value", serialized=serialized)
        except NotFound:
            if subject is not None:
                raise
            found = await self._of_messages(registry, bounds, serialized)
        if serialized:
            return await asyncio.to_thread(lambda: protobuf.registered(registry, found).text)
        await asyncio.to_thread(avro.registered, registry, found)
        return await asyncio.to_thread(avro.whole, registry, found)

    async def _of_messages(self, registry: Registry, bounds: planning.Bounds, serialized: bool) -> Registered:
        """Where subjects are not called after topics: the schema of the newest of the messages."""
        seen = await planning.sample(self._cluster, bounds, 20)
        ids = [framed[0] for value in seen if (framed := split_header(value)) is not None]
        if not ids:
            raise Rejected(
                f"the registry has no subject for {self._config.written}, and no message names a schema",
                code="EMPTY",
                hint="name it with registry: {subject: ...}",
            )
        return await asyncio.to_thread(registry.by_id, ids[-1], serialized=serialized)

    def _given(self, schema: str) -> str:
        """A schema that the definition holds or names the file of."""
        if self._config.format is Format.AVRO:
            return avro_given(schema, self._base)
        return protobuf_given(schema, self._base)[0].text

    def _structured(self, extra: str) -> Decoder:
        if self._config.format is Format.AVRO:
            schema = avro.AvroSchema(extra)
            writers = avro.writers_of(self._registry) if self._registry is not None else None
            return avro.AvroDecoder(schema, schema.columns(), writers)
        message = protobuf.ProtoFile.parse(base64.b64decode(extra)).message(self._config.message)
        return protobuf.ProtobufDecoder(
            message, protobuf.writers_of(self._registry) if self._registry is not None else None
        )


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(text: str) -> str:
    return zlib.decompress(base64.b64decode(text)).decode()
