"""The proof itself: what the journal says against what the sinks hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dataflow.assembly import build_sink, build_source, context_of
from dataflow.domain.flow import Lane, Receipt
from dataflow.domain.progress import PUSH
from dataflow.domain.state import PipelineState, Status
from dataflow.errors import Corrupt, DataFlowError, NotFound
from dataflow.journal.audit import audit_verify
from dataflow.journal.base import Journal
from dataflow.proof.ledger import LaneLedger, Ledger, Range, read_ledger, unbalanced
from dataflow.seams import Audit, Auditable, Commit, Fault, LaneAudit, Ordered, Source

_LOOKS = 4  # at a sink that moves meanwhile


@dataclass(frozen=True, slots=True)
class LaneProof:
    """One lane: the journal's side and the sink's. `ahead`: epochs that the sink has committed and the journal has not
    recorded yet."""

    lane: Lane
    ledger: LaneLedger
    held: LaneAudit | None
    ahead: int

    def commits(self, part: Range) -> Sequence[Commit]:
        """What the sink holds of that range, where it tells epochs apart."""
        held = self.held.commits if self.held and self.held.commits else ()
        return [commit for commit in held if part.first <= commit.epoch <= part.last]


@dataclass(frozen=True, slots=True)
class SinkProof:
    name: str
    type: str
    lanes: Sequence[LaneProof]


@dataclass(slots=True)
class Proof:
    """`faults` contradict exactly-once; `open` is what could not be told. Proved: neither."""

    state: PipelineState
    sinks: list[SinkProof] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    @property
    def gaps(self) -> int:
        return sum(lane.ledger.gaps for sink in self.sinks for lane in sink.lanes)

    @property
    def overlaps(self) -> int:
        return sum(lane.ledger.overlaps for sink in self.sinks for lane in sink.lanes)

    @property
    def verdict(self) -> str:
        """proved, contradicted, open."""
        return "contradicted" if self.faults else "open" if self.open else "proved"


async def prove(journal: Journal, pipeline: str, home: Path) -> Proof:
    """Compare the pipeline's current generation in the journal with what its sinks hold. Nothing is changed.

    Raises `NotFound` where the journal does not know the pipeline, and what the journal raises."""
    if await journal.head(pipeline) is None:
        raise NotFound(f"there is no pipeline {pipeline!r}", hint="dataflow list shows all")
    broken = await audit_verify(journal, pipeline)
    if broken:
        proof = Proof(PipelineState.empty(pipeline))
        proof.faults.append(Fault(f"event {broken.sequence}", f"the journal was changed: {broken.reason}"))
        return proof
    records = [record async for record in journal.read(pipeline)]
    if records[0].type != "PipelineCreated":
        raise NotFound(f"the stream {pipeline!r} is not that of a pipeline", hint="dataflow list shows all")
    ledger = read_ledger(pipeline, records)
    proof = Proof(ledger.state, faults=list(ledger.faults))
    if not ledger.state.spec or ledger.state.plan is None:
        proof.open.append("nothing was planned yet in this generation: there is nothing to prove")
        return proof
    await _Comparison(ledger, proof, home).run()
    return proof


class _Comparison:
    def __init__(self, ledger: Ledger, proof: Proof, home: Path) -> None:
        self._ledger, self._proof = ledger, proof
        self._state = ledger.state
        self._spec = ledger.state.definition
        self._context = context_of(self._spec, generation=ledger.state.generation, home=home)
        self._completed = ledger.state.status is Status.COMPLETED

    async def run(self) -> None:
        source = self._source()
        for index, name in enumerate(self._spec.sink_names()):
            lanes = self._lanes(name)
            audit = await self._audit(index, lanes)
            proofs = []
            for lane in lanes:
                ledger = self._ledger.lane(lane.name)
                if source:
                    self._order(source, lane, ledger)
                held = audit.lanes.get(lane.name) if audit else None
                ahead = self._held(f"{name}: {lane.name}", ledger, held) if held else 0
                proofs.append(LaneProof(lane, ledger, held, ahead))
            self._whole(name, proofs)
            self._proof.sinks.append(SinkProof(name, self._spec.sinks[index].type, proofs))
        if self._ledger.pushed and self._spec.source.type != PUSH:  # what a push source reads, its lanes account for
            self._proof.open.append(f"{self._ledger.pushed} records were pushed, which no lane accounts for")

    def _fault(self, place: str, message: str) -> None:
        self._proof.faults.append(Fault(place, message))

    def _lanes(self, sink: str) -> list[Lane]:
        assert self._state.plan is not None
        return [
            Lane(
                pipeline=self._state.pipeline_id,
                generation=self._state.generation,
                sink=sink,
                number=lane.number,
                splits=tuple(lane.splits),
            )
            for lane in self._state.plan.lanes
            if lane.sink == sink
        ]

    # The source

    def _source(self) -> Source | None:
        try:
            source = build_source(self._spec, self._context)
        except DataFlowError as error:
            self._proof.open.append(f"positions of the source were not compared: {error}")
            return None
        return source

    def _order(self, source: Source, lane: Lane, ledger: LaneLedger) -> None:
        """Ranges of a split follow each other; none goes back."""
        if not isinstance(source, Ordered):
            return
        for part in ledger.ranges:
            for split in sorted(part.end):
                before = part.begin.get(split)
                place = f"{lane.name}, {split}, epochs {part.first} to {part.last}"
                try:
                    if before is not None and source.precedes(split, part.end[split], before):
                        ledger.overlaps += 1
                        self._fault(place, f"it goes back from {before} to {part.end[split]}")
                except Corrupt as error:
                    self._fault(place, error.message)

    # The sink

    async def _audit(self, index: int, lanes: Sequence[Lane]) -> Audit | None:
        name = self._spec.sink_names()[index]
        try:
            sink = build_sink(self._spec, index, self._context)
            if not isinstance(sink, Auditable):
                told = f"a {self._spec.sinks[index].type} sink keeps nothing that could be counted"
                self._proof.open.append(f"{name}: {told}")
                return None
            async with sink:
                audit = await self._still(name, sink, lanes)
        except Corrupt as error:
            self._fault(error.where or name, error.message)
            return None
        except DataFlowError as error:
            self._proof.open.append(f"{name}: it could not be looked at: {error}")
            return None
        if audit is None:
            return None
        self._proof.faults += audit.faults
        self._proof.open += [f"{name}: {told}" for told in audit.open]
        if audit.unfinished and self._completed:
            self._fault(name, f"the run is completed, but its output is not published ({audit.unfinished})")
        elif audit.unfinished:
            self._proof.open.append(f"{name}: {audit.unfinished}")
        return audit

    async def _still(self, name: str, sink: Auditable, lanes: Sequence[Lane]) -> Audit | None:
        """Two looks that see the same receipts: between them nothing was committed, so the rows belong to them."""
        before = await sink.audit(lanes)
        if self._state.status is not Status.RUNNING:
            return before
        for _ in range(_LOOKS):
            after = await sink.audit(lanes)
            if _receipts(before) == _receipts(after):
                return after
            before = after
        self._proof.open.append(f"{name}: the pipeline moves; pause it, and look again")
        return None

    def _held(self, place: str, ledger: LaneLedger, held: LaneAudit) -> int:
        """One lane in the sink against the journal; returns how many epochs the sink is ahead."""
        recorded, receipt = ledger.checkpoint, held.receipt
        epoch = receipt.epoch if receipt else 0
        if epoch < recorded.epoch:
            self._fault(place, f"the sink is at epoch {epoch}, the journal has recorded {recorded.epoch}")
            return 0
        if receipt is None:
            self._rows(place, held, 0, 0)
            return 0
        if reason := unbalanced(receipt.counters):
            self._fault(place, f"the sink's receipt of epoch {epoch} does not add up: {reason}")
        if epoch == recorded.epoch:
            for what, in_sink, in_journal in (
                ("positions", dict(receipt.positions), dict(recorded.positions)),
                ("counters", receipt.counters, recorded.counters),
            ):
                if in_sink != in_journal:
                    told = f"{what} are {in_sink} in the sink, {in_journal} in the journal"
                    self._fault(place, f"the receipts of epoch {epoch} differ: {told}")
        elif self._completed:
            self._fault(place, f"the run is completed at epoch {recorded.epoch}, the sink is at {epoch}")
        elif receipt.counters.read < recorded.counters.read or receipt.counters.written < recorded.counters.written:
            self._fault(place, f"the sink's receipt of epoch {epoch} counts less than epoch {recorded.epoch}")
        self._rows(place, held, receipt.counters.written, receipt.counters.dead_lettered)
        self._ranges(place, ledger, held, receipt)
        return epoch - recorded.epoch

    def _rows(self, place: str, held: LaneAudit, written: int, letters: int) -> None:
        if held.rows is not None and held.rows != written:
            self._fault(place, f"{held.rows:,} rows are there, {written:,} were written")
        if held.dead_letters is not None and held.dead_letters != letters:
            self._fault(place, f"{held.dead_letters:,} dead letters are there, {letters:,} were written")

    def _ranges(self, place: str, ledger: LaneLedger, held: LaneAudit, receipt: Receipt) -> None:
        """Where the sink tells epochs apart, every range of the journal has its rows, and so has what is ahead."""
        if held.commits is None:
            return
        recorded = ledger.checkpoint
        ahead = Range(
            recorded.epoch + 1,
            receipt.epoch,
            receipt.counters.read - recorded.counters.read,
            receipt.counters.written - recorded.counters.written,
            recorded.positions,
            receipt.positions,
        )
        for part in [*ledger.ranges, ahead]:
            here = [commit for commit in held.commits if part.first <= commit.epoch <= part.last]
            rows = sum(commit.rows for commit in here)
            if part.written is not None and rows != part.written:
                among = ", ".join(commit.id for commit in here[:4]) + (", ..." if len(here) > 4 else "")
                told = f"{rows:,} rows are there, {part.written:,} were written ({among or 'no part'})"
                self._fault(f"{place}, epochs {part.first} to {part.last}", told)

    def _whole(self, sink: str, lanes: Sequence[LaneProof]) -> None:
        """A completed run has read all there was."""
        assert self._state.plan is not None
        total = self._state.plan.total_rows
        read = sum(lane.ledger.checkpoint.counters.read for lane in lanes)
        if self._completed and total is not None and read != total:
            self._fault(sink, f"{read:,} records were read, the source had {total:,}")


def _receipts(audit: Audit) -> list[Receipt | None]:
    return [lane.receipt for lane in audit.lanes.values()]
