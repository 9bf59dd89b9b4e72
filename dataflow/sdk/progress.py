"""How far a pipeline is right now: its recorded state, and what its running segments say in their heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dataflow.domain.flow import Counters
from dataflow.domain.state import PipelineState

LONG = 5.0
"""Seconds in one stage after which a lane counts as blocked."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a lane that runs now does: its stage, for how many seconds, and which part (source, transform, sink) it
    waits for in that."""

    stage: str
    part: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """`counters` and `epochs` are sums over all lanes of the generation, work that is not yet committed included;
    `stages` is what each running segment does (waiting, writing, committing), by lane where it is known. `lag`: how
    many rows of each split are still to be read, where the source tells; of several sinks, for the one that is
    farthest behind. `lanes`: what each lane does that runs now."""

    state: PipelineState
    counters: Counters
    epochs: int
    stages: tuple[str, ...] = ()
    lag: Mapping[str, int] = field(default_factory=dict)
    lanes: Mapping[str, Doing] = field(default_factory=dict)

    @property
    def blocked(self) -> Mapping[str, Doing]:
        """The lanes that have done one thing for long. Waiting for a source that has nothing to give is not one."""
        return {
            name: doing
            for name, doing in self.lanes.items()
            if doing.seconds >= LONG and (doing.part != "source" or self._behind(name))
        }

    def _behind(self, lane: str) -> bool:
        plan = self.state.plan
        splits = {split for one in plan.lanes if one.name == lane for split in one.splits} if plan else set()
        return any(self.lag.get(split) for split in splits)

    @property
    def total_bytes(self) -> int | None:
        """Input bytes in all, for every sink that reads them; None where endless or unknown."""
        plan = self.state.plan
        if plan is None or plan.total_bytes is None:
            return None
        return plan.total_bytes * len({lane.sink for lane in plan.lanes})

    @property
    def total_rows(self) -> int | None:
        """Input rows in all, for every sink that reads them; None where endless or unknown."""
        plan = self.state.plan
        if plan is None or plan.total_rows is None:
            return None
        return plan.total_rows * len({lane.sink for lane in plan.lanes})

    @property
    def fraction(self) -> float | None:
        """Between 0 and 1; None where the end is not known."""
        for done, total in ((self.counters.read, self.total_rows), (self.counters.bytes_read, self.total_bytes)):
            if total:
                return min(1.0, done / total)
        return None


def combine(state: PipelineState, beats: Mapping[str, Mapping[str, Any]]) -> Progress:
    """`beats`: the newest heartbeat of each lane that runs now, by lane name."""
    counters, epochs, stages = Counters(), 0, []
    lag: dict[str, int] = {}
    doing = {}
    recorded = state.checkpoint.lanes
    for name in {*recorded, *beats}:
        known = recorded.get(name)
        beat = beats.get(name)
        if beat:  # also one that has not got as far yet as was recorded: it is opening its connections
            doing[name] = Doing(str(beat["stage"]), str(beat.get("part", "")), float(beat.get("seconds", 0.0)))
        if beat and (known is None or int(beat["epoch"]) >= known.epoch):
            counters += Counters(**beat["counters"])
            epochs += int(beat["epoch"])
            stages.append(str(beat["stage"]))
            for split, behind in beat.get("lag", {}).items():
                lag[split] = max(int(behind), lag.get(split, 0))
        elif known:
            counters += known.counters
            epochs += known.epoch
    return Progress(state, counters, epochs, tuple(stages), dict(sorted(lag.items())), dict(sorted(doing.items())))
