"""A rewound generation keeps the output up to its checkpoint, takes away what came after, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from file_sink_runs import SCHEMA, lane_of, next_epoch, sink_at, visible

from dataflow.connectors.file import kept, ownership
from dataflow.domain.flow import Lane
from dataflow.domain.state import Rewind
from dataflow.errors import Conflict, Corrupt, Rejected


async def epochs(base: Path, lanes: list[Lane], count: int, *, dead: int = 0, rewind: Rewind | None = None) -> None:
    """Each lane commits `count` epochs of ten rows."""
    sink = sink_at(base, "out", format="jsonl", generation=lanes[0].generation, rewind=rewind)
    await sink.prepare(SCHEMA, lanes)
    for lane in lanes:
        async with sink.open(lane, SCHEMA) as writer:
            for _ in range(count):
                await next_epoch(writer, lane, 10, dead)


def parts(base: Path) -> list[tuple[int, str, int]]:
    """Generation, lane, epoch of what lies there, dead letters apart."""
    found = [ownership.part_of(Path(name)) for name in visible(base) if ".dead" not in name]
    return sorted(part for part in found if part)


def dead(base: Path) -> int:
    return len([name for name in visible(base) if ".dead" in name])


async def test_what_came_after_the_checkpoint_goes(tmp_path: Path) -> None:
    one, two = lane_of(0), lane_of(1)
    await epochs(tmp_path, [one, two], 4, dead=1)
    back = Rewind(generation=1, kept={"sink-0": 3, "sink-1": 1})
    await epochs(tmp_path, [lane_of(0, generation=2), lane_of(1, generation=2)], 1, dead=1, rewind=back)
    old = [(1, "sink-0", epoch) for epoch in (1, 2, 3)] + [(1, "sink-1", 1)]
    assert parts(tmp_path) == [*old, (2, "sink-0", 1), (2, "sink-1", 1)]
    assert dead(tmp_path) == 6
    again = Rewind(generation=2, kept={"sink-0": 1, "sink-1": 0})
    await epochs(tmp_path, [lane_of(0, generation=3), lane_of(1, generation=3)], 2, rewind=again)
    new = [(3, f"sink-{lane}", epoch) for lane in (0, 1) for epoch in (1, 2)]
    assert parts(tmp_path) == [*old, (2, "sink-0", 1), *new]
    assert dead(tmp_path) == 5


async def test_from_the_start_replaces_all_that_was_kept_too(tmp_path: Path) -> None:
    await epochs(tmp_path, [lane_of()], 3, dead=1)
    await epochs(tmp_path, [lane_of(generation=2)], 1, dead=1, rewind=Rewind(generation=1, kept={"sink-0": 2}))
    await epochs(tmp_path, [lane_of(generation=3)], 1)
    assert parts(tmp_path) == [(3, "sink-0", 1)]
    assert dead(tmp_path) == 0


async def test_places_that_were_given_leave_everything(tmp_path: Path) -> None:
    await epochs(tmp_path, [lane_of()], 3, dead=1)
    await epochs(tmp_path, [lane_of(generation=2)], 1, rewind=Rewind(generation=1))
    assert parts(tmp_path) == [(1, "sink-0", 1), (1, "sink-0", 2), (1, "sink-0", 3), (2, "sink-0", 1)]
    assert dead(tmp_path) == 3


async def test_a_lane_that_had_no_checkpoint_keeps_nothing(tmp_path: Path) -> None:
    await epochs(tmp_path, [lane_of()], 2)
    await epochs(tmp_path, [lane_of(generation=2)], 1, rewind=Rewind(generation=1, kept={}))
    assert parts(tmp_path) == [(2, "sink-0", 1)]


async def test_foreign_files_are_still_refused(tmp_path: Path) -> None:
    await epochs(tmp_path, [lane_of()], 2)
    (tmp_path / "out" / "mine.jsonl").write_text("{}")
    with pytest.raises(Conflict):
        await epochs(tmp_path, [lane_of(generation=2)], 1, rewind=Rewind(generation=1, kept={"sink-0": 1}))


async def test_a_single_file_cannot_be_rewound(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, "out.jsonl", format="jsonl", generation=2, rewind=Rewind(generation=1))
    with pytest.raises(Rejected) as refused:
        await sink.prepare(SCHEMA, [lane_of(generation=2)])
    assert refused.value.code == "NOT_REWINDABLE"


@pytest.mark.parametrize("after", range(9))
async def test_a_crash_at_any_step_of_taking_over_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Preparing dies at its step number `after`: a removal, a note, a folder that goes."""
    lanes = [lane_of(0), lane_of(1)]
    await epochs(tmp_path, lanes, 3)
    back = Rewind(generation=1, kept={"sink-0": 2, "sink-1": 1})
    steps = 0

    def counted(real: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            nonlocal steps
            if steps == after:
                raise KeyboardInterrupt
            steps += 1
            return real(*args, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(ownership, "save", counted(kept.save))
        patch.setattr(ownership.shutil, "rmtree", counted(ownership.shutil.rmtree))
        patch.setattr(ownership, "_retired", counted(ownership._retired))
        new = [lane_of(0, generation=2), lane_of(1, generation=2)]
        try:
            sink = sink_at(tmp_path, "out", format="jsonl", generation=2, rewind=back)
            ownership.claim(sink._places(), sink._config, SCHEMA, new, back)
        except KeyboardInterrupt:
            pass
    await epochs(tmp_path, new, 1, rewind=back)
    assert parts(tmp_path) == [
        (1, "sink-0", 1),
        (1, "sink-0", 2),
        (1, "sink-1", 1),
        (2, "sink-0", 1),
        (2, "sink-1", 1),
    ]


async def test_a_crash_while_the_old_folder_goes_does_not_forget_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder goes file by file: the second look finds one lane less in it."""
    await epochs(tmp_path, [lane_of(0), lane_of(1)], 2)
    back = Rewind(generation=1, kept={"sink-0": 2, "sink-1": 1})
    new = [lane_of(0, generation=2), lane_of(1, generation=2)]
    remove = ownership.shutil.rmtree

    def half(folder: Path) -> None:
        remove(folder / "sink-0")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ownership.shutil, "rmtree", half)
        sink = sink_at(tmp_path, "out", format="jsonl", generation=2, rewind=back)
        ownership.claim(sink._places(), sink._config, SCHEMA, new, back)
    await epochs(tmp_path, new, 1, rewind=back)
    old = [(1, "sink-0", 1), (1, "sink-0", 2), (1, "sink-1", 1)]
    assert parts(tmp_path) == [*old, (2, "sink-0", 1), (2, "sink-1", 1)]


def test_a_note_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text(json.dumps({"v": 2, "kept": {}}))
    with pytest.raises(Corrupt):
        kept.load(tmp_path)
