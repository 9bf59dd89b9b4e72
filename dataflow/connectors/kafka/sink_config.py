"""Options of the Kafka sink."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from aiokafka import codec
from pydantic import Field, field_validator, model_validator

from dataflow.connectors.kafka.cluster import ClusterConfig, one_topic
from dataflow.domain.spec import Bytes, Seconds

RECEIPTS_TOPIC = "__dataflow_receipts"


class Compression(StrEnum):
    NONE = "none"
    GZIP = "gzip"
    SNAPPY = "snappy"
    LZ4 = "lz4"
    ZSTD = "zstd"

    @property
    def available(self) -> bool:
        """Whether this process can compress that way: all but gzip need the package cramjam."""
        return self is Compression.NONE or bool(getattr(codec, f"has_{self}")())


_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "local": {"compression": "none", "linger": 0.0},
    "production": {"compression": "zstd", "linger": 0.01},
}


class KafkaSinkConfig(ClusterConfig):
    """Write a topic: each epoch is one transaction, idempotent, acknowledged by all replicas in sync."""

    topic: str = Field(description="Name of the topic.")
    format: Literal["json", "string"] = Field(
        "json", description="json: a row as one object; string: the text of one column, see `value`."
    )
    key: str | None = Field(
        None, description="Expression of the message's key, as text. NULL: no key.", examples=["customer_id"]
    )
    value: str | None = Field(None, description="Of string: expression of the message; default: the only column.")
    headers: Mapping[str, str] = Field(
        default_factory=dict, description="Header -> expression of its value, as text. NULL: left out."
    )
    preset: Literal["local", "production"] = Field(
        "local", description="local: no compression, sent at once. production: zstd, gathered for 10 ms."
    )
    compression: Compression | None = Field(None, description="Default: as the preset says.")
    linger: Seconds | None = Field(None, le=10, description="How long small batches wait to be joined by more.")
    max_batch: Bytes = Field(
        900_000, ge=1000, description="Bytes of one batch; the topic's max.message.bytes must allow it."
    )
    partitions: int | None = Field(
        None, ge=1, le=10_000, description="Make the topic with so many partitions where there is none; default: fail."
    )
    replication: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Replicas of topics that are made; default: 3, or one a broker if there are fewer.",
    )
    transaction_timeout: Seconds = Field(
        60.0, ge=1, le=3600, description="The broker gives up a transaction that is open for longer than this."
    )
    dead_letter_topic: str | None = Field(None, description="Where dead letters go; default: <topic>.dead.")
    receipts_topic: str = Field(
        RECEIPTS_TOPIC, description="Compacted topic of receipts; made when first used. Also the name space of lanes."
    )

    @field_validator("topic", "dead_letter_topic", "receipts_topic")
    @classmethod
    def _topics(cls, value: str | None) -> str | None:
        return None if value is None else one_topic(value)

    @model_validator(mode="after")
    def _consistent(self) -> KafkaSinkConfig:
        if self.value is not None and self.format != "string":
            raise ValueError("value has no meaning for json: a map says what is in the object")
        if self.receipts_topic in (self.topic, self.dead_topic):
            raise ValueError("receipts need a topic of their own")
        return self

    @property
    def dead_topic(self) -> str:
        return self.dead_letter_topic or f"{self.topic}.dead"

    @property
    def codec(self) -> Compression:
        return self.compression or Compression(_PRESETS[self.preset]["compression"])

    @property
    def linger_ms(self) -> int:
        return round(1000 * float(_PRESETS[self.preset]["linger"] if self.linger is None else self.linger))
