"""`prove`: is every range of the source in the sink exactly once? From journal and sinks, without Temporal."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from dataflow.cli.result import DONE, FAILED, INVALID, JSON, emit, note, perform, refuse, say
from dataflow.cli.session import settings

if TYPE_CHECKING:
    from dataflow.proof import LaneProof, Proof

_ID = typer.Argument(help="The pipeline's id.", show_default=False)
_EXITS = {"proved": DONE, "contradicted": FAILED, "open": INVALID}
_SHOWN = 20


def prove(pipeline: str = _ID, as_json: bool = JSON) -> None:
    """Prove that every range of the source is in the sink exactly once.

    From the journal, the sinks' receipts and the sinks themselves; without Temporal, and nothing is changed. Exit 0:
    proved; 1: contradicted, the places are named; 2: it cannot be told, with the reasons."""
    perform(_prove(pipeline, as_json), as_json=as_json)


async def _prove(pipeline: str, as_json: bool) -> int:
    from dataflow.errors import DataFlowError
    from dataflow.journal import open_journal
    from dataflow.proof import prove as proved

    chosen = settings()
    try:
        chosen.home.mkdir(parents=True, exist_ok=True)
        async with open_journal(chosen.journal_url) as journal:
            proof = await proved(journal, pipeline, chosen.home)
    except DataFlowError as error:
        refuse(error, as_json=as_json)
        return INVALID  # not FAILED: that is said of sinks
    if as_json:
        emit(proof_json(proof))
    else:
        _show(proof)
    return _EXITS[proof.verdict]


def proof_json(proof: Proof) -> dict[str, Any]:
    """The whole proof: every range with its positions and what the sink holds of it."""
    state = proof.state
    return {
        "pipeline_id": state.pipeline_id,
        "status": str(state.status),
        "generation": state.generation,
        "events": state.version,
        "last_hash": state.last_hash,
        "verdict": proof.verdict,
        "gaps": proof.gaps,
        "overlaps": proof.overlaps,
        "faults": [asdict(fault) for fault in proof.faults],
        "open": proof.open,
        "sinks": [
            {"name": sink.name, "type": sink.type, "lanes": [_lane_json(lane) for lane in sink.lanes]}
            for sink in proof.sinks
        ],
    }


def _lane_json(lane: LaneProof) -> dict[str, Any]:
    receipt = lane.held.receipt if lane.held else None
    return {
        "lane": lane.lane.name,
        "splits": list(lane.lane.splits),
        "recorded_epoch": lane.ledger.checkpoint.epoch,
        "committed_epoch": receipt.epoch if receipt else None,
        "ahead": lane.ahead,
        "counters": asdict(lane.ledger.checkpoint.counters),
        "rows": lane.held.rows if lane.held else None,
        "dead_letters": lane.held.dead_letters if lane.held else None,
        "ranges": [
            {
                "first_epoch": part.first,
                "last_epoch": part.last,
                "read": part.read,
                "written": part.written,
                "splits": {split: [part.begin.get(split), end] for split, end in part.end.items()},
                "commits": [{"id": commit.id, "rows": commit.rows} for commit in lane.commits(part)],
            }
            for part in lane.ledger.ranges
        ],
    }


def _show(proof: Proof) -> None:
    state = proof.state
    say(f"{state.pipeline_id}  {state.status}, generation {state.generation}, {state.version:,} events")
    for sink in proof.sinks:
        for lane in sink.lanes:
            known = lane.ledger.checkpoint
            counts = known.counters
            held = lane.held
            rows = f"{held.rows:,} rows there" if held and held.rows is not None else "rows not counted"
            ahead = f", {lane.ahead} ahead of the journal" if lane.ahead else ""
            say(
                f"  {sink.name} ({sink.type}) {lane.lane.name}: epochs 1 to {known.epoch}{ahead}; "
                f"{counts.read:,} read, {counts.written:,} written, {counts.filtered:,} filtered, "
                f"{counts.failed:,} failed; {rows}"
            )
            for split, end in sorted(known.positions.items()):
                say(f"    {split}  up to {end}")
    say(f"  gaps {proof.gaps}, overlaps {proof.overlaps}")
    for fault in proof.faults[:_SHOWN]:
        say(f"  FAULT  {fault.place}: {fault.message}")
    if len(proof.faults) > _SHOWN:
        note(f"and {len(proof.faults) - _SHOWN} more: --json has them all")
    for told in proof.open:
        say(f"  open   {told}")
    say(proof.verdict)


COMMANDS = (prove,)
