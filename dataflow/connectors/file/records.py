"""Commit records: the proof of what is committed, and the order that makes a commit one act.

Beside the output lies a hidden folder (`disk.control_folder`), in it for every pipeline, generation and lane:

    records/000000000017.json     the newest two commit records; creating the next one is the commit point
    attempts/<attempt>/           what the living attempt stages, the record it will commit, and `alive`
    fenced/<attempt>/             the same of attempts that were overtaken; gone after the next commit
    data/<piece>                  committed and uncommitted bytes of a single file

A commit is an exclusive `link` of `attempts/<attempt>/record` to the name of its epoch (invariants 1 and 2): one
attempt can win an epoch, and one whose folder was moved to `fenced` has nothing left to link. Only then are staged
files renamed to their final names; whoever opens the lane next finishes those renames first. Old records are pruned,
so a link alone proves nothing to an attempt that slept long: it then looks whether newer records exist, and takes its
own back. Nothing that a record might name is ever deleted: leftovers of overtaken attempts go when their process is
seen to be dead (a lock on `alive` ends with it), else after the next commit, because then they can no longer win.
"""

from __future__ import annotations

import builtins  # `bytes` is a field of Record
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dataflow.connectors.file.disk import REFUSALS, lock, make_folder, sync_folder, write_durably
from dataflow.domain.flow import Counters, Lane, Position, Receipt
from dataflow.errors import Corrupt, Fenced

_KEPT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one epoch committed. `files`, `bytes` and `dead_files` are cumulative over the lane's generation.

    `publish` names staged files: the attempt that staged them, their name there, `out` or `dead`, the final name.
    `pieces` and `encoder` belong to single files: data files with their committed lengths, and how encoding goes on.
    A sealed record ends the lane: it repeats the last receipt under the next number, and nothing commits after it.
    """

    epoch: int
    receipt: Receipt | None
    publish: tuple[tuple[str, str, str, str], ...] = ()
    files: int = 0
    bytes: int = 0
    dead_files: int = 0
    pieces: tuple[tuple[str, int], ...] = ()
    encoder: Mapping[str, Any] | None = None
    sealed: bool = False

    def dumps(self) -> builtins.bytes:
        return json.dumps(
            {"version": 1, **asdict(self)}, default=dict, separators=(",", ":"), ensure_ascii=False
        ).encode()

    @classmethod
    def loads(cls, data: builtins.bytes) -> Record:
        """Raises `Corrupt` for anything but a record: it was complete on the medium before it got its name."""
        try:
            value = json.loads(data)
            if value.pop("version") != 1:
                raise Corrupt("a commit record was written by a newer version of dataflow")
            receipt = value.pop("receipt")
            if receipt is not None:
                counters = Counters(**receipt.pop("counters"))
                positions = {split: Position(at) for split, at in receipt.pop("positions").items()}
                receipt = Receipt(**receipt, positions=positions, counters=counters)
            publish = tuple((a, b, c, d) for a, b, c, d in value.pop("publish"))
            pieces = tuple((name, length) for name, length in value.pop("pieces"))
            return cls(**value, receipt=receipt, publish=publish, pieces=pieces)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(f"a commit record cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Places:
    """Where one pipeline's output lies. `out` is the file or the folder of parts; `dead` the folder of dead letters.

    `control` holds records and staged files; `dead_control` the staged dead letters, the same folder unless the dead
    letters lie on another device, where no rename from `control` would reach them.
    """

    out: Path
    dead: Path
    control: Path
    dead_control: Path

    def generation(self, lane: Lane) -> Path:
        return self.control / lane.pipeline / f"g{lane.generation}"

    def roots(self, lane: Lane) -> tuple[Path, ...]:
        """The lane's own folders, first the one with its records."""
        controls = dict.fromkeys((self.control, self.dead_control))
        return tuple(root / lane.pipeline / f"g{lane.generation}" / lane.name for root in controls)


@dataclass(slots=True)
class LaneLog:
    """One attempt's hold on the commit records of a lane. All methods block and raise `OSError` and our own."""

    places: Places
    lane: Lane
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    last: Record | None = None
    in_doubt: bool = False
    _overtaken: list[Path] = field(default_factory=list)
    _alive: int = -1

    @property
    def root(self) -> Path:
        return self.places.roots(self.lane)[0]

    @property
    def records(self) -> Path:
        return self.root / "records"

    @property
    def epoch(self) -> int:
        """The last committed one, 0 before the first."""
        return self.last.epoch if self.last else 0

    def staging(self, area: str) -> Path:
        """Where this attempt puts files for `out` or `dead` before they are committed."""
        return self.places.roots(self.lane)[-1 if area == "dead" else 0] / "attempts" / self.attempt

    def open(self) -> Record | None:
        """Fence earlier attempts, read the newest record, finish its publication. Returns it."""
        if not self.places.generation(self.lane).is_dir():
            raise Fenced(f"generation {self.lane.generation} of {self.lane.pipeline} is not prepared, or was replaced")
        make_folder(self.records)
        for root in self.places.roots(self.lane):
            make_folder(root / "attempts")
            (root / "fenced").mkdir(exist_ok=True)
            for old in list((root / "attempts").iterdir()):
                _move(old, root / "fenced" / old.name)
            self._overtaken += (root / "fenced").iterdir()
        for area in ("out", "dead"):
            make_folder(self.staging(area))
        self._alive = os.open(self.staging("out") / "alive", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        lock(self._alive)
        self.last = self._newest()
        if self.last:
            self._publish(self.last)
            self._prune(self.last.epoch)
        for folder in [folder for folder in self._overtaken if _is_dead(folder)]:
            shutil.rmtree(folder, ignore_errors=True)
            self._overtaken.remove(folder)
        return self.last

    def commit(self, record: Record) -> None:
        """Make `record` the newest one, then its staged files visible. Everything it names must be on the medium.

        Raises `Fenced` where the lane went on without this attempt; nothing of it is or becomes visible then.
        """
        if record.epoch != self.epoch + 1 or (self.last and self.last.sealed):
            raise Fenced(f"{self.lane.name}: epoch {record.epoch} does not follow {self.epoch}, or the lane is sealed")
        draft = self.staging("out") / "record"
        name = self.records / f"{record.epoch:012d}.json"
        try:
            write_durably(draft, record.dumps())
            for area in {area for _, _, area, _ in record.publish}:
                sync_folder(self.staging(area))
            self.in_doubt = True
            os.link(draft, name)  # the commit point: invariants 1 and 2
        except (FileExistsError, FileNotFoundError) as error:
            self.in_doubt = False
            raise Fenced(f"{self.lane.name}: epoch {record.epoch} was taken by another attempt") from error
        except OSError as error:
            self.in_doubt = self.in_doubt and error.errno not in REFUSALS
            raise
        self._refuse_if_late(record.epoch, name)
        sync_folder(self.records)
        self._publish(record)
        self.last = record
        self.in_doubt = False
        draft.unlink(missing_ok=True)
        self._prune(record.epoch, record.epoch - _KEPT)
        for folder in self._overtaken:  # they can win no epoch any more
            shutil.rmtree(folder, ignore_errors=True)
        self._overtaken.clear()

    def seal(self) -> Record:
        """End the lane: no attempt commits after this. Repeatable. Returns the sealed record."""
        if self.last is None:
            self.commit(Record(epoch=1, receipt=None, sealed=True))
        elif not self.last.sealed:
            self.commit(_sealed(self.last))
        assert self.last is not None
        return self.last

    def close(self) -> None:
        """Leave. What was staged and not committed goes, unless its commit is in doubt. Repeatable."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1
        if not self.in_doubt:
            for area in ("out", "dead"):
                shutil.rmtree(self.staging(area), ignore_errors=True)

    def _refuse_if_late(self, epoch: int, name: Path) -> None:
        known = _epochs(self.records)
        if max(known, default=0) > epoch or (epoch > 1 and epoch - 1 not in known):
            name.unlink(missing_ok=True)
            self.in_doubt = False
            raise Fenced(f"{self.lane.name}: epoch {epoch} was committed and forgotten long ago")

    def _newest(self) -> Record | None:
        while epochs := _epochs(self.records):
            try:
                return Record.loads((self.records / f"{max(epochs):012d}.json").read_bytes())
            except FileNotFoundError:
                continue  # pruned while we looked: the lane moves on under another attempt
        return None

    def _publish(self, record: Record) -> None:
        """Rename staged files into place. Where neither name exists, a reader has taken the file away already."""
        touched = set()
        for attempt, staged, area, final in record.publish:
            target = (self.places.out if area == "out" else self.places.dead) / final
            make_folder(target.parent)
            for root in self.places.roots(self.lane):
                for state in ("attempts", "fenced"):
                    if _move(root / state / attempt / staged, target):
                        touched.add(target.parent)
        for folder in touched:
            sync_folder(folder)

    def _prune(self, newest: int, only: int | None = None) -> None:
        old = [only] if only is not None else [epoch for epoch in _epochs(self.records) if epoch <= newest - _KEPT]
        for epoch in sorted(old):
            (self.records / f"{epoch:012d}.json").unlink(missing_ok=True)


def newest_record(places: Places, lane: Lane) -> Record | None:
    """The newest record of a lane, without taking part in it."""
    return LaneLog(places, lane)._newest()


def _sealed(last: Record) -> Record:
    return Record(
        epoch=last.epoch + 1,
        receipt=last.receipt,
        files=last.files,
        bytes=last.bytes,
        dead_files=last.dead_files,
        pieces=last.pieces,
        encoder=last.encoder,
        sealed=True,
    )


def _epochs(folder: Path) -> set[int]:
    # Four names at most: the kernel lists them in one call under the folder's lock, so the answer is of one moment.
    try:
        return {int(name[:-5]) for name in os.listdir(folder) if name.endswith(".json")}  # noqa: PTH208
    except FileNotFoundError:
        return set()


def _is_dead(folder: Path) -> bool:
    """Whether the attempt that had this folder has ended. The folder was moved, so it cannot begin again."""
    try:
        fd = os.open(folder / "alive", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return lock(fd)
    finally:
        os.close(fd)


def _move(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except FileNotFoundError:
        return False
    return True
