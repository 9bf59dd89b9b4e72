"""What is asked of a cluster's controller while there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from dataflow.connectors.kafka.cluster import Cluster, ClusterConfig
from dataflow.errors import Retryable


@dataclass
class Known:
    """What a client has been told of the cluster."""

    controller: Any = None

    def brokers(self) -> list[str]:
        return ["broker-1"]


@pytest.mark.parametrize("looks", [[None], ["1", None]], ids=["none yet", "none any more"])
async def test_a_cluster_without_a_controller_is_tried_again(
    looks: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, coming = Known(), iter(looks)

    async def look(self: AIOKafkaClient) -> None:
        name = next(coming)
        known.controller = None if name is None else SimpleNamespace(nodeId=name)

    async def start(self: AIOKafkaAdminClient) -> None:
        self._client.cluster = known

    async def refuse(self: AIOKafkaAdminClient, node: str, request: Any) -> None:
        raise kafka.NotControllerError(node)

    async def close(self: AIOKafkaAdminClient) -> None: ...

    monkeypatch.setattr(AIOKafkaClient, "force_metadata_update", look)
    for name, method in (("start", start), ("close", close), ("_send_request_to_node", refuse)):
        monkeypatch.setattr(AIOKafkaAdminClient, name, method)
    cluster = Cluster(ClusterConfig(brokers="broker-1:9092"), Path())
    with pytest.raises(Retryable, match="names no controller yet") as raised:
        async with cluster.admin() as admin:
            await admin.create_topics([NewTopic("orders", 1, 1)])
    assert raised.value.code == "SERVICE_UNAVAILABLE"
