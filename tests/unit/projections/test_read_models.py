"""Status, metrics and audit log: equal to what the journal says, exactly once, whatever order of deaths."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa
from lives import Lives, foreign

from dataflow.domain.record import EventRecord, event_id, hashed
from dataflow.errors import Corrupt, Retryable
from dataflow.journal import MemoryJournal
from dataflow.projections.models import MODELS, model
from dataflow.projections.projector import Projector
from dataflow.projections.recompute import Swap, checksum, recompute
from dataflow.projections.store import Store, TableProjection, advance


def rows(store: Store, view: str) -> Any:
    return store.read(lambda c: [dict(r) for r in c.execute(sa.text(f"SELECT * FROM {view}")).mappings()])


def everything(store: Store) -> list[TableProjection]:
    return [TableProjection(store, one) for one in MODELS.values()]


async def test_rows_are_what_folding_the_journal_gives(journal: MemoryJournal, store: Store) -> None:
    lives = Lives(journal, pipelines=20)
    await journal.append("weather", 0, list(foreign("weather", 3)))
    await lives.live(2000)
    await Projector(journal, everything(store)).catch_up()
    status = {row["pipeline_id"]: row for row in await rows(store, "pipeline_status")}
    assert set(status) == {name for name, state in lives.states.items() if state.version}
    for name, row in status.items():
        state = lives.states[name]
        assert row["status"] == state.status
        assert (row["pipeline_name"], row["description"]) == (state.name, state.description)
        assert (row["generation"], row["version"]) == (state.generation, state.version)
        assert row["total_records"] == state.lifetime.records_processed
        assert row["total_failures"] == state.lifetime.records_failed
        assert row["total_batches"] == state.lifetime.batches_processed
        assert row["sink_type"] == state.spec["sinks"][0]["type"]
    for view in ("pipeline_metrics_minute", "pipeline_metrics_hourly"):
        sums: Counter[tuple[str, str]] = Counter()
        found = await rows(store, view)
        for row in found:
            for count in ("records_processed", "records_failed", "batches", "records_dead_lettered", "cpu_ms"):
                sums[row["pipeline_id"], count] += row[count]
            done = row["records_processed"] + row["records_failed"]
            assert row["avg_batch_size"] == (done / row["batches"] if row["batches"] else 0)
            assert row["error_rate"] == (row["records_failed"] / done if done else 0)
        for name in status:
            total = lives.states[name].lifetime
            assert sums[name, "records_processed"] == total.records_processed
            assert sums[name, "records_failed"] == total.records_failed
            assert sums[name, "batches"] == total.batches_processed
            assert sums[name, "records_dead_lettered"] == total.records_dead_lettered
            assert sums[name, "cpu_ms"] == await cpu_told(journal, name)
        assert len(found) > len(status)
    audit = await rows(store, "audit_log")
    assert sorted(row["position"] for row in audit) == list(range(1, await journal.end() + 1))
    assert {row["actor"] for row in audit} == {"ann", "bob", "pipeline", "sky"}
    assert any("DENIED: the sink is away" in row["summary"] for row in audit)


async def cpu_told(journal: MemoryJournal, pipeline: str) -> int:
    return sum([int(record.payload.get("cpu_ms", 0)) async for record in journal.read(pipeline)])


async def test_batches_may_overlap_and_repeat(journal: MemoryJournal, store: Store) -> None:
    await Lives(journal).live(600)
    dice = random.Random(3)
    projections = everything(store)
    while any([await one.position() < await journal.end() for one in projections]):
        one = dice.choice(projections)
        start = max(0, await one.position() - dice.randint(0, 50))
        await one.apply(await journal.tail(start, dice.randint(1, 90)))
    for one in projections:
        with pytest.raises(Corrupt, match="passed over"):
            await one.apply(_beyond(journal))
        found = await recompute(journal, store, one.model, Swap.NEVER)
        assert (found.different, found.found_checksum) == (0, found.checksum)


def _beyond(journal: MemoryJournal) -> Any:
    from dataclasses import replace

    last = journal.store.entries[-1]
    return [replace(last, position=last.position + 2)]


async def test_two_projectors_at_once_count_once(journal: MemoryJournal, store_url: str) -> None:
    await Lives(journal).live(1500)
    async with Store(store_url) as one, Store(store_url) as two:
        await asyncio.gather(*(Projector(journal, everything(store)).catch_up() for store in (one, two)))
        for each in MODELS.values():
            assert (await recompute(journal, one, each, Swap.NEVER)).different == 0


@pytest.mark.parametrize("name", list(MODELS))
async def test_rebuild_beside_live_traffic_gives_identical_rows(
    journal: MemoryJournal, store: Store, name: str
) -> None:
    lives = Lives(journal)
    await lives.live(3000)
    stop = asyncio.Event()
    projector = Projector(journal, everything(store))
    running = asyncio.create_task(projector.run(stop))

    async def traffic() -> None:
        while not stop.is_set():
            await lives.step()
            await asyncio.sleep(0.001)

    living = asyncio.create_task(traffic())
    while await TableProjection(store, model(name)).position() < 3000:
        await asyncio.sleep(0.01)
    outcome = await recompute(journal, store, model(name), Swap.ALWAYS)
    assert outcome.swapped and outcome.different == 0 and outcome.rows > 0
    assert outcome.checksum == outcome.found_checksum
    while await TableProjection(store, model(name)).position() <= outcome.position + 50:
        await asyncio.sleep(0.01)
    again = await recompute(journal, store, model(name), Swap.ALWAYS)
    assert again.position > outcome.position and again.checksum != outcome.checksum
    stop.set()
    await asyncio.gather(running, living)
    await projector.catch_up()
    before = await checksum(store, model(name))
    assert (await recompute(journal, store, model(name), Swap.ALWAYS)).checksum == before
    assert await checksum(store, model(name)) == before


async def test_a_rebuild_goes_on_where_it_was_killed(journal: MemoryJournal, store: Store) -> None:
    await Lives(journal).live(5000)
    await Projector(journal, everything(store)).catch_up()

    class Killed(BaseException):
        pass

    reached: list[int] = []

    def die(position: int, _goal: int) -> None:
        reached.append(position)
        if len(reached) in (2, 4):
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            await recompute(journal, store, model("status"), Swap.ALWAYS, die)
    outcome = await recompute(journal, store, model("status"), Swap.ALWAYS, die)
    assert reached[1] == reached[2] == 1000, "it began again from zero"
    assert outcome.different == 0


CORRUPTIONS = {
    "status": ["UPDATE {status} SET total_records = total_records + 1 WHERE pipeline_id = 'p-1'"],
    "metrics": [
        "UPDATE {minute} SET batches = batches + 1 WHERE pipeline_id = 'p-1'",
        "DELETE FROM {hourly} WHERE pipeline_id = 'p-2'",
    ],
    "audit": [
        "DELETE FROM {audit} WHERE position = 17",
        "INSERT INTO {audit} SELECT 900000, 'x', stream, 900000, time, type, 'nobody', '', '', '', hash FROM {audit} "
        "WHERE position = 1",
    ],
}


@pytest.mark.parametrize("name", list(MODELS))
async def test_a_corrupted_row_is_reported_and_repaired(journal: MemoryJournal, store: Store, name: str) -> None:
    await Lives(journal).live(900)
    await Projector(journal, everything(store)).catch_up()
    good = await checksum(store, model(name))
    tables = {
        "status": "pipeline_status_a",
        "minute": "pipeline_metrics_minute_a",
        "hourly": "pipeline_metrics_hourly_a",
        "audit": "audit_log_a",
    }
    for statement in CORRUPTIONS[name]:
        text = sa.text(statement.format(**tables))
        assert await store.write(lambda c, text=text: c.execute(text).rowcount)
    found = await recompute(journal, store, model(name), Swap.NEVER)
    assert found.different >= len(CORRUPTIONS[name]) and not found.swapped
    if name == "status":
        [difference] = found.differences
        assert difference.key == "p-1"
        assert difference.found["total_records"] == difference.wanted["total_records"] + 1
    assert await checksum(store, model(name)) != good
    assert (await recompute(journal, store, model(name), Swap.IF_DIFFERENT)).swapped
    assert await checksum(store, model(name)) == good
    assert not (await recompute(journal, store, model(name), Swap.IF_DIFFERENT)).swapped


async def test_tables_of_older_code_are_built_anew(
    journal: MemoryJournal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Lives(journal).live(300)
    await Projector(journal, everything(store), store).catch_up()
    monkeypatch.setattr(type(model("status")), "version", 2)
    await store.write(lambda c: c.execute(sa.text("UPDATE pipeline_status_a SET owner = 'of older code'")))
    await Projector(journal, everything(store), store).catch_up()
    place = await TableProjection(store, model("status")).place()
    assert (place.version, place.slot) == (2, "b")
    assert {row["owner"] for row in await rows(store, "pipeline_status")} == {""}


async def test_an_event_of_a_later_version_stops_only_what_needs_it(journal: MemoryJournal, store: Store) -> None:
    record = hashed(
        EventRecord(
            id=event_id("new", 1),
            stream="new",
            sequence=1,
            type="PipelineDreamt",
            schema_version=1,
            time=Lives(journal).now,
            tags=("pipeline-events", "all-events"),
        )
    )
    await journal.append("new", 0, [record])
    with pytest.raises(Corrupt, match="upgrade"):
        await Projector(journal, everything(store)).catch_up()
    assert await TableProjection(store, model("status")).position() == 0
    assert await TableProjection(store, model("audit")).position() == 1


async def test_offset_and_rows_move_together(journal: MemoryJournal, store: Store) -> None:
    await Lives(journal).live(100)

    class Died(Exception):
        pass

    def half(connection: sa.Connection) -> None:
        advance(connection, model("status"), journal.store.entries[:50])
        raise Died

    with pytest.raises(Died):
        await store.write(half)
    assert await TableProjection(store, model("status")).position() == 0
    assert await rows(store, "pipeline_status") == []


async def test_a_store_that_is_away_is_told_and_the_others_go_on(journal: MemoryJournal, store: Store) -> None:
    class Away:
        name = "away"
        back = faulty = False
        taken = 0

        async def __aenter__(self) -> Away:
            return self

        async def __aexit__(self, *exc: object) -> None:
            return None

        async def position(self) -> int:
            if self.faulty:
                raise KeyError("a fault of ours")
            if not self.back:
                raise Retryable("nobody answers", code="CONNECTION_FAILED")
            return self.taken

        async def apply(self, entries: Any) -> None:
            self.taken = entries[-1].position

    away = Away()
    projector = Projector(journal, [*everything(store), away])
    stop = asyncio.Event()
    running = asyncio.create_task(projector.run(stop))
    lives = Lives(journal)
    await lives.live(200)
    while projector.told()["audit"]["position"] < 200:
        await asyncio.sleep(0.01)
    assert "CONNECTION_FAILED" in projector.told()["away"]["degraded"]
    away.faulty = True
    while "INTERNAL: KeyError" not in projector.told()["away"]["degraded"]:
        await asyncio.sleep(0.01)
    away.faulty = False
    away.back = True
    while away.taken < 200 or projector.told()["away"]["degraded"]:
        await asyncio.sleep(0.01)
    stop.set()
    await running
