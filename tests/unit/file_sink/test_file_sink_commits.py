"""The commit protocol: what is visible when, who is fenced, what recovery finishes, what stays small."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from file_sink_runs import SCHEMA, frame, lane_of, letters, next_epoch, receipt_of, sink_at, visible

from dataflow.connectors.file.records import LaneLog, Record
from dataflow.errors import Corrupt, Fenced

LANE = lane_of()


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["n"] for part in sorted(path.glob("*")) for line in part.read_text().splitlines()]


async def test_nothing_is_visible_before_its_commit(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await writer.write(frame([1]))
        await writer.reject(letters([2]))
        assert visible(tmp_path) == []
        await writer.commit(receipt_of(LANE, 1, 2))
        assert visible(tmp_path) == [
            "out.dead/dead-pipe-g1-sink-0-00000001-000.jsonl",
            "out/part-g1-sink-0-00000001-000.jsonl",
        ]
        await writer.write(frame([3]))
    assert len(visible(tmp_path)) == 2
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() == receipt_of(LANE, 1, 2)


async def test_a_single_file_appears_only_when_complete(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out.jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 3)
        await next_epoch(writer, LANE, 3)
    assert visible(tmp_path) == []
    summary = await sink.complete([LANE])
    assert summary == {"path": str(tmp_path / "out.jsonl"), "files": 1, "bytes": 48, "dead_letters": None}
    assert visible(tmp_path) == ["out.jsonl"]
    assert [json.loads(line)["n"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == list(range(6))
    assert await sink.complete([LANE]) == summary


async def test_dead_letters_say_who_and_when(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out.parquet")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2)
        await next_epoch(writer, LANE, 2, dead=2)
    assert (await sink.complete([LANE]))["dead_letters"] == str(tmp_path / "out.parquet.dead")
    [path] = (tmp_path / "out.parquet.dead").iterdir()
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert {k: first[k] for k in ("record", "code", "message", "stage", "where", "pipeline", "generation")} == {
        "record": '{"n": 2}',
        "code": "code",
        "message": "message",
        "stage": "stage",
        "where": "where",
        "pipeline": "pipe",
        "generation": 1,
    }
    assert (first["lane"], first["epoch"], len(first["attempt"]), first["at"][-6:]) == ("sink-0", 2, 32, "+00:00")
    assert json.loads(second["record"]) == {"n": 3}


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_a_commit_needs_its_predecessor(tmp_path: Path, path: str) -> None:
    sink = sink_at(tmp_path, path, format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        with pytest.raises(Fenced):
            await writer.commit(receipt_of(LANE, 2, 2))
        with pytest.raises(Fenced):  # of no more use
            await writer.commit(receipt_of(LANE, 1, 2))
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() is None


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_opening_fences_the_attempt_before(tmp_path: Path, path: str) -> None:
    sink = sink_at(tmp_path, path, format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as stalled:
        await stalled.write(frame([99]))
        async with sink.open(LANE, SCHEMA) as writer:
            with pytest.raises(Fenced):
                await stalled.commit(receipt_of(LANE, 1, 1))
            await next_epoch(writer, LANE, 2)
    await sink.complete([LANE])
    assert [(tmp_path / name).read_text() for name in visible(tmp_path)] == ['{"n":0}\n{"n":1}\n']


@pytest.mark.parametrize("path", ["out", "out.jsonl"])
async def test_no_attempt_outlives_completion(tmp_path: Path, path: str) -> None:
    sink = sink_at(tmp_path, path, format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2)
        await writer.write(frame([99]))
        await sink.complete([LANE])
        with pytest.raises(Fenced):
            await writer.commit(receipt_of(LANE, 2, 3))
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() == receipt_of(LANE, 1, 2)
        with pytest.raises(Fenced):
            await next_epoch(writer, LANE, 1)
    assert [len((tmp_path / name).read_text().splitlines()) for name in visible(tmp_path)] == [2]


async def test_a_forgotten_epoch_is_not_taken_again(tmp_path: Path) -> None:
    """The fence by folder is lifted here, so that only the records stand between a late attempt and the lane."""
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    places = sink._places()
    for slept_at in (0, 1):
        late = LaneLog(places, LANE)
        late.open()
        if slept_at:
            late.last = Record(epoch=slept_at, receipt=receipt_of(LANE, slept_at, 1))
        async with sink.open(LANE, SCHEMA) as writer:
            for _ in range(4):
                await next_epoch(writer, LANE, 1)
        late.staging("out").mkdir(exist_ok=True)
        with pytest.raises(Fenced, match="forgotten"):
            late.commit(Record(epoch=slept_at + 1, receipt=receipt_of(LANE, slept_at + 1, 1)))
        late.close()
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() == receipt_of(LANE, 8, 8)
    assert numbers(tmp_path / "out") == list(range(8))


async def test_of_two_living_attempts_one_wins_an_epoch(tmp_path: Path) -> None:
    """As when both opened at the same moment and neither saw the other's folder."""
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    one, two = (LaneLog(sink._places(), LANE) for _ in range(2))
    one.open()
    two.open()
    one.staging("out").mkdir()
    one.commit(Record(epoch=1, receipt=receipt_of(LANE, 1, 11)))
    with pytest.raises(Fenced, match="taken"):
        two.commit(Record(epoch=1, receipt=receipt_of(LANE, 1, 22)))
    one.commit(Record(epoch=2, receipt=receipt_of(LANE, 2, 33)))
    one.seal()
    with pytest.raises(Fenced):
        one.commit(Record(epoch=4, receipt=receipt_of(LANE, 4, 44)))
    one.close()
    two.close()
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() == receipt_of(LANE, 2, 33)


async def test_opening_finishes_a_publication(tmp_path: Path) -> None:
    """As a crash right after the commit point leaves it: the record is there, the part is still staged."""
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2, dead=1)
    [record] = tmp_path.rglob("000000000001.json")
    for attempt, staged, area, final in Record.loads(record.read_bytes()).publish:
        hidden = record.parents[1] / "attempts" / attempt / staged
        hidden.parent.mkdir(exist_ok=True)
        (tmp_path / ("out" if area == "out" else "out.dead") / final).rename(hidden)
    assert visible(tmp_path) == []
    async with sink.open(LANE, SCHEMA) as writer:
        assert await writer.last_receipt() == receipt_of(LANE, 1, 2)
        assert len(visible(tmp_path)) == 2


async def test_parts_that_a_reader_took_away_are_not_missed(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2)
    shutil.rmtree(tmp_path / "out")
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2)
    assert numbers(tmp_path / "out") == [2, 3]


async def test_a_spoiled_record_stops_loudly(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2)
    [record] = tmp_path.rglob("000000000001.json")
    record.write_text("{")
    with pytest.raises(Corrupt):
        async with sink.open(LANE, SCHEMA):
            pass


async def test_rows_of_other_columns_stop_loudly(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        with pytest.raises(Corrupt):
            await writer.write(pl.DataFrame({"n": [1.5]}))


@pytest.mark.parametrize("path", ["out", "out.csv.gz"])
async def test_hundreds_of_epochs_leave_little_behind(tmp_path: Path, path: str) -> None:
    sink = sink_at(tmp_path, path, format="csv")
    await sink.prepare(SCHEMA, [LANE])
    for _ in range(10):
        async with sink.open(LANE, SCHEMA) as writer:
            for _ in range(30):
                await next_epoch(writer, LANE, 1)
    hidden = [p for p in tmp_path.rglob(".out*/**/*") if p.is_file()]
    assert len(hidden) <= 4, hidden
    assert (await sink.complete([LANE]))["files"] == (300 if path == "out" else 1)


async def test_cancelled_writes_end_before_the_files_are_closed(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out.csv.gz", compression_level=9)
    await sink.prepare(SCHEMA, [LANE])

    async def work() -> None:
        async with sink.open(LANE, SCHEMA) as writer:
            await next_epoch(writer, LANE, 10)
            while True:
                await writer.write(frame(range(50_000)))

    task = asyncio.create_task(work())
    while not list(tmp_path.rglob("000000000001.json")):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 10)
    await sink.complete([LANE])
    assert pl.read_csv(tmp_path / "out.csv.gz")["n"].to_list() == list(range(20))


async def test_rotation_numbers_parts_under_the_limit(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl", rotate_size="10kB")
    await sink.prepare(SCHEMA, [LANE])
    async with sink.open(LANE, SCHEMA) as writer:
        await next_epoch(writer, LANE, 2500)
    names = visible(tmp_path)
    assert [name[-9:] for name in names] == [f"{n:03d}.jsonl" for n in range(len(names))]
    sizes = [(tmp_path / name).stat().st_size for name in names]
    assert all(size <= 10_000 for size in sizes) and all(size > 8_000 for size in sizes[:-1])
    assert numbers(tmp_path / "out") == list(range(2500))


@pytest.mark.parametrize("kind", ["csv", "parquet", "json", "jsonl"])
async def test_no_rows_leave_an_empty_part(tmp_path: Path, kind: str) -> None:
    sink = sink_at(tmp_path, "out", format=kind)
    await sink.prepare(SCHEMA, [LANE])
    assert (await sink.complete([LANE]))["files"] == 1
    assert (await sink.complete([LANE]))["files"] == 1
    assert visible(tmp_path) == [f"out/part-g1-sink-0-00000000-000.{kind}"]
    if kind == "parquet":
        assert pl.read_parquet(tmp_path / "out").schema == SCHEMA


async def test_lanes_write_side_by_side(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="parquet")
    lanes = [lane_of(number) for number in range(3)]
    await sink.prepare(SCHEMA, lanes)

    async def one(number: int) -> None:
        async with sink.open(lanes[number], SCHEMA) as writer:
            for _ in range(4):
                await next_epoch(writer, lanes[number], number + 1)

    await asyncio.gather(*map(one, range(3)))
    assert (await sink.complete(lanes))["files"] == 12
    assert pl.read_parquet(tmp_path / "out").height == 4 + 8 + 12
    assert sink_at(tmp_path, "one.csv").max_lanes == 1 and sink.max_lanes is None
