"""Which topics there are, with how many partitions, and which identity: a topic that is deleted and made again has its
old name and a new id, and offsets of the one mean nothing in the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from dataflow.connectors.kafka.cluster import Cluster, check_met
from dataflow.connectors.kafka.errors import translated
from dataflow.errors import NotFound, Rejected

RELOADING = 5.0
"""Seconds that a broker may take to know its topics again after it has come back."""

_NONE = UUID(int=0)
_GONE = (kafka.UnknownTopicOrPartitionError.errno, kafka.InvalidTopicError.errno)


@dataclass(frozen=True, slots=True)
class Topic:
    """`id` is empty where the brokers are too old to have any (before Kafka 2.8)."""

    name: str
    id: str
    partitions: int


async def topics_of(cluster: Cluster, names: Iterable[str] | None) -> dict[str, Topic]:
    """Those of `names` that exist; None: all that we may see, without Kafka's own. Raises `Retryable` where no broker
    answers, or a topic is just being made."""
    client = AIOKafkaClient(**cluster.options())
    try:
        async with cluster.reaching():
            await client.bootstrap()
            check_met(client)
        async with translated(f"Kafka at {cluster.brokers}", cluster.timeout):
            found = await _ask(client, None if names is None else list(names))
    finally:
        await client.close()
    return {topic.name: topic for topic in found}


async def planned_topics(cluster: Cluster, names: Iterable[str] | None, planned: Mapping[str, int]) -> dict[str, Topic]:
    """As `topics_of`, but `planned` topics (name -> partitions) that are missing are asked for again for a while: a
    broker that is just coming back denies what it has not loaded yet."""
    until = asyncio.get_running_loop().time() + RELOADING
    while True:
        found = await topics_of(cluster, names)
        whole = all(name in found and found[name].partitions >= count for name, count in planned.items())
        if whole or asyncio.get_running_loop().time() > until:
            return found
        await asyncio.sleep(0.2)


def check_same(pinned: str, topic: Topic) -> None:
    """Raises `Rejected` (TOPIC_RECREATED) where the id that was pinned is that of another topic of this name."""
    if pinned and topic.id and pinned != topic.id:
        raise Rejected(
            f"the topic {topic.name!r} was deleted and made again since it was planned",
            code="TOPIC_RECREATED",
            hint="its old offsets mean nothing now: reset the pipeline from the start to read the new topic",
        )


def check_there(name: str, found: Topic | None, partitions: int, brokers: str) -> None:
    """Raises `NotFound` where a topic that was planned is not there any more, or has fewer partitions."""
    if found is None or found.partitions < partitions:
        what = f"the topic {name!r}" if found is None else f"{name}[{found.partitions}]"
        raise NotFound(
            f"{what} was planned and is not there any more at {brokers}",
            hint="restore it, or take it out of the definition and reset the pipeline from the start",
        )


async def _ask(client: AIOKafkaClient, names: list[str] | None) -> list[Topic]:
    node = client.get_random_node()
    try:
        answer = await client.send(node, _TopicsRequest(names))
        rows = [(code, name, UUID(bytes=id), internal, parts) for code, name, id, internal, parts, *_ in answer.topics]
    except NotImplementedError:
        answer = await client.send(node, MetadataRequest(names, allow_auto_topic_creation=False))
        rows = [(code, name, _NONE, internal, parts) for code, name, internal, parts in answer.topics]
    found = []
    for code, name, id, internal, parts in rows:
        if code in _GONE or (names is None and (internal or name.startswith("__"))):
            continue
        if code:
            raise kafka.for_code(code)(name)
        found.append(Topic(name, "" if id == _NONE else str(id), len(parts)))
    return found


class _Uuid:
    """Sixteen bytes as they are."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: Any) -> bytes:
        return bytes(data.read(16))

    @classmethod
    def repr(cls, value: bytes) -> str:
        return value.hex()


class _TopicsResponse_v12(Response):  # type: ignore[misc]  # noqa: N801 - as in aiokafka
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _TopicsRequest_v12(RequestStruct):  # type: ignore[misc]  # noqa: N801
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _TopicsResponse_v12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicsRequest(Request[_TopicsRequest_v12]):  # type: ignore[misc]
    """Metadata, version 12: the first that names ids. aiokafka's own ends at version 5."""

    API_KEY = 3

    def __init__(self, names: list[str] | None) -> None:
        self._names = names

    def build(self, request_struct_class: type[_TopicsRequest_v12]) -> _TopicsRequest_v12:
        wanted: list[Any] | None = None
        if self._names is not None:
            wanted = [(_NONE.bytes, name, {}) for name in self._names]
        return request_struct_class(wanted, False, False, {})
