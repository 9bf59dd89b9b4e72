"""The journal as Parquet files: the same answers, an edit is found, archiving goes on where it was cut off."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from dataflow.errors import Corrupt, Rejected
from dataflow.journal import MemoryJournal, open_journal
from dataflow.journal import archive as archiving
from dataflow.journal.archive import ArchiveJournal, archive
from dataflow.journal.audit import audit_verify, audit_verify_all, export_jsonl
from dataflow.journal.base import Journal, Page
from dataflow.testing.journal_kit import Writing


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "FILE_ROWS", 40)
    monkeypatch.setattr(archiving, "PAGE", 15)


@pytest.fixture
async def journal() -> MemoryJournal:
    journal, dice = MemoryJournal(), random.Random(1)
    writers = [Writing(name) for name in ("a", "b", "c")]
    for _ in range(60):
        writer = dice.choice(writers)
        before = writer.sequence
        records = writer.some(dice.randint(1, 4), actor=dice.choice(["ann", "bob"]))
        await journal.append(writer.stream, before, records)
    return journal


async def lines(journal: Journal) -> list[bytes]:
    found: list[bytes] = []
    await export_jsonl(journal, found.append)
    return found


async def test_it_answers_as_the_journal_does(journal: MemoryJournal, tmp_path: Path) -> None:
    assert await archive(journal, tmp_path / "archive") == await journal.end() > 100
    async with open_journal(f"archive:{tmp_path}/archive") as kept:
        assert await lines(kept) == await lines(journal)
        assert await kept.streams() == await journal.streams()
        assert await audit_verify_all(kept) == []
        some = journal.store.entries[70]
        conditions = [
            {},
            {"stream": "b"},
            {"type": some.record.type, "actor": "ann"},
            {"tag": some.record.tags[0], "newest_first": True},
            {"since": some.record.time, "until": some.record.time + timedelta(minutes=5)},
        ]
        for condition in conditions:
            cursor: str | None = None
            while True:
                one: Page = await kept.query(**condition, after=cursor, limit=7)  # type: ignore[arg-type]
                two: Page = await journal.query(**condition, after=cursor, limit=7)  # type: ignore[arg-type]
                assert one == two
                if (cursor := one.cursor) is None:
                    break
        for stream in ("a", "b", "nobody"):
            assert await kept.head(stream) == await journal.head(stream)
            assert await kept.last(stream) == await journal.last(stream)
            for span in ({}, {"after": 5, "limit": 20}, {"after": 3, "upto": 9}):
                one = [r async for r in kept.read(stream, **span)]
                assert one == [r async for r in journal.read(stream, **span)]
        for after in (0, 39, 40, 77, 10_000):
            assert await kept.tail(after, 50) == await journal.tail(after, 50)
            assert await kept.by_tag(some.record.tags[0], after, 9) == await journal.by_tag(
                some.record.tags[0], after, 9
            )
        assert await kept.find(some.record.id) == some
        assert await kept.find("nothing") is None
        assert await kept.latest_snapshot("a") is None
        for refused in (kept.append("a", 0, []), kept.snapshot("a", 1, {})):
            with pytest.raises(Rejected, match="only read"):
                await refused


async def test_archiving_adds_and_goes_on_after_a_cut(
    journal: MemoryJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(BaseException):
        pass

    def die(reached: int, _end: int) -> None:
        if reached >= 80:
            raise Cut

    with pytest.raises(Cut):
        await archive(journal, tmp_path, die)
    (tmp_path / "events-000000000000081-000000000000120.parquet").write_bytes(b"half a file")
    await archive(journal, tmp_path)
    writer = Writing("d")
    await journal.append("d", 0, writer.some(3))
    assert await archive(journal, tmp_path) == await journal.end()
    assert await archive(journal, tmp_path) == await journal.end()
    async with ArchiveJournal(tmp_path) as kept:
        assert await lines(kept) == await lines(journal)


async def test_an_edit_is_found(journal: MemoryJournal, tmp_path: Path) -> None:
    await archive(journal, tmp_path)
    [first, *rest] = sorted(tmp_path.glob("events-*.parquet"))
    rows = pl.read_parquet(first)
    target = rows["position"][17]
    edited = rows.with_columns(
        actor=pl.when(pl.col("position") == target).then(pl.lit("nobody")).otherwise(pl.col("actor"))
    )
    edited.write_parquet(first)
    with pytest.raises(Corrupt, match="not what was archived"):
        async with ArchiveJournal(tmp_path):
            pass
    # Whoever writes the manifest anew is found by the chain of hashes.
    manifest = archiving.Manifest.read(tmp_path)
    digest = archiving.hashlib.sha256(first.read_bytes()).hexdigest()
    manifest.files[0] = (*manifest.files[0][:3], digest)
    manifest.write(tmp_path)
    changed = journal.store.entries[target - 1].record
    async with ArchiveJournal(tmp_path) as kept:
        broken = await audit_verify(kept, changed.stream)
    assert broken is not None and broken.sequence == changed.sequence
    rest[0].unlink()
    with pytest.raises(Corrupt, match="missing from the archive"):
        async with ArchiveJournal(tmp_path):
            pass


async def test_a_damaged_journal_is_not_archived(journal: MemoryJournal, tmp_path: Path) -> None:
    from dataclasses import replace

    entry = journal.store.entries[60]
    journal.store.entries[60] = replace(entry, record=replace(entry.record, actor="nobody"))
    with pytest.raises(Corrupt, match="not what was written") as error:
        await archive(journal, tmp_path)
    assert error.value.where == f"{entry.record.stream}/{entry.record.sequence}"
    async with ArchiveJournal(tmp_path) as kept:
        assert await kept.end() == 40


async def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no archive"):
        async with open_journal(f"archive:{tmp_path}"):
            pass
