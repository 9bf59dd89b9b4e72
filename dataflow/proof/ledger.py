"""What the journal says of every lane: epochs in unbroken order, the ranges they read, and counters that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dataflow.domain.events import BatchIngested, BatchProcessed, CheckpointUpdated, unseal
from dataflow.domain.flow import Counters, Position
from dataflow.domain.pipeline import evolve
from dataflow.domain.record import EventRecord
from dataflow.domain.state import LaneCheckpoint, PipelineState
from dataflow.errors import Corrupt
from dataflow.seams import Fault


@dataclass(frozen=True, slots=True)
class Range:
    """Epochs `first` to `last` of a lane, and the positions before and after them. Those whose report was lost are one
    range with the next that has one. `read` and `written` are None where only a sum over several ranges is known."""

    first: int
    last: int
    read: int | None
    written: int | None
    begin: Mapping[str, Position]
    end: Mapping[str, Position]


@dataclass(slots=True)
class LaneLedger:
    """One lane of the current generation. `gaps` and `overlaps` count epochs that are recorded never, or twice."""

    checkpoint: LaneCheckpoint
    ranges: list[Range] = field(default_factory=list)
    gaps: int = 0
    overlaps: int = 0


@dataclass(slots=True)
class Ledger:
    """The current generation as the journal has it. `pushed` counts records that came by no lane."""

    state: PipelineState
    lanes: dict[str, LaneLedger] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    pushed: int = 0
    _ingested: dict[str, BatchIngested] = field(default_factory=dict)
    _processed: dict[str, BatchProcessed] = field(default_factory=dict)

    def lane(self, name: str) -> LaneLedger:
        if name not in self.lanes:
            known = self.state.checkpoint.lanes.get(name)
            self.lanes[name] = LaneLedger(known or LaneCheckpoint(epoch=0))
        return self.lanes[name]

    def take(self, record: EventRecord) -> None:
        """One event further. Raises `Corrupt` for an event that cannot follow."""
        after = evolve(self.state, record)
        if after.generation != self.state.generation:
            self.lanes, self.pushed = {}, 0
            self._ingested, self._processed = {}, {}
            self.state = after
            return
        place = f"event {record.sequence}"
        match unseal(record):
            case BatchIngested() as batch if batch.lane:
                self._ingested[batch.lane] = batch
            case BatchIngested() as batch:
                self.pushed += batch.record_count
            case BatchProcessed() as batch if batch.lane:
                self._processed[batch.lane] = batch
            case CheckpointUpdated() as moved:
                for name, checkpoint in moved.checkpoint.lanes.items():
                    self._move(name, checkpoint, place)
        self.state = after

    def _move(self, name: str, after: LaneCheckpoint, place: str) -> None:
        ingested, processed = self._ingested.pop(name, None), self._processed.pop(name, None)
        lane = self.lane(name)
        before, lane.checkpoint = lane.checkpoint, after
        where = f"{place}, {name}"
        if not ingested or not processed or {ingested.batch_id, processed.batch_id} != {after.batch_id}:
            self.faults.append(Fault(where, f"the checkpoint moves without the batch {after.batch_id!r}"))
            return
        gained = after.counters - before.counters
        self._follow(lane, before.epoch, ingested.first_epoch, where)
        checks = {
            f"it ends in epoch {ingested.last_epoch}, the checkpoint says {after.epoch}": ingested.last_epoch
            != after.epoch,
            f"{ingested.record_count} records came in, {processed.counters.read} are counted": ingested.record_count
            != processed.counters.read,
            "the checkpoint does not move by what the batch counts": gained != processed.counters,
            "successes are not what was written and filtered": processed.success_count
            != processed.counters.written + processed.counters.filtered,
            "failures are not what failed": processed.failure_count != processed.counters.failed,
            unbalanced(after.counters): bool(unbalanced(after.counters)),
            "a split has lost its position": not before.positions.keys() <= after.positions.keys(),
        }
        self.faults += [Fault(where, message) for message, wrong in checks.items() if wrong]
        self._cut(lane, before, ingested, processed, where)

    def _follow(self, lane: LaneLedger, last: int, first: int, where: str) -> None:
        """Epoch `first` comes right after epoch `last`, or it is told how far off it is."""
        if first > last + 1:
            lane.gaps += first - last - 1
            self.faults.append(Fault(where, f"epochs {last + 1} to {first - 1} are recorded nowhere"))
        elif first <= last:
            lane.overlaps += last - first + 1
            self.faults.append(Fault(where, f"epochs {first} to {last} are recorded twice"))

    def _cut(
        self, lane: LaneLedger, before: LaneCheckpoint, ingested: BatchIngested, processed: BatchProcessed, where: str
    ) -> None:
        """The batch as ranges, each of which begins where the one before it ended."""
        at, last, first = dict(before.positions), ingested.first_epoch - 1, 0
        ranges: list[Range] = []
        for number, entry in enumerate(processed.epochs, 1):
            self._follow(lane, last, int(entry["first"]), where)
            first, last = first or int(entry["first"]), int(entry["last"])
            lost = int(entry["read"]) < 0
            if lost and number < len(processed.epochs):
                continue  # where it ended nobody knows: one range with the next entry
            whole = not lost and first == int(entry["first"])
            read, written = (int(entry["read"]), int(entry["written"])) if whole else (None, None)
            end = dict(lane.checkpoint.positions) if lost else {**at, **entry["positions"]}
            ranges.append(Range(first, last, read, written, at, end))
            at, first = end, 0
        if not processed.epochs:
            ranges.append(Range(ingested.first_epoch, ingested.last_epoch, None, None, at, lane.checkpoint.positions))
            last, at = ingested.last_epoch, dict(lane.checkpoint.positions)
        if last != ingested.last_epoch:
            self.faults.append(Fault(where, f"its ledger ends in epoch {last}, not in {ingested.last_epoch}"))
        if at != dict(lane.checkpoint.positions):
            self.faults.append(Fault(where, "its ledger ends at other positions than the checkpoint"))
        lane.ranges += self._filled(ranges, processed.counters, where)

    def _filled(self, ranges: list[Range], counters: Counters, where: str) -> list[Range]:
        """What one range with a lost report counts is what the others leave of the batch."""
        read = counters.read - sum(part.read or 0 for part in ranges)
        written = counters.written - sum(part.written or 0 for part in ranges)
        unknown = [number for number, part in enumerate(ranges) if part.read is None]
        if min(read, written) < 0 or (not unknown and (read or written)):
            self.faults.append(Fault(where, "the epochs of its ledger do not add up to what it counts"))
        elif len(unknown) == 1:
            ranges[unknown[0]] = replace(ranges[unknown[0]], read=read, written=written)
        return ranges


def unbalanced(counters: Counters) -> str:
    """What is wrong with counters in themselves; nothing: an empty text."""
    come, gone = counters.read + counters.expanded, counters.written + counters.filtered + counters.failed
    if come != gone:
        return f"{come} records came in or were added, {gone} are accounted for"
    if counters.dead_lettered > counters.failed:
        return f"{counters.dead_lettered} dead letters of {counters.failed} failed records"
    return ""


def read_ledger(pipeline: str, records: Iterable[EventRecord]) -> Ledger:
    """Fold a stream. An event that cannot have happened ends it, and is the last of the faults."""
    ledger = Ledger(PipelineState.empty(pipeline))
    for record in records:
        try:
            ledger.take(record)
        except Corrupt as error:
            ledger.faults.append(Fault(f"event {record.sequence}", error.message))
            break
    return ledger
