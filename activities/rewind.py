"""Finding the positions that a pipeline is to go back to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from temporalio import activity

from activities.names import LOCATE
from activities.translate import reporting
from dataflow.assembly import build_source, context_of
from dataflow.domain.flow import Position
from dataflow.domain.orders import LocateOrder, Target
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.state import ErrorType, Plan, Rewind
from dataflow.errors import Rejected
from dataflow.journal import Journal
from dataflow.journal.history import sequence_at, state_at
from dataflow.seams import Locating, Source

EVERY = "*"


@dataclass(frozen=True, slots=True)
class RewindActivities:
    """`home` is where the platform keeps its data, `inbox` the URL of what is pushed to it."""

    journal: Journal
    home: Path
    inbox: str = ""

    @activity.defn(name=LOCATE.name)
    async def locate(self, order: LocateOrder) -> Rewind:
        """The recorded checkpoint after an event or at a time, or what the source says of the places given."""
        target = order.target
        async with reporting(ErrorType.SYSTEM):
            if not target.splits:
                return await self._recorded(order.pipeline, target)
            places = placed(order.plan, target)
            spec = PipelineSpec.model_validate(dict(order.spec))
            context = context_of(spec, generation=order.plan.generation, home=self.home, inbox=self.inbox)
            async with build_source(spec, context) as source:
                found = {split: await position(source, split, place, order.plan.pin) for split, place in places.items()}
        lanes = {lane.name: {split: found[split] for split in lane.splits} for lane in order.plan.lanes}
        return Rewind(generation=order.plan.generation, lanes=lanes)

    async def _recorded(self, pipeline: str, target: Target) -> Rewind:
        sequence = await sequence_at(self.journal, pipeline, target.event if target.time is None else target.time)
        state = await state_at(self.journal, pipeline, sequence)
        lanes = state.checkpoint.lanes
        positions = {name: dict(begun) for name, begun in (state.rewind.lanes if state.rewind else {}).items()}
        for name, lane in lanes.items():  # what has not moved yet is where its generation began
            positions.setdefault(name, {}).update(lane.positions)
        return Rewind(
            generation=state.generation,
            lanes=positions,
            kept={name: lane.epoch for name, lane in lanes.items()},
            event=sequence,
        )


def placed(plan: Plan, target: Target) -> dict[str, str]:
    """A place for every split of the plan. `Rejected` where one has none, or is not there."""
    splits = list(dict.fromkeys(split for lane in plan.lanes for split in lane.splits))
    common = target.splits.get(EVERY)
    if strange := sorted(set(target.splits) - {*splits, EVERY}):
        raise Rejected(
            f"there is no split {strange[0]!r}", code="NOT_FOUND", hint="there are " + ", ".join(splits[:20])
        )
    places = {split: target.splits.get(split, common) for split in splits}
    if missing := [split for split, place in places.items() if place is None]:
        raise Rejected(
            f"no place is given for {', '.join(missing[:20])}",
            code="MISSING_SPLIT",
            hint=f"give one for each split, or {EVERY}=... for all the others",
        )
    return {split: place for split, place in places.items() if place is not None}


async def position(source: Source, split: str, place: str, pin: str) -> Position:
    """What the place means to the source. Raises `Rejected` where it means nothing to it."""
    if place.startswith("{"):
        return Position(place)
    wanted: int | datetime
    if re.fullmatch(r"\d{1,18}", place):
        wanted = int(place)
    else:
        try:
            wanted = datetime.fromisoformat(place)
        except ValueError:
            raise Rejected(
                f"{place!r} is no place in {split}", code="BAD_PLACE", hint="a number, a time, or a position"
            ) from None
        if wanted.tzinfo is None:
            wanted = wanted.replace(tzinfo=UTC)
    if not isinstance(source, Locating):
        raise Rejected(
            "this source cannot be told where to begin by a number or a time",
            code="NOT_LOCATING",
            hint="go back to an event or a time of the pipeline, or give a position as events have it",
        )
    return await source.locate(split, wanted, pin=pin)
