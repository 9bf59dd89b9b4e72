"""Events on a Kafka topic: each once, in the order of its pipeline, whoever dies."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from lives import Lives
from readers import published
from servers.places import Site

from dataflow.domain.record import EventRecord, digest
from dataflow.errors import Fenced
from dataflow.journal import MemoryJournal
from dataflow.journal.sql_statements import time_text
from dataflow.projections.projector import Projector
from dataflow.projections.publication import Publication


@pytest.fixture
def brokers(kafka: Site) -> str:
    return f"127.0.0.1:{kafka.port}"


async def test_each_event_once_in_the_order_of_its_pipeline(journal: MemoryJournal, brokers: str, unique: str) -> None:
    lives, dice = Lives(journal, pipelines=4), random.Random(4)
    await lives.live(400)
    end = await journal.end()
    while True:
        async with Publication(brokers, unique) as one:
            position = await one.position()
            if position >= end:
                break
            await one.apply(await journal.tail(max(0, position - dice.randint(0, 40)), dice.randint(60, 120)))
            if dice.random() < 0.5:  # dies in the middle of the next transaction
                await one._open.write(_rows(journal, position))
    found = await published(brokers, unique, end)
    assert sorted(one["position"] for one in found) == list(range(1, end + 1))
    order: dict[str, list[int]] = defaultdict(list)
    for one in found:
        order[one["stream"]].append(one["sequence"])
        entry = journal.store.entries[one["position"] - 1]
        assert one["hash"] == digest(entry.record)
        assert one["time"] == time_text(entry.record.time)
        assert set(EventRecord.__slots__) <= set(one)
    for sequences in order.values():
        assert sequences == list(range(1, len(sequences) + 1))


def _rows(journal: MemoryJournal, position: int) -> Any:
    import polars as pl

    from dataflow.projections.publication import SCHEMA, message

    entries = journal.store.entries[position : position + 5]
    rows = [{"stream": e.record.stream, "type": "never", "value": message(e)} for e in entries]
    return pl.DataFrame(rows, schema=SCHEMA)


async def test_who_takes_over_fences_who_was_there(journal: MemoryJournal, brokers: str, unique: str) -> None:
    await Lives(journal).live(50)
    assert await Publication(brokers, unique).peek() == 0
    async with Publication(brokers, unique) as one:
        await one.apply(await journal.tail(0, 20))
        assert await Publication(brokers, unique).peek() == 20
        await one.apply(await journal.tail(20, 10))  # a look does not fence
        assert await Publication(brokers, unique).peek() == 30
        await Projector(journal, [Publication(brokers, unique)]).catch_up()
        with pytest.raises(Fenced):
            await one.apply(await journal.tail(20, 20))
    assert len(await published(brokers, unique, await journal.end())) == await journal.end()
