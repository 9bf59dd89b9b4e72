"""Options of the Kafka sink."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from aiokafka import codec
from pydantic import Field, field_validator, model_validator

from dataflow.components import Config
from dataflow.connectors.kafka.cluster import ClusterConfig, one_topic
from dataflow.connectors.kafka.decode import Format
from dataflow.connectors.kafka.registry import SinkRegistryConfig
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


class TopicOfRow(Config):
    """Each row names its topic."""

    expression: str = Field(
        min_length=1, description="Expression of the topic's name.", examples=["CONCAT('orders-', region)"]
    )


class Mode(StrEnum):
    TRANSACTIONAL = "transactional"
    IDEMPOTENT = "idempotent"


class KafkaSinkConfig(ClusterConfig):
    """Write topics: each epoch is one transaction, idempotent, acknowledged by all replicas in sync."""

    topic: str | TopicOfRow = Field(
        description="Name of the topic; or a mapping with `expression`, and then each row names its own."
    )
    mode: Mode = Field(
        Mode.TRANSACTIONAL,
        description="transactional: exactly once, for readers of committed messages. idempotent: messages can be seen "
        "at once, retries of the client double none, but what is repeated after a crash is there twice: at least once.",
    )
    format: Format = Field(
        Format.JSON,
        description="json: a row as one object; string, bytes: one column, see `value`; avro, protobuf: a row by a "
        "schema, see `registry` and `schema`.",
    )
    registry: SinkRegistryConfig | None = Field(
        None, description="Of avro and protobuf: where the schema is, or is registered; values begin with its id."
    )
    schema_: str | None = Field(
        None,
        alias="schema",
        description="Of avro: the schema, or its file; of protobuf: `.proto` text, or its file, or a descriptor "
        "set's. Each column is the field of its name. Default, with a registry: derived from the columns.",
    )
    message: str | None = Field(
        None,
        description="Of protobuf: full name of the message type; default: the first. Of a derived schema: its name; "
        "default: the topic's.",
    )
    key: str | None = Field(
        None, description="Expression of the message's key, as text. NULL: no key.", examples=["customer_id"]
    )
    partition: str | None = Field(
        None,
        description="Expression of the partition's number. NULL, and by default: by the key (murmur2, as the Java "
        "client does it), and without a key in turns.",
        examples=["_partition"],
    )
    value: str | None = Field(
        None, description="Of string and bytes: expression of the message; default: the only column."
    )
    headers: Mapping[str, str] = Field(
        default_factory=dict, description="Header -> expression of its value, as text. NULL: left out."
    )
    headers_from: str | None = Field(
        None,
        description="Column of headers to pass on, as the kafka source's metadata has it: so a trace (`traceparent`) "
        "goes on. The column is not part of the value; `headers` of the same name win.",
        examples=["_headers"],
    )
    exclude: tuple[str, ...] = Field(
        (), description="Of json, avro and protobuf: columns that are not part of the value."
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
        None, ge=1, le=10_000, description="Make topics with so many partitions where there are none; default: fail."
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
    def _topics(cls, value: str | TopicOfRow | None) -> str | TopicOfRow | None:
        return one_topic(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> KafkaSinkConfig:
        one_column = self.format in (Format.STRING, Format.BYTES)
        if self.value is not None and not one_column:
            raise ValueError(f"value has no meaning for {self.format}: a map says what is in it")
        if self.exclude and one_column:
            raise ValueError(f"exclude has no meaning for {self.format}")
        self._check_schema()
        if self.one_topic is None and self.dead_letter_topic is None:
            raise ValueError("rows name their topics: name dead_letter_topic too")
        if self.receipts_topic in (self.topic, self.dead_topic):
            raise ValueError("receipts need a topic of their own")
        return self

    def _check_schema(self) -> None:
        if self.format not in (Format.AVRO, Format.PROTOBUF):
            for name, given in (("registry", self.registry), ("schema", self.schema_), ("message", self.message)):
                if given is not None:
                    raise ValueError(f"{name} has no meaning for {self.format}")
        elif self.registry is None and self.schema_ is None:
            raise ValueError(f"{self.format} needs a registry, or a schema")
        elif self.registry is not None and self.registry.subject is None and self.one_topic is None:
            raise ValueError("rows name their topics: name registry.subject too")
        elif self.message is not None and self.schema_ is not None and self.format is Format.AVRO:
            raise ValueError("message has no meaning for the schema of avro: it has a name")

    @property
    def subject(self) -> str:
        """What the registry knows the schema under."""
        named = self.registry.subject if self.registry is not None else None
        return named or f"{self.topic}-value"

    @property
    def message_name(self) -> str:
        """What a derived schema is called."""
        name = re.sub(r"\W", "_", self.message or self.one_topic or "Row", flags=re.ASCII)
        return f"_{name}" if name[0].isdigit() else name

    @property
    def one_topic(self) -> str | None:
        """The topic of all rows; None where each names its own."""
        return self.topic if isinstance(self.topic, str) else None

    @property
    def dead_topic(self) -> str:
        return self.dead_letter_topic or f"{self.topic}.dead"

    @property
    def codec(self) -> Compression:
        return self.compression or Compression(_PRESETS[self.preset]["compression"])

    @property
    def linger_ms(self) -> int:
        return round(1000 * float(_PRESETS[self.preset]["linger"] if self.linger is None else self.linger))
