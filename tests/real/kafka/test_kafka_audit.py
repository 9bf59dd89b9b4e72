"""The count of a real topic, lane by lane: right beside other writers and aborted attempts, and tampering is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import polars as pl
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from dataflow.connectors.kafka import receipts
from dataflow.connectors.kafka.writer import transactional_id
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.seams import REJECTS, Audit, Auditable

pytestmark = pytest.mark.kafka

SCHEMA = pl.Schema({"n": pl.Int64})
LANES = [Lane(pipeline="test", generation=1, sink="sink", number=n, splits=(f"s{n}",)) for n in range(2)]
LETTER = pl.DataFrame([["source", "BAD_RECORD", "bad", "x:1", "?"]], schema=REJECTS, orient="row")


def receipt(lane: Lane, epoch: int) -> Receipt:
    """Ten rows and a dead letter an epoch."""
    counters = Counters(read=11 * epoch, written=10 * epoch, failed=epoch, dead_lettered=epoch)
    positions = {lane.splits[0]: Position(str(epoch))}
    return Receipt(pipeline="test", generation=1, lane=lane.name, epoch=epoch, positions=positions, counters=counters)


class Written:
    """Three epochs of two lanes; an attempt of the first lane that died with rows in an open transaction, and was
    overtaken by one that committed nothing."""

    def __init__(self, broker: Any, topic: str) -> None:
        self.broker, self.topic = broker, topic
        self.sink = broker.sink(topic, receipts_topic=f"{topic}.receipts")

    async def write(self) -> None:
        await self.sink.prepare(SCHEMA, LANES)
        for lane in LANES:
            for epoch in (1, 2, 3):  # each by another attempt
                async with self.sink.open(lane, SCHEMA) as writer:
                    await writer.last_receipt()
                    await writer.write(pl.DataFrame({"n": range(10)}))
                    await writer.reject(LETTER)
                    await writer.commit(receipt(lane, epoch))
        dead = self.sink.open(LANES[0], SCHEMA)
        await dead.__aenter__()
        await dead.write(pl.DataFrame({"n": range(1000)}))
        await dead._producer.flush(self.topic)
        async with self.sink.open(LANES[0], SCHEMA):
            pass
        await dead.__aexit__(None, None, None)

    async def audit(self) -> Audit:
        found: Audit = await self.sink.audit(LANES)
        return found

    async def as_lane(self, topic: str, *, key: bytes | None, value: bytes, partition: int = 0) -> None:
        """What somebody with the lane's own transactional id commits."""
        name = transactional_id(self.sink._config, "test", 1, LANES[0].name)
        producer = AIOKafkaProducer(bootstrap_servers=self.broker.address, transactional_id=name)
        await producer.start()
        try:
            async with producer.transaction():
                await producer.send(topic, value, key=key, partition=partition)
        finally:
            await producer.stop()

    @property
    def place(self) -> int:
        return int(self.sink.open(LANES[0], SCHEMA)._receipts.partition(LANES[0]))


@pytest.fixture
async def written(broker: Any) -> Written:
    made = Written(broker, await broker.topic(2))
    await made.write()
    return made


async def test_whole_lanes(written: Written) -> None:
    assert isinstance(written.sink, Auditable)
    await written.broker.put(written.topic, [b"somebody else's"] * 7)
    audit = await written.audit()
    assert (audit.faults, audit.open) == ([], [])
    for lane in LANES:
        held = audit.lanes[lane.name]
        assert (held.rows, held.dead_letters, held.receipt) == (30, 3, receipt(lane, 3))


async def deleted(written: Written) -> None:
    await written.broker.delete_before(written.topic, 0, 4)


async def doubled(written: Written) -> None:
    await written.as_lane(written.topic, key=None, value=b'{"n":1}')


async def forged(written: Written) -> None:
    proof = receipts.encode(receipt(LANES[0], 4))
    await written.broker.put(
        f"{written.topic}.receipts", [proof], partition=written.place, keys=[receipts.key_of(LANES[0])]
    )


async def turned_back(written: Written) -> None:
    proof = receipts.encode(receipt(LANES[0], 2))
    topic, key = f"{written.topic}.receipts", receipts.key_of(LANES[0])
    await written.as_lane(topic, key=key, value=proof, partition=written.place)


async def broken(written: Written) -> None:
    topic, key = f"{written.topic}.receipts", receipts.key_of(LANES[0])
    await written.as_lane(topic, key=key, value=b"{}", partition=written.place)


async def gone(written: Written) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=written.broker.address)
    await admin.start()
    await admin.delete_topics([written.topic])
    await admin.close()
    while written.topic in await written.sink._cluster.partitions(written.topic):
        pass


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (deleted, "[0]: the topic begins at offset 4"),
        (doubled, ""),
        (forged, "no transaction has written"),
        (turned_back, "epoch 2 does not follow that of epoch 3"),
        (broken, "not a receipt"),
        (gone, "no such topic"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_tampering(written: Written, tamper: Callable[[Written], Awaitable[None]], named: str) -> None:
    await tamper(written)
    audit = await written.audit()
    told = [f"{fault.place}: {fault.message}" for fault in audit.faults]
    held = audit.lanes[LANES[0].name]
    if named:
        assert any(named in fault for fault in told), told
    else:
        assert (held.rows, held.receipt) == (31, receipt(LANES[0], 3))
    assert audit.lanes[LANES[1].name].receipt == receipt(LANES[1], 3)


async def test_a_compacted_topic_is_not_counted(broker: Any) -> None:
    topic = await broker.topic(1, cleanup_policy="compact")
    sink = broker.sink(topic, receipts_topic=f"{topic}.receipts", key="n")
    await sink.prepare(SCHEMA, LANES[:1])
    async with sink.open(LANES[0], SCHEMA) as writer:
        await writer.write(pl.DataFrame({"n": range(10)}))
        await writer.reject(LETTER)
        await writer.commit(receipt(LANES[0], 1))
    audit = await sink.audit(LANES[:1])
    assert "compacted" in audit.open[0]
    held = audit.lanes[LANES[0].name]
    assert (held.rows, held.dead_letters, held.receipt) == (None, 1, receipt(LANES[0], 1))
