"""Whose output is replaced, and whose is not."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from file_sink_runs import SCHEMA, frame, lane_of, next_epoch, receipt_of, sink_at, visible

from dataflow.connectors.file.sink import FileSink
from dataflow.domain.flow import Lane
from dataflow.errors import Conflict, Fenced, Rejected

BOTH = pytest.mark.parametrize("path", ["out", "out.jsonl"])


async def run(sink: FileSink, lane: Lane, rows: int, dead: int = 0) -> None:
    await sink.prepare(SCHEMA, [lane])
    async with sink.open(lane, SCHEMA) as writer:
        await next_epoch(writer, lane, rows, dead)
    await sink.complete([lane])


def lines(base: Path) -> int:
    return sum(len((base / name).read_text().splitlines()) for name in visible(base) if ".dead" not in name)


@BOTH
async def test_a_new_generation_replaces_the_old_one(tmp_path: Path, path: str) -> None:
    await run(sink_at(tmp_path, path, format="jsonl"), lane_of(), 5, dead=2)
    second, lane = sink_at(tmp_path, path, format="jsonl", generation=2), lane_of(generation=2)
    await second.prepare(SCHEMA, [lane])
    assert lines(tmp_path) == (0 if path == "out" else 5), "a single file stays until the new one is whole"
    async with second.open(lane, SCHEMA) as writer:
        assert await writer.last_receipt() is None
        await next_epoch(writer, lane, 3, dead=1)
    await second.prepare(SCHEMA, [lane])
    await second.complete([lane])
    assert lines(tmp_path) == 3
    assert len([name for name in visible(tmp_path) if ".dead" in name]) == 1


@BOTH
async def test_an_attempt_of_an_old_generation_is_fenced(tmp_path: Path, path: str) -> None:
    old, new = lane_of(), lane_of(generation=2)
    first = sink_at(tmp_path, path, format="jsonl")
    await first.prepare(SCHEMA, [old])
    async with first.open(old, SCHEMA) as late:
        await next_epoch(late, old, 2)
        await late.write(frame([99]))
        await run(sink_at(tmp_path, path, format="jsonl", generation=2), new, 3)
        with pytest.raises(Fenced):
            await late.commit(receipt_of(old, 2, 3))
    with pytest.raises(Fenced):
        await first.prepare(SCHEMA, [old])
    with pytest.raises(Fenced):
        await first.complete([old])
    with pytest.raises(Fenced):
        async with first.open(old, SCHEMA):
            pass
    assert lines(tmp_path) == 3


@BOTH
async def test_what_another_journal_knows_of_is_neither_taken_over_nor_replaced(tmp_path: Path, path: str) -> None:
    sink, lane = sink_at(tmp_path, path, format="jsonl", begins=True), lane_of()
    await sink.prepare(SCHEMA, [lane])
    await sink.prepare(SCHEMA, [lane])  # nothing is committed yet: an attempt at the plan may come twice
    async with sink.open(lane, SCHEMA) as writer:
        await next_epoch(writer, lane, 3)
        with pytest.raises(Conflict, match="another journal") as refused:
            await sink.prepare(SCHEMA, [lane])
        await next_epoch(writer, lane, 2)  # it is none the worse for it
    assert str(tmp_path / f".{path}.dataflow" / "pipe") in refused.value.hint
    await sink.complete([lane])
    assert lines(tmp_path) == 5
    await sink_at(tmp_path, path, format="jsonl", begins=True, generation=2).prepare(SCHEMA, [lane_of(generation=2)])


@BOTH
async def test_foreign_output_is_refused(tmp_path: Path, path: str) -> None:
    foreign = tmp_path / (path if path.endswith(".jsonl") else f"{path}/mine.jsonl")
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("{}\n")
    with pytest.raises(Conflict, match="overwrite"):
        await sink_at(tmp_path, path, format="jsonl").prepare(SCHEMA, [lane_of()])
    assert foreign.read_text() == "{}\n"
    await run(sink_at(tmp_path, path, format="jsonl", overwrite=True), lane_of(), 3)
    assert lines(tmp_path) == 3


async def test_overwrite_leaves_alone_what_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "readme.md").write_text("mine")
    await run(sink_at(tmp_path, "out", format="jsonl", overwrite=True), lane_of(), 3)
    assert (tmp_path / "out" / "readme.md").read_text() == "mine"


async def test_an_edited_file_is_not_ours_any_more(tmp_path: Path) -> None:
    await run(sink_at(tmp_path, "out.jsonl"), lane_of(), 5)
    with (tmp_path / "out.jsonl").open("a") as file:
        file.write("precious\n")
    with pytest.raises(Conflict):
        await sink_at(tmp_path, "out.jsonl", generation=2).prepare(SCHEMA, [lane_of(generation=2)])


async def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out.jsonl")
    await sink.prepare(SCHEMA, [lane_of()])
    async with sink.open(lane_of(), SCHEMA) as writer:
        await next_epoch(writer, lane_of(), 2)
    (tmp_path / "out.jsonl").write_text("precious\n")
    with pytest.raises(Conflict):
        await sink.complete([lane_of()])
    assert (tmp_path / "out.jsonl").read_text() == "precious\n"
    (tmp_path / "out.jsonl").unlink()
    await sink.complete([lane_of()])
    assert lines(tmp_path) == 2


@BOTH
async def test_another_pipeline_is_refused(tmp_path: Path, path: str) -> None:
    await run(sink_at(tmp_path, path, format="jsonl"), lane_of(), 5)
    other = sink_at(tmp_path, path, format="jsonl", pipeline="other")
    with pytest.raises(Conflict, match="pipe writes there"):
        await other.prepare(SCHEMA, [lane_of(pipeline="other")])
    await run(sink_at(tmp_path, path, format="jsonl", pipeline="other", overwrite=True), lane_of(pipeline="other"), 2)
    assert lines(tmp_path) == 2


async def test_two_sinks_do_not_share_a_path(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl")
    await sink.prepare(SCHEMA, [lane_of(sink="one")])
    with pytest.raises(Conflict, match="both write"):
        await sink.prepare(SCHEMA, [lane_of(sink="two")])


async def test_columns_stay_the_same_within_a_generation(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out", format="jsonl")
    await run(sink, lane_of(), 5)
    with pytest.raises(Conflict, match="new generation"):
        await sink.prepare(pl.Schema({"n": pl.String}), [lane_of()])


async def test_columns_are_chosen_and_ordered(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out.csv", columns=("c", "a"))
    schema = pl.Schema({"a": pl.Int64, "b": pl.Int64, "c": pl.String})
    await sink.prepare(schema, [lane_of()])
    async with sink.open(lane_of(), schema) as writer:
        await writer.write(pl.DataFrame({"a": [1], "b": [2], "c": ["x"]}))
        await writer.commit(receipt_of(lane_of(), 1, 1))
    await sink.complete([lane_of()])
    assert (tmp_path / "out.csv").read_text() == "c,a\nx,1\n"
    with pytest.raises(Rejected, match="no such column: d") as caught:
        await sink_at(tmp_path, "new.csv", columns=("d",)).prepare(schema, [lane_of()])
    assert caught.value.code == "UNKNOWN_COLUMN"


async def test_a_path_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    (tmp_path / "out.csv").mkdir()
    (tmp_path / "file").write_text("")
    for path in ("out", "out.csv", "file/out.csv"):
        with pytest.raises(Rejected) as caught:
            await sink_at(tmp_path, path, format="csv").prepare(SCHEMA, [lane_of()])
        assert caught.value.code == "BAD_PATH"


async def test_dead_letters_go_where_the_definition_says(tmp_path: Path) -> None:
    from dataclasses import replace

    from dataflow.connectors.file.sink import SINK
    from dataflow.seams import Context

    context = replace(Context(pipeline="pipe", base=tmp_path), dead_letters=Path("letters"))
    await run(SINK.build(SINK.config(path="out.csv"), context), lane_of(), 5, dead=2)
    assert visible(tmp_path) == ["letters/dead-pipe-g1-sink-0-00000001-000.jsonl", "out.csv"]


async def test_a_folder_that_did_not_exist_is_made(tmp_path: Path) -> None:
    await run(sink_at(tmp_path, "deep/er/out", format="jsonl"), lane_of(), 2)
    assert visible(tmp_path) == ["deep/er/out/part-g1-sink-0-00000001-000.jsonl"]
