"""Options of the Kafka source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import polars as pl
from pydantic import AfterValidator, Field, field_validator, model_validator

from dataflow.components import Config
from dataflow.connectors.declared import declared_type
from dataflow.connectors.kafka.cluster import ClusterConfig, one_topic
from dataflow.connectors.kafka.decode import VALUE, Format
from dataflow.connectors.kafka.metadata import DEFAULT_NAMES, MetadataField
from dataflow.connectors.kafka.offsets import Start
from dataflow.connectors.kafka.registry import RegistryConfig


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Offset = Annotated[int, Field(ge=0)]
Offsets = dict[Offset, Offset]


class Pattern(Config):
    """All topics of a kind, also those that will be made later."""

    pattern: str = Field(
        min_length=1, description="Regular expression that a topic's whole name matches; Kafka's own are left out."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


class KafkaSourceConfig(ClusterConfig):
    """Read topics, a partition a split. Only committed transactions are read. Offsets are kept in the sink's receipts:
    no consumer group is needed, and none decides where reading goes on. An endless source takes in partitions that are
    added, and new topics of a pattern, while it runs: from their first message on."""

    topic: str | tuple[str, ...] | Pattern = Field(
        description="Name of the topic; a list of names; or a mapping with `pattern`, a regular expression of names.",
        examples=["orders"],
    )
    format: Format = Field(
        Format.JSON,
        description="json: an object a message; string: one text column; bytes: one binary column `value`; avro, "
        "protobuf: by a schema, see `registry` and `schema`.",
    )
    columns: Mapping[str, str] | None = Field(
        None, description="Of json, name: type: the declared columns; default: inferred from a sample and then fixed."
    )
    registry: RegistryConfig | None = Field(
        None, description="Of avro and protobuf: values begin with the id of their schema, which is found here."
    )
    schema_: str | None = Field(
        None,
        alias="schema",
        description="Of avro: the schema, or its file; of protobuf: `.proto` text, or its file, or a descriptor set's. "
        "Values are fitted to it (default: to the newest one of the registry); without a registry all are written with "
        "it.",
    )
    message: str | None = Field(None, description="Of protobuf: full name of the message type; default: the first.")
    start: Literal["earliest", "latest"] | Annotated[datetime, AfterValidator(_utc)] | Offsets | dict[str, Offsets] = (
        Field(
            "earliest",
            description="earliest, latest, a time (the first message at or after it), or partition: offset for some or "
            "all partitions (of several topics: topic: {partition: offset}); those not named begin at the earliest.",
        )
    )
    until: Literal["end"] | None = Field(
        None, description="`end`: what is there when the run begins, and then it is completed. Default: endless."
    )
    metadata: bool | tuple[MetadataField, ...] | Mapping[MetadataField, str] = Field(
        False,
        description="More columns: key, topic, partition, offset, timestamp, headers. true: all, called _key, "
        "_topic ...; a list: these; a mapping: these, and what they are called.",
    )
    metadata_format: Literal["string", "bytes"] = Field(
        "string", description="Keys and header values: text (a message with another is refused), or bytes."
    )
    group: str | None = Field(
        None, min_length=1, description="Consumer group that is told what has been committed, for lag monitors to see."
    )
    sample: int = Field(2000, ge=1, le=100_000, description="Messages of each partition looked at to infer columns.")

    @field_validator("topic")
    @classmethod
    def _topics(cls, value: str | tuple[str, ...] | Pattern) -> str | tuple[str, ...] | Pattern:
        names = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
        for name in names:
            one_topic(name)
        if value == ():
            raise ValueError("name at least one topic")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is there twice")
        return value

    @field_validator("columns")
    @classmethod
    def _types(cls, value: Mapping[str, str] | None) -> Mapping[str, str] | None:
        if value is not None and not value:
            raise ValueError("name at least one column, or leave columns out")
        for name, kind in (value or {}).items():
            declared_type(name, kind)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> KafkaSourceConfig:
        if isinstance(self.start, Mapping) and self.start and not isinstance(self.topic, str):
            if any(isinstance(key, int) for key in self.start):
                raise ValueError("start of several topics: topic: {partition: offset}")
            if isinstance(self.topic, tuple) and (unknown := [name for name in self.start if name not in self.topic]):
                raise ValueError(f"start names {unknown[0]!r}, which is not among the topics")
        if self.columns is not None and self.format is not Format.JSON:
            raise ValueError(f"columns has no meaning for {self.format}")
        self._check_schema()
        names = list(self.metadata_names.values())
        values = [VALUE] if self.format in (Format.STRING, Format.BYTES) else list(self.columns or ())
        if twice := {name for name in names if names.count(name) > 1 or name in values}:
            raise ValueError(f"two columns would be called {sorted(twice)[0]!r}: rename one in metadata")
        return self

    def _check_schema(self) -> None:
        if self.format not in (Format.AVRO, Format.PROTOBUF):
            if given := [name for name in ("registry", "schema", "message") if getattr(self, _field(name)) is not None]:
                raise ValueError(f"{given[0]} has no meaning for {self.format}")
            return
        if self.registry is None and self.schema_ is None:
            raise ValueError(f"{self.format} needs a registry, or a schema")
        if self.message is not None and self.format is Format.AVRO:
            raise ValueError("message has no meaning for avro")

    @property
    def names(self) -> tuple[str, ...] | None:
        """The topics by name; None where a pattern chooses them."""
        if isinstance(self.topic, Pattern):
            return None
        return (self.topic,) if isinstance(self.topic, str) else self.topic

    @property
    def written(self) -> str:
        """The topics as a person wrote them."""
        return f"/{self.topic.pattern}/" if isinstance(self.topic, Pattern) else ", ".join(self.names or ())

    def start_of(self, topic: str) -> Start:
        """Where reading of that topic begins."""
        if not isinstance(self.start, dict):
            return self.start
        found: dict[int, int] = {}
        for key, value in self.start.items():
            if isinstance(value, dict):
                found.update(value if key == topic else {})
            elif isinstance(key, int):
                found[key] = value
        return found

    @property
    def metadata_names(self) -> dict[MetadataField, str]:
        """The metadata columns: what each one holds, and its name."""
        if isinstance(self.metadata, Mapping):
            return dict(self.metadata)
        chosen = self.metadata if isinstance(self.metadata, tuple) else tuple(MetadataField) if self.metadata else ()
        return {field: DEFAULT_NAMES[field] for field in chosen}

    @property
    def declared(self) -> pl.Schema | None:
        """The columns that `columns` declares."""
        if self.columns is None:
            return None
        return pl.Schema({name: declared_type(name, kind) for name, kind in self.columns.items()})


def _field(key: str) -> str:
    return "schema_" if key == "schema" else key
