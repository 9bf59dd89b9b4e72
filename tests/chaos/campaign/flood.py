"""The input: keyed messages over six uneven partitions, some of them broken, all of them decided by the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError

from dataflow.errors import Retryable
from dataflow.patience import Patience

WEIGHTS = (1, 2, 3, 5, 8, 13)
"""How full the six partitions (or files) are, relative to each other."""

BROKEN = 1013
"""One message of so many cannot be read: its amount is `oops-<id>`."""

PATIENCE = 60.0
"""Seconds for a broker that has begun to answer, on a busy machine, to answer a client of its."""

_NOTES = ("plain", "rush, please", 'gift "wrap"', "ünï çødé 数据", "")


@dataclass(frozen=True)
class Flood:
    """`messages` messages with the ids 0, 1, ...; those of a key are numbered by `seq` and lie in one partition."""

    messages: int
    seed: int

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Columns part, id, key, seq, amount (text), note."""
        dice = random.Random(self.seed)
        keys = max(12, min(2000, self.messages // 50))
        home = [*range(len(WEIGHTS)), *dice.choices(range(len(WEIGHTS)), WEIGHTS, k=keys - len(WEIGHTS))]
        number = pl.int_range(self.messages, eager=True)
        key = number.hash(self.seed) % keys
        rows = pl.DataFrame(
            {
                "part": pl.Series(home).gather(key),
                "id": number,
                "key": pl.Series([f"k{n}" for n in range(keys)]).gather(key),
                "amount": ((number.hash(self.seed + 1) % 20_000).cast(pl.Float64) / 100).cast(pl.String),
                "note": pl.Series(_NOTES).gather(number.hash(self.seed + 2) % len(_NOTES)),
            }
        )
        broken = pl.col("id") % BROKEN == 7
        return rows.with_columns(
            seq=pl.int_range(pl.len()).over("key"),
            amount=pl.when(broken).then(pl.format("oops-{}", "id")).otherwise("amount"),
        ).select("part", "id", "key", "seq", "amount", "note")

    def write_files(self, folder: Path) -> None:
        """A CSV file for each partition."""
        folder.mkdir()
        for part in range(len(WEIGHTS)):
            rows = self.rows.filter(pl.col("part") == part).drop("part")
            rows.write_csv(folder / f"orders-{part}.csv", quote_style="necessary")

    async def make_topic(self, brokers: str, topic: str) -> None:
        admin = await Patience(PATIENCE).until("the broker", lambda: _admin(brokers))
        try:
            response = await admin.create_topics([NewTopic(topic, len(WEIGHTS), 1)])
            assert not any(code for _, code, *_ in response.topic_errors), response
        finally:
            await admin.close()

    async def pour(self, brokers: str, topic: str, begin: int, end: int) -> None:
        """The messages with these ids, as JSON; returns when the broker has them."""
        escaped = pl.Series([note.replace('"', '\\"') for note in _NOTES])
        some = self.rows.slice(begin, end - begin)
        note = pl.col("note").replace_strict(pl.Series(_NOTES), escaped)
        amount = pl.when(pl.col("amount").str.starts_with("o")).then(pl.format('"{}"', "amount")).otherwise("amount")
        open_, close = pl.lit("{"), pl.lit("}")
        body = pl.format('"id":{},"key":"{}","seq":{},"amount":{},"note":"{}"', "id", "key", "seq", amount, note)
        lines = some.select("part", "key", value=pl.concat_str(open_, body, close))
        producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, max_batch_size=500_000)
        await producer.start()
        try:
            acks = []
            for (part,), group in lines.group_by("part", maintain_order=True):
                batch = producer.create_batch()
                for key, value in zip(group["key"], group["value"], strict=True):
                    while batch.append(timestamp=None, key=key.encode(), value=value.encode()) is None:
                        acks.append(await producer.send_batch(batch, topic, partition=part))
                        batch = producer.create_batch()
                acks.append(await producer.send_batch(batch, topic, partition=part))
            for ack in acks:
                await ack
        finally:
            await producer.stop()


async def _admin(brokers: str) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    try:
        await admin.start()
    except KafkaConnectionError as error:
        await admin.close()
        raise Retryable(str(error)) from error
    return admin
