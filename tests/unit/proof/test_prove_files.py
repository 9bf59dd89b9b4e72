"""A proof over files: whole output is proved, and every way to tamper with it is named."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from temporalio.exceptions import ApplicationError

from dataflow.domain import commands as do

PARTS = [
    {"path": "out", "format": "parquet"},
    {"path": "out", "format": "csv", "compression": "gzip"},
    {"path": "out", "format": "jsonl", "rotate_size": "300B"},
    {"path": "out", "format": "json"},
    {"path": "out", "format": "csv", "encoding": "utf-16", "line_ending": "crlf"},
]
SINGLES = ["out.csv", "out.jsonl.gz", "out.json", "out.parquet"]


def of_file(**options: Any) -> dict[str, Any]:
    return {"type": "file", **options}


@pytest.mark.parametrize("options", PARTS, ids=lambda options: "-".join(map(str, list(options.values())[1:])))
async def test_parts_are_proved(run: Any, options: dict[str, Any]) -> None:
    pipeline = run(of_file(**options))
    await pipeline.whole()
    proof = await pipeline.proof()
    assert (proof.verdict, proof.faults, proof.open) == ("proved", [], [])
    assert (proof.gaps, proof.overlaps) == (0, 0)
    (sink,) = proof.sinks
    for lane in sink.lanes:
        ranges = lane.ledger.ranges
        assert [part.first for part in ranges] == [1, *(part.last + 1 for part in ranges[:-1])]
        assert ranges[-1].last == lane.ledger.checkpoint.epoch
        assert all(part.written == sum(commit.rows for commit in lane.commits(part)) for part in ranges)
    read = sum(lane.ledger.checkpoint.counters.read for lane in sink.lanes)
    assert read == 400 + 150 + 90


@pytest.mark.parametrize("path", SINGLES)
async def test_single_files_are_proved(run: Any, path: str) -> None:
    pipeline = run(of_file(path=path), parallelism=1)
    await pipeline.begin()
    await pipeline.segment(3)
    before = await pipeline.proof()
    assert before.verdict == "open" and "gets its name when the run completes" in before.open[0]
    await pipeline.complete()
    proof = await pipeline.proof()
    assert (proof.verdict, proof.faults, proof.open) == ("proved", [], [])


async def test_a_single_file_takes_one_lane(run: Any) -> None:
    """Also where nobody validated the definition: the second lane's rows would be in no file."""
    pipeline = run(of_file(path="out.csv"), parallelism=2)
    with pytest.raises(ApplicationError, match="takes 1 lanes at most"):
        await pipeline.begin()


async def test_a_sink_may_be_ahead_of_the_journal(run: Any) -> None:
    pipeline = run(of_file(path="out", format="parquet"))
    await pipeline.begin()
    await pipeline.segment(3)
    await pipeline.segment(2, lost=True)
    proof = await pipeline.proof()
    assert proof.verdict == "proved"
    assert max(lane.ahead for sink in proof.sinks for lane in sink.lanes) == 2


async def test_a_plan_without_commits_is_proved(run: Any) -> None:
    pipeline = run(of_file(path="out", format="parquet"))
    await pipeline.begin()
    assert (await pipeline.proof()).verdict == "proved"  # nothing was read, and nothing is there


async def test_a_new_generation_is_proved_by_itself(run: Any) -> None:
    pipeline = run(of_file(path="out", format="parquet"))
    await pipeline.whole()
    await pipeline.apply(do.ResetPipeline(from_start=True))
    assert (await pipeline.proof()).verdict == "open"  # not planned yet
    await pipeline.apply(do.StartPipeline())
    pipeline.ended.clear()
    await pipeline.plan()
    await pipeline.complete()
    proof = await pipeline.proof()
    assert (proof.verdict, proof.state.generation) == ("proved", 2)


async def test_a_console_can_not_be_counted(run: Any) -> None:
    pipeline = run({"type": "console"})
    await pipeline.begin()
    proof = await pipeline.proof()
    assert proof.verdict == "open" and "nothing that could be counted" in proof.open[0]


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "out").iterdir())


def remove_a_part(folder: Path) -> None:
    _parts(folder)[2].unlink()


def remove_a_row(folder: Path) -> None:
    path = _parts(folder)[1]
    pl.read_parquet(path).slice(1).write_parquet(path)


def double_a_row(folder: Path) -> None:
    path = _parts(folder)[1]
    rows = pl.read_parquet(path)
    pl.concat([rows, rows.head(1)]).write_parquet(path)


def cut_a_part(folder: Path) -> None:
    path = _parts(folder)[1]
    path.write_bytes(path.read_bytes()[:-20])


def copy_a_part(folder: Path) -> None:
    path = _parts(folder)[0]
    shutil.copy(path, path.with_name(path.name.replace("-000.", "-001.")))


def add_a_later_part(folder: Path) -> None:
    path = _parts(folder)[0]
    shutil.copy(path, path.with_name("part-g1-sink-0-00000999-000.parquet"))


def add_a_foreign_part(folder: Path) -> None:
    pl.DataFrame({"id": ["x"]}).write_parquet(folder / "out" / "more.parquet")


def add_a_part_of_nobody(folder: Path) -> None:
    path = _parts(folder)[0]
    shutil.copy(path, path.with_name(path.name.replace("-sink-0-", "-sink-7-")))


def remove_dead_letters(folder: Path) -> None:
    min((folder / "out.dead").iterdir()).unlink()


def remove_a_dead_letter(folder: Path) -> None:
    path = min((folder / "out.dead").iterdir())
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))


def _newest(folder: Path) -> Path:
    return max((folder / ".out.dataflow/orders/g1/sink-0/records").iterdir())


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = _newest(folder)
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return edit


def count_one_more(record: dict[str, Any]) -> None:
    record["receipt"]["counters"]["written"] += 1
    record["receipt"]["counters"]["read"] += 1


def move_the_position(record: dict[str, Any]) -> None:
    record["receipt"]["positions"] = {
        split: at.replace('"line":', '"line":1') for split, at in record["receipt"]["positions"].items()
    }


def count_wrong(record: dict[str, Any]) -> None:
    record["receipt"]["counters"]["filtered"] += 1


def remove_the_receipts(folder: Path) -> None:
    for path in (folder / ".out.dataflow/orders/g1/sink-1/records").iterdir():
        path.unlink()


def break_a_receipt(folder: Path) -> None:
    _newest(folder).write_text("{")


TAMPERED = [
    (remove_a_part, "epochs 3 to 3"),
    (remove_a_row, "part-g1-sink-0-00000002-000"),
    (double_a_row, "part-g1-sink-0-00000002-000"),
    (cut_a_part, "part-g1-sink-0-00000002-000"),
    (copy_a_part, "part-g1-sink-0-00000001-001"),
    (add_a_later_part, "00000999-000.parquet"),
    (add_a_foreign_part, "more.parquet"),
    (add_a_part_of_nobody, "sink-7"),
    (remove_dead_letters, "out.dead"),
    (remove_a_dead_letter, "dead letters"),
    (edited(count_one_more), "the receipts of epoch"),
    (edited(move_the_position), "positions are"),
    (edited(count_wrong), "does not add up"),
    (remove_the_receipts, "sink-1"),
    (break_a_receipt, "sink-0/records"),
]


@pytest.mark.parametrize(("tamper", "named"), TAMPERED, ids=lambda value: getattr(value, "__name__", None))
async def test_tampering_is_found(run: Any, tmp_path: Path, tamper: Any, named: str) -> None:
    pipeline = run(of_file(path="out", format="parquet"))
    await pipeline.whole()
    assert (await pipeline.proof()).verdict == "proved"
    tamper(tmp_path)
    proof = await pipeline.proof()
    assert proof.verdict == "contradicted"
    told = [f"{fault.place}: {fault.message}" for fault in proof.faults]
    assert any(named in fault for fault in told), told


def _shorter(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _other(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-2], lines[-2].rstrip("\n") + " " * len(lines[-1]), "\n"]))


@pytest.mark.parametrize("tamper", [Path.unlink, _shorter, _cut, _other])
async def test_a_tampered_single_file_is_found(run: Any, tmp_path: Path, tamper: Any) -> None:
    pipeline = run(of_file(path="out.csv"), parallelism=1)
    await pipeline.whole()
    tamper(tmp_path / "out.csv")
    proof = await pipeline.proof()
    assert proof.verdict == "contradicted"
    assert any("out.csv" in fault.place or "rows are there" in fault.message for fault in proof.faults)


async def test_a_damaged_stream_is_found(run: Any, tmp_path: Path) -> None:
    pipeline = run(of_file(path="out.csv.gz"), parallelism=1)
    await pipeline.whole()
    path = tmp_path / "out.csv.gz"
    text = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(text[:-3])))
    assert (await pipeline.proof()).verdict == "contradicted"


async def test_committed_bytes_of_an_open_file_are_compared(run: Any, tmp_path: Path) -> None:
    pipeline = run(of_file(path="out.csv"), parallelism=1)
    await pipeline.begin()
    await pipeline.segment(3)
    (piece,) = (tmp_path / ".out.csv.dataflow/orders/g1/sink-0/data").iterdir()
    piece.write_bytes(piece.read_bytes()[:-5])
    proof = await pipeline.proof()
    assert proof.verdict == "contradicted" and piece.name in proof.faults[0].place
