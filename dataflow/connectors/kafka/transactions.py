"""Which transactional ids a cluster knows: those of attempts that never committed too, and left no receipt."""

from __future__ import annotations

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from dataflow.connectors.kafka.cluster import Cluster, check_met
from dataflow.connectors.kafka.errors import translated


async def transactional_ids(cluster: Cluster, prefix: str) -> set[str]:
    """The ids that begin so and that we may see; none where the brokers do not tell (before Kafka 3.0). Raises
    `Retryable` where a broker does not answer."""
    client = AIOKafkaClient(**cluster.options())
    found: set[str] = set()
    try:
        async with cluster.reaching():
            await client.bootstrap()
            check_met(client)
        async with translated(f"transactions at {cluster.brokers}", cluster.timeout):
            for broker in client.cluster.brokers():
                answer = await client.send(broker.nodeId, _ListRequest())
                if answer.error_code:
                    raise kafka.for_code(answer.error_code)()
                found |= {name for name, *_ in answer.transaction_states if name.startswith(prefix)}
    except NotImplementedError:
        return set()
    finally:
        await client.close()
    return found


class _ListResponse_v0(Response):  # type: ignore[misc]  # noqa: N801 - as in aiokafka
    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_state_filters", CompactArray(CompactString("utf-8"))),
        (
            "transaction_states",
            CompactArray(
                ("transactional_id", CompactString("utf-8")),
                ("producer_id", Int64),
                ("transaction_state", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ListRequest_v0(RequestStruct):  # type: ignore[misc]  # noqa: N801
    FLEXIBLE_VERSION = True
    API_KEY = 66
    API_VERSION = 0
    RESPONSE_TYPE = _ListResponse_v0
    SCHEMA = Schema(
        ("state_filters", CompactArray(CompactString("utf-8"))),
        ("producer_id_filters", CompactArray(Int64)),
        ("tags", TaggedFields),
    )


class _ListRequest(Request[_ListRequest_v0]):  # type: ignore[misc]
    """ListTransactions, which aiokafka does not have."""

    API_KEY = 66

    def build(self, request_struct_class: type[_ListRequest_v0]) -> _ListRequest_v0:
        return request_struct_class([], [], {})
