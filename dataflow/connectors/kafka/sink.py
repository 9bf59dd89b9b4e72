"""The sink: any number of lanes, each with transactions of its own; exactly once for readers of committed records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import polars as pl

from dataflow.components import Component, Kind
from dataflow.connectors.kafka.audit import KafkaAudit
from dataflow.connectors.kafka.cluster import Cluster, partitions_of
from dataflow.connectors.kafka.encode import Encoder, value_columns
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.planning import bounds_of
from dataflow.connectors.kafka.producer import check_codec
from dataflow.connectors.kafka.receipts import Receipts
from dataflow.connectors.kafka.retire import retire_older
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig, Mode
from dataflow.connectors.kafka.topics import check_transaction_timeout, ensure_topic
from dataflow.connectors.kafka.topology import topics_of
from dataflow.connectors.kafka.writer import KafkaWriter
from dataflow.connectors.kafka.written import SinkSchema, structured
from dataflow.domain.flow import Delivery, Lane
from dataflow.errors import InvalidSpec, NotFound, Problem
from dataflow.seams import Audit, Context


class KafkaSink:
    """See the package. Readers must use `isolation.level=read_committed`; others also see what was aborted."""

    max_lanes: int | None = None

    def __init__(self, config: KafkaSinkConfig, context: Context) -> None:
        if context.dead_letters is not None and config.dead_letter_topic is None:
            told = "errors.dead_letters is a folder: dead letters of a kafka sink go to a topic, with its transaction"
            raise InvalidSpec([Problem("dead_letter_topic", told, hint="set it, or leave errors.dead_letters out")])
        if context.interval >= config.transaction_timeout:
            told = (
                f"an epoch lasts {context.interval:g} s (checkpoint.interval): its transaction would be given up before"
            )
            raise InvalidSpec([Problem("transaction_timeout", told, hint="make it longer than the interval")])
        transactional = config.mode is Mode.TRANSACTIONAL
        self.delivery = Delivery.EXACTLY_ONCE if transactional else Delivery.AT_LEAST_ONCE
        self._config, self._begins = config, context.begins
        self._cluster = Cluster(config, context.base, context.timeout)
        self._schema = SinkSchema(config, context.base, self._cluster.timeout) if structured(config) else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        """See the seam. Raises `InvalidSpec` (key, value, headers), `NotFound` for a topic that is not there and not
        to be made, `Rejected` (INVALID_TRANSACTION_TIMEOUT, UNSUPPORTED_COMPRESSION, BAD_RECEIPTS_TOPIC), and what
        `SinkSchema.written` and `retire_older` raise."""
        config = self._config
        await self._encoder(schema)
        check_codec(config.codec)
        topic = config.one_topic  # topics of rows are looked for when they are met
        async with self._cluster.admin() as admin, translated(f"Kafka at {self._cluster.brokers}"):
            await check_transaction_timeout(admin, config.transaction_timeout)
            if topic is not None and config.partitions is not None:
                await ensure_topic(admin, topic, config.partitions, config.replication)
            elif topic is not None and topic not in await partitions_of(admin, [topic]):
                raise NotFound(f"there is no topic {topic!r}", hint="make it, or set partitions to have it made")
            await Receipts(self._cluster, config.receipts_topic).ensure(admin, config.replication)
        await retire_older(self._cluster, config, lanes, begins=self._begins)

    async def probe(self) -> str:
        """See `Probing`: a topic must be there, unless it is to be made, and is led by a broker."""
        topic = self._config.one_topic
        found = await topics_of(self._cluster, [topic] if topic is not None else [])
        if topic is not None and topic not in found and self._config.partitions is None:
            raise NotFound(f"there is no topic {topic!r}", hint="make it, or set partitions to have it made")
        await bounds_of(self._cluster, found)
        told = "the topic is not made yet" if topic is not None and topic not in found else "ready to write"
        schema = await self._schema.probe() if self._schema is not None else ""
        return f"{self._cluster.brokers} answers: {told}{schema}"

    def open(self, lane: Lane, schema: pl.Schema) -> KafkaWriter:
        return KafkaWriter(self._cluster, self._config, lane, lambda: self._encoder(schema))

    async def _encoder(self, schema: pl.Schema) -> Encoder:
        if self._schema is None:
            return Encoder(self._config, schema)
        return Encoder(self._config, schema, await self._schema.written(value_columns(self._config, schema)))

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        """Nothing is left to do: every epoch was published by its own commit."""
        return {"topic": self._config.one_topic or "of each row"}

    async def audit(self, lanes: Sequence[Lane]) -> Audit:
        """See the seam, and `audit` for what is counted and what is not."""
        return await KafkaAudit(self._cluster, self._config, lanes).look()


SINK = Component(Kind.SINK, "kafka", KafkaSinkConfig, KafkaSink, "Messages to a Kafka topic, a transaction an epoch.")
