"""The kits against a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from dataflow.connectors.kafka import fetch
from dataflow.testing import exercise_sink, exercise_source

pytestmark = pytest.mark.kafka


def test_source(broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FETCH_BYTES", 4000)  # many fetches, each of one batch
    topic = broker.now(lambda: broker.topic(3))
    for partition, count in enumerate((1500, 40, 0)):
        values = [json.dumps({"n": n, "text": f"a{n}", "at": {"x": n / 2}}).encode() for n in range(count)]
        values[5:6] = [b"not json"] if count else []
        broker.now(lambda v=values, p=partition: broker.put(topic, v, partition=p, keys=[b"k"] * len(v)))
    exercise_source(lambda: broker.source(topic, chunk_rows=197, metadata=True), resumes=4, examples=8)


def test_endless_source(broker: Any) -> None:
    topic = broker.now(broker.topic)
    broker.now(lambda: broker.put(topic, [b'{"n":%d}' % n for n in range(60)]))
    exercise_source(lambda: broker.source(topic, chunk_rows=7, until=None), limit=50, resumes=3, examples=8)


@pytest.mark.parametrize("partitions", [1, 3])
def test_sink(broker: Any, partitions: int) -> None:
    # Not visible_at_once: readers of committed records wait behind a stalled attempt's open transaction.
    topics: dict[int, str] = {}

    def make() -> Any:
        sink = broker.sink(
            topic := f"t-{uuid4().hex[:10]}", key="lane", partitions=partitions, receipts_topic=f"{topic}.receipts"
        )
        topics[id(sink)] = topic
        return sink

    def reader(suffix: str) -> Callable[[Any], list[Any]]:
        def read(sink: Any) -> list[Any]:
            topic = topics[id(sink)] + suffix
            if topic not in broker.now(lambda: sink._cluster.partitions(topic)):
                return []
            return [json.loads(message.value) for message in broker.now(lambda: broker.get(topic))]

        return read

    exercise_sink(make, reader(""), reader(".dead"), examples=10)
