"""The schema that a sink's values are written by: what it says, and the id that a registry knows it by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl
import pyarrow as pa

from dataflow.connectors.kafka import avro, protobuf
from dataflow.connectors.kafka.decode import Format
from dataflow.connectors.kafka.encode_avro import AvroRows, schema_of
from dataflow.connectors.kafka.encode_protobuf import ProtobufRows, proto_of
from dataflow.connectors.kafka.given import avro_given, protobuf_given
from dataflow.connectors.kafka.registry import HEADER, MAGIC, Registered, Registry
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig
from dataflow.errors import NotFound, Rejected


class Rows(Protocol):
    def encode(self, rows: pl.DataFrame, prefix: bytes) -> pa.LargeBinaryArray:
        """Of each row its value, behind the prefix. Raises `BadRecord`."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """How rows become values: by `rows`, behind `prefix` (a zero and the schema's id; nothing without a registry)."""

    rows: Rows
    prefix: bytes = b""


class SinkSchema:
    """Of one sink with the format avro or protobuf."""

    def __init__(self, config: KafkaSinkConfig, base: Path, timeout: float) -> None:
        self._config, self._base = config, base
        self._registry = Registry(config.registry, base, timeout) if config.registry is not None else None

    async def written(self, columns: pl.Schema) -> Written:
        """For rows of those columns. The schema is the one of the definition, else that of the subject (`register:
        false`), else one that is derived; it is registered where it is to be, which changes nothing if it is already.

        Raises `InvalidSpec` where columns and schema do not fit, `Rejected` (INCOMPATIBLE_SCHEMA, BAD_SCHEMA) where the
        registry does not take it, `NotFound` where it is not there, `Retryable` where no registry answers."""
        return await asyncio.to_thread(self._avro if self._config.format == "avro" else self._protobuf, columns)

    async def probe(self) -> str:
        """Ask the registry for the subject, and change nothing: a line for people. Raises as `written` does."""
        if self._registry is None:
            return ""
        try:
            found = await asyncio.to_thread(self._registry.newest, self._config.subject)
        except NotFound:
            if not self._registers:
                raise
            return f"; the subject {self._config.subject} is not there yet"
        return f"; schema {found.id} is the newest of {self._config.subject}"

    @property
    def _registers(self) -> bool:
        return self._config.registry is not None and self._config.registry.register_

    def _avro(self, columns: pl.Schema) -> Written:
        given = self._config.schema_
        if given is None and not self._registers:
            found = self._newest(serialized=False)
            schema = avro.registered(self._registered, found)
            return Written(AvroRows(schema, columns), HEADER.pack(MAGIC, found.id))
        text = avro_given(given, self._base) if given is not None else schema_of(columns, self._config.message_name)
        rows = AvroRows(avro.AvroSchema(text), columns)
        return Written(rows, self._header("AVRO", text))

    def _protobuf(self, columns: pl.Schema) -> Written:
        given, name = self._config.schema_, self._config.message
        if given is None and not self._registers:
            found = self._newest(serialized=True)
            rows = ProtobufRows(protobuf.registered(self._registered, found).message(name), columns)
            return Written(rows, HEADER.pack(MAGIC, found.id) + rows.indices)
        if given is not None:
            file, text = protobuf_given(given, self._base)
        else:
            text, name = self._derived(columns), None
            file = protobuf.ProtoFile.of_text(text, "derived.proto", _nowhere)
        rows = ProtobufRows(file.message(name), columns)
        if self._registry is None:
            return Written(rows)
        if imported := file.imported:
            raise Rejected(
                f"the schema imports {imported[0]}: with what it refers to it cannot be registered from here",
                code="BAD_SCHEMA",
                hint="register it, and set registry: {register: false} and no schema",
            )
        return Written(rows, self._header("PROTOBUF", text or file.main_text) + rows.indices)

    def _derived(self, columns: pl.Schema) -> str:
        """Field numbers are for ever: those of the subject's newest schema stay."""
        try:
            newest = protobuf.registered(self._registered, self._newest(serialized=True))
        except NotFound:
            return proto_of(columns, self._config.message_name)
        return proto_of(columns, self._config.message_name, newest.message(None))

    @property
    def _registered(self) -> Registry:
        assert self._registry is not None
        return self._registry

    def _newest(self, *, serialized: bool) -> Registered:
        return self._registered.newest(self._config.subject, serialized=serialized)

    def _header(self, kind: str, text: str) -> bytes:
        if self._registry is None:
            return b""
        subject = self._config.subject
        if self._registers:
            return HEADER.pack(MAGIC, self._registry.register(subject, text, kind))
        return HEADER.pack(MAGIC, self._registry.lookup(subject, text, kind))


def structured(config: KafkaSinkConfig) -> bool:
    return config.format in (Format.AVRO, Format.PROTOBUF)


def _nowhere(name: str) -> str:
    raise NotFound(f"{name} is not there")
