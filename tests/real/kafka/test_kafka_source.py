"""Where reading begins and ends, what becomes of what cannot be read, and of offsets that are gone."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from dataflow.connectors.kafka import fetch
from dataflow.connectors.numbered import offset_of, position
from dataflow.errors import NotFound, Rejected, Retryable
from dataflow.seams import REJECTS

pytestmark = pytest.mark.kafka


def numbers(*found: int) -> list[bytes]:
    return [json.dumps({"n": n}).encode() for n in found]


async def drain(source: Any, start: Any = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All splits of a bounded source, in order; rows and rejected."""
    found = await source.discover()
    rows, rejected = [found.schema.to_frame()], [REJECTS.to_frame()]
    for split in found.splits:
        async for chunk in source.read(split, start, pin=found.pin):
            rows.append(chunk.rows)
            if chunk.rejected is not None:
                rejected.append(chunk.rejected)
    return pl.concat(rows), pl.concat(rejected)


async def test_metadata_of_a_thousand_messages(broker: Any) -> None:
    topic = await broker.topic(2)
    for partition in (0, 1):
        await broker.put(
            topic,
            numbers(*range(500)),
            partition=partition,
            keys=[b"k%d" % n for n in range(500)],
            headers={"a": b"1", "b": "é".encode()},
            timestamps=[1_700_000_000_000 + n for n in range(500)],
        )
    rows, rejected = await drain(broker.source(topic, metadata={"key": "key", "offset": "at", "headers": "headers"}))
    assert rows.schema["n"] == pl.Int64
    assert rows.height == 1000
    assert not rejected.height
    assert rows["at"].to_list() == [*range(500), *range(500)]
    assert rows["key"][7] == "k7"
    assert rows["headers"][0].to_list() == [{"name": "a", "value": "1"}, {"name": "b", "value": "é"}]
    every, _ = await drain(broker.source(topic, metadata=True))
    assert every["_topic"].unique().to_list() == [topic]
    assert every["_partition"].to_list() == [0] * 500 + [1] * 500
    assert every["_timestamp"][3] == datetime(2023, 11, 14, 22, 13, 20, 3000, tzinfo=UTC)


async def test_many_fetches_miss_nothing(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_BYTES", 1000)
    topic = await broker.topic()
    await broker.put(topic, numbers(*range(10_000)))
    rows, _ = await drain(broker.source(topic, metadata=["offset"]))
    assert rows["n"].to_list() == rows["_offset"].to_list() == list(range(10_000))


async def test_at_the_end_of_the_log_it_waits_to_be_asked(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes meanwhile is one chunk: nothing is fetched ahead, which would bring the first message alone."""
    monkeypatch.setattr(fetch, "FETCH_BYTES", 1000)
    topic = await broker.topic()
    await broker.put(topic, numbers(*range(1000)))
    source = broker.source(topic, until=None)
    found = await source.discover()
    async with aclosing(source.read(found.splits[0], None, pin=found.pin)) as chunks:
        read, ends = 0, []
        while read < 1000:
            chunk = await anext(chunks)
            read += chunk.rows.height
            ends.append(chunk.caught_up)
        assert ends == [False] * (len(ends) - 1) + [True]
        assert len(ends) > 1
        for n in (1000, 1001, 1002):
            await broker.put(topic, numbers(n))
        chunk = await anext(chunks)
        assert chunk.rows["n"].to_list() == [1000, 1001, 1002]
        assert chunk.caught_up


async def test_bad_messages_are_located(broker: Any) -> None:
    topic = await broker.topic()
    values = [*numbers(1, 2, 3), b"{nope", b'{"n":"x"}', b"[1]", None, b'{"n":\n4}', b"\xff", *numbers(5)]
    await broker.put(topic, values, keys=[b"k"] * len(values))
    rows, rejected = await drain(broker.source(topic))
    assert rows["n"].to_list() == [1, 2, 3, None, 4, 5]
    assert rejected["where"].to_list() == [f"{topic}[0]@{offset}" for offset in (3, 4, 5, 8)]
    assert rejected["code"].to_list() == ["BAD_JSON", "BAD_VALUE", "BAD_JSON", "BAD_JSON"]
    assert rejected["record"].to_list() == ["{nope", '{"n":"x"}', "[1]", "\\xff"]
    text, unreadable = await drain(broker.source(topic, format="string"))
    assert text["value"].to_list()[6] is None
    assert unreadable["code"].to_list() == ["BAD_TEXT"]
    raw, none = await drain(broker.source(topic, format="bytes"))
    assert raw["value"].to_list() == values
    assert not none.height


async def test_where_reading_begins(broker: Any) -> None:
    topic = await broker.topic(2)
    begun = datetime(2024, 1, 1, tzinfo=UTC)
    at = [round((begun + timedelta(hours=n)).timestamp() * 1000) for n in range(10)]
    await broker.put(topic, numbers(*range(10)), timestamps=at)
    await broker.put(topic, numbers(*range(100, 110)), partition=1, timestamps=at)
    later, _ = await drain(broker.source(topic, start=begun + timedelta(hours=7, minutes=30)))
    assert later["n"].to_list() == [8, 9, 108, 109]
    never, _ = await drain(broker.source(topic, start=begun + timedelta(days=7)))
    assert never.height == 0
    some, _ = await drain(broker.source(topic, start={1: 8}))
    assert some["n"].to_list() == [*range(10), 108, 109]
    latest, _ = await drain(broker.source(topic, start="latest"))
    assert latest.height == 0
    for start, code in (({2: 0}, "NOT_FOUND"), ({0: 11}, "OUT_OF_RANGE")):
        with pytest.raises(Rejected) as refused:
            await broker.source(topic, start=start).discover()
        assert refused.value.code == code


async def test_latest_is_what_comes_after_the_plan(broker: Any) -> None:
    topic = await broker.topic()
    await broker.put(topic, numbers(1, 2))
    source = broker.source(topic, start="latest", until=None)
    found = await source.discover()
    assert not source.bounded
    await broker.put(topic, numbers(3))
    async with aclosing(source.read(found.splits[0], None, pin=found.pin)) as chunks:
        chunk = await anext(chunks)
    assert (chunk.rows["n"].to_list(), offset_of(chunk.resume)) == ([3], 3)


async def test_the_end_is_that_of_the_plan_and_aborted_messages_are_not_read(broker: Any) -> None:
    topic = await broker.topic()
    producer = AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id=topic)
    await producer.start()
    for n, end in ((1, "commit"), (2, "abort"), (3, "commit"), (4, "abort")):
        await producer.begin_transaction()
        await producer.send_and_wait(topic, numbers(n)[0])
        await (producer.commit_transaction() if end == "commit" else producer.abort_transaction())
    await producer.stop()
    await broker.get(topic)  # waits for the last marker
    source = broker.source(topic)
    found = await source.discover()
    await broker.put(topic, numbers(5))
    chunks = [chunk async for chunk in source.read(found.splits[0], None, pin=found.pin)]
    assert [n for chunk in chunks for n in chunk.rows["n"]] == [1, 3]
    assert offset_of(chunks[-1].resume) == 8  # four messages, four markers
    assert [chunk async for chunk in source.read(found.splits[0], chunks[-1].resume, pin=found.pin)] == []


async def test_offsets_that_retention_took(broker: Any) -> None:
    topic = await broker.topic()
    await broker.put(topic, numbers(*range(10)))
    source = broker.source(topic)
    found = await source.discover()
    await broker.delete_before(topic, 0, 6)
    with pytest.raises(Rejected, match=r"\[0\]@2 is lost: the topic now begins at 6") as refused:
        await anext(source.read(found.splits[0], position(2), pin=found.pin))
    assert refused.value.code == "LOST_OFFSETS"
    assert "reset" in refused.value.hint
    with pytest.raises(Rejected, match="beyond the end"):
        await anext(broker.source(topic, until=None).read(found.splits[0], position(50), pin=_endless(found.pin)))
    with pytest.raises(Rejected, match="is lost"):
        await broker.source(topic, start={0: 2}).discover()


def _endless(pin: str) -> str:
    found = json.loads(pin)
    return json.dumps({**found, "topics": {name: {**topic, "end": None} for name, topic in found["topics"].items()}})


async def test_no_topic_no_broker_no_messages(broker: Any) -> None:
    with pytest.raises(NotFound, match="there is no topic 'nowhere'"):
        await broker.source("nowhere").discover()
    empty = await broker.topic()
    with pytest.raises(Rejected) as unknown:
        await broker.source(empty).discover()
    assert unknown.value.code == "EMPTY"
    rows, _ = await drain(broker.source(empty, columns={"n": "BIGINT", "at": "TIMESTAMP", "tags": "VARCHAR[]"}))
    assert rows.schema == {"n": pl.Int64, "at": pl.Datetime("us"), "tags": pl.List(pl.String)}
    broker.address = "127.0.0.1:1"
    with pytest.raises(Retryable) as refused:
        await broker.source("t", timeout=5).discover()
    assert refused.value.code == "CONNECTION_FAILED"


async def test_a_broker_that_no_longer_answers(broker: Any) -> None:
    topic = await broker.topic()
    await broker.put(topic, numbers(1))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    found = await broker.source(topic).discover()
    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    async with server:
        broker.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Retryable):
            await anext(broker.source(topic, timeout=2).read(found.splits[0], None, pin=found.pin))


async def test_settling_tells_the_group(broker: Any) -> None:
    topic = await broker.topic()
    await broker.put(topic, numbers(*range(5)))
    source = broker.source(topic, group=f"{topic}-group")
    found = await source.discover()
    await source.settle(found.splits[0], position(3))
    await source.settle(found.splits[0], position(4))
    await broker.source(topic).settle(found.splits[0], position(1))  # no group: nobody is told
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, group_id=f"{topic}-group")
    await consumer.start()
    try:
        assert await consumer.committed(TopicPartition(topic, 0)) == 4
    finally:
        await consumer.stop()


async def test_the_lag_is_what_is_left_to_read(broker: Any) -> None:
    """Against what another client says; an open transaction is behind too, though nobody may read it yet."""
    topic = await broker.topic(2)
    await broker.put(topic, numbers(*range(100)))
    await broker.put(topic, numbers(*range(10)), partition=1)
    source = broker.source(topic, chunk_rows=30, until=None)
    found = await source.discover()
    parts = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    assert source.lag({}) == {}

    async def told(positions: Any, wanted: Any) -> None:
        async with asyncio.timeout(30):
            while source.lag(positions) != wanted:
                await asyncio.sleep(0.05)

    async with source, aclosing(source.read(found.splits[0], None, pin=found.pin)) as chunks:
        first = await anext(chunks)
        second = await anext(chunks)
        await told({}, {f"{topic}-0": 100})
        await told({f"{topic}-0": first.resume}, {f"{topic}-0": 70})
        async with aclosing(source.read(found.splits[1], None, pin=found.pin)) as others:
            other = await anext(others)
            positions = {f"{topic}-0": second.resume, f"{topic}-1": other.resume}
            await told(positions, {f"{topic}-0": 40, f"{topic}-1": 0})
            producer = AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id=topic)
            await producer.start()
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"{}", partition=1)
            await told(positions, {f"{topic}-0": 40, f"{topic}-1": 1})
            await producer.commit_transaction()
            await producer.stop()
            consumer = AIOKafkaConsumer(bootstrap_servers=broker.address)
            await consumer.start()
            ends = await consumer.end_offsets(parts)
            await consumer.stop()
            await told(positions, {f"{topic}-0": ends[parts[0]] - 60, f"{topic}-1": ends[parts[1]] - 10})
