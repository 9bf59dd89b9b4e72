"""Topics that must be there, and what the brokers allow."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from dataflow.connectors.kafka.cluster import partitions_of
from dataflow.connectors.kafka.errors import translate
from dataflow.errors import Rejected

_REPLICAS = 3


async def ensure_topic(
    admin: AIOKafkaAdminClient,
    topic: str,
    partitions: int,
    replication: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> None:
    """Make the topic unless it exists; two who do that at once are both served. Raises what the broker refuses."""
    if topic in await partitions_of(admin, [topic]):
        return
    if replication is None:
        replication = min(_REPLICAS, len((await admin.describe_cluster())["brokers"]))
    response = await admin.create_topics([NewTopic(topic, partitions, replication, topic_configs=dict(settings or {}))])
    for name, code, *message in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise translate(error(*message), f"making the topic {name!r}")


async def check_transaction_timeout(admin: AIOKafkaAdminClient, seconds: float) -> None:
    """Raises `Rejected` where the brokers do not allow transactions that long. Who may not ask finds out later."""
    broker = (await admin.describe_cluster())["brokers"][0]["node_id"]
    resource = ConfigResource(ConfigResourceType.BROKER, str(broker), {"transaction.max.timeout.ms": None})
    for response in await admin.describe_configs([resource]):
        for code, _, _, _, entries in response.resources:
            for name, value, *_ in entries if code == 0 else ():
                if name == "transaction.max.timeout.ms" and round(seconds * 1000) > int(value):
                    raise Rejected(
                        f"transaction_timeout is {seconds:g} s, the brokers allow {int(value) / 1000:g} s",
                        code="INVALID_TRANSACTION_TIMEOUT",
                        hint="lower it, or raise the brokers' transaction.max.timeout.ms",
                    )
