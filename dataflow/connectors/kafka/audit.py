"""How many committed records of each lane a topic really holds, by the producers that the broker has noted.

The broker writes the producer's id into every batch, and gives the same one to every attempt at a lane (it belongs to
the transactional id). A lane's receipts are written by its producer, so the receipts topic tells which ids are the
lane's, and other writers of the topic do not disturb the count.

What is proved: that of each lane as many records are committed in the topic as its receipt says. What is not: which
ones, and single epochs, as only the newest receipt of a lane is kept for ever; nothing where the topic is compacted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from dataflow.connectors.kafka import receipts
from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.errors import translated
from dataflow.connectors.kafka.logs import log_client, read_log
from dataflow.connectors.kafka.receipts import Receipts
from dataflow.connectors.kafka.sink_config import KafkaSinkConfig, Mode
from dataflow.domain.flow import Lane, Receipt
from dataflow.errors import Corrupt, NotFound
from dataflow.seams import Audit, Fault, LaneAudit


@dataclass(slots=True)
class _Proofs:
    """What the receipts topic tells of one lane: its newest receipt, and the producers that wrote any."""

    newest: Receipt | None = None
    producers: set[int] = field(default_factory=set)


class KafkaAudit:
    """One look at the topics of a sink."""

    def __init__(self, cluster: Cluster, config: KafkaSinkConfig, lanes: Sequence[Lane]) -> None:
        self._cluster, self._config, self._lanes = cluster, config, lanes
        self._receipts = Receipts(cluster, config.receipts_topic)
        self._faults: list[Fault] = []
        self._open: list[str] = []

    async def look(self) -> Audit:
        proofs = {lane.name: await self._proofs(lane) for lane in self._lanes}
        written = {name: proof.newest.counters.written if proof.newest else 0 for name, proof in proofs.items()}
        letters = {name: proof.newest.counters.dead_lettered if proof.newest else 0 for name, proof in proofs.items()}
        rows = dead = None
        if self._config.mode is Mode.IDEMPOTENT:
            self._open.append("mode is idempotent: what lies outside of transactions belongs to no lane")
        else:
            dead = await self._counted(self._config.dead_topic, proofs, letters)
            if self._config.one_topic is not None:
                rows = await self._counted(self._config.one_topic, proofs, written)
            else:
                self._open.append("rows name their topics: their records are not counted")
        lanes = {
            name: LaneAudit(
                receipt=proof.newest,
                rows=rows[name] if rows else None,
                dead_letters=dead[name] if dead else None,
            )
            for name, proof in proofs.items()
        }
        return Audit(lanes=lanes, faults=self._faults, open=self._open)

    async def _proofs(self, lane: Lane) -> _Proofs:
        """The lane's receipts that are left, oldest first: each must follow the one before it."""
        found = _Proofs()
        part = TopicPartition(self._receipts.topic, self._receipts.partition(lane))
        key, place = receipts.key_of(lane), f"{part.topic}[{part.partition}]"
        begin, end = await self._bounds(part)
        pending: dict[int, list[tuple[int, bytes | None]]] = defaultdict(list)
        async with (
            log_client(self._cluster, [part.topic]) as client,
            aclosing(read_log(client, part, begin, end, self._cluster.timeout, records=True)) as log,
        ):
            async for batch in log:
                mine = [(batch.offset, value) for owner, value in batch.records if owner == key]
                if batch.marker is None and batch.producer < 0:
                    for offset, value in mine:
                        self._faults.append(Fault(f"{place}@{offset}", "a receipt that no transaction has written"))
                        self._follow(found, value, f"{place}@{offset}")
                    continue
                if batch.marker is None:
                    pending[batch.producer] += mine
                    continue
                for offset, value in pending.pop(batch.producer, []) if batch.marker else []:
                    found.producers.add(batch.producer)
                    self._follow(found, value, f"{place}@{offset}")
                pending.pop(batch.producer, None)
        return found

    def _follow(self, found: _Proofs, value: bytes | None, place: str) -> None:
        if value is None:
            found.newest = None
            return
        try:
            receipt = receipts.decode(value)
        except Corrupt as error:
            self._faults.append(Fault(place, str(error)))
            return
        before = found.newest
        if before and (receipt.epoch <= before.epoch or receipt.counters.read < before.counters.read):
            told = f"the receipt of epoch {receipt.epoch} does not follow that of epoch {before.epoch}"
            self._faults.append(Fault(place, told))
        found.newest = receipt

    async def _counted(self, topic: str, proofs: dict[str, _Proofs], wanted: dict[str, int]) -> dict[str, int] | None:
        """Committed records of each lane in the topic; None where they cannot be counted."""
        try:
            count = await self._cluster.partition_count(topic)
        except NotFound:
            if any(wanted.values()):
                self._faults.append(Fault(topic, "there is no such topic any more"))
            return dict.fromkeys(proofs, 0)
        if await self._compacted(topic):
            self._open.append(f"{topic} is compacted: its records cannot be counted")
            return None
        total: Counter[int] = Counter()
        async with log_client(self._cluster, [topic]) as client:
            for number in range(count):
                part = TopicPartition(topic, number)
                begin, end = await self._bounds(part)
                if begin:
                    told = (
                        f"the topic begins at offset {begin}: what was before is deleted, or older than its retention"
                    )
                    self._faults.append(Fault(f"{topic}[{number}]", told))
                pending: Counter[int] = Counter()
                async with aclosing(read_log(client, part, begin, end, self._cluster.timeout)) as log:
                    async for batch in log:
                        if batch.marker is None:
                            pending[batch.producer] += batch.count
                        elif batch.marker:
                            total[batch.producer] += pending.pop(batch.producer, 0)
                        else:
                            pending.pop(batch.producer, None)
                total[-1] += pending[-1]  # outside of transactions
        return self._by_lane(topic, total, proofs, wanted)

    def _by_lane(
        self, topic: str, total: Counter[int], proofs: dict[str, _Proofs], wanted: dict[str, int]
    ) -> dict[str, int] | None:
        found = {name: sum(total[producer] for producer in proof.producers) for name, proof in proofs.items()}
        ours = {producer for proof in proofs.values() for producer in proof.producers}
        others = sum(count for producer, count in total.items() if producer not in ours)
        missing = sum(max(0, wanted[name] - count) for name, count in found.items())
        if 0 < missing <= others:
            self._open.append(
                f"{topic}: {missing} records may be among {others} of producers whose receipts are compacted away, or "
                "of other writers"
            )
            return None
        return found

    async def _bounds(self, part: TopicPartition) -> tuple[int, int]:
        """Where the partition begins, and where it is decided up to."""
        async with self._cluster.consumer({}) as consumer, translated(part.topic, self._cluster.timeout):
            first, ends = await consumer.beginning_offsets([part]), await consumer.end_offsets([part])
            return first[part], ends[part]

    async def _compacted(self, topic: str) -> bool:
        async with self._cluster.admin() as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": None})
            for response in await admin.describe_configs([resource]):
                for _, _, _, _, entries in response.resources:
                    if any(name == "cleanup.policy" and "compact" in str(value) for name, value, *_ in entries):
                        return True
        return False
