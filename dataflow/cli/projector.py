"""`dataflow projector`: the read models kept up, looked at, checked, built anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from dataflow.cli.result import DONE, FAILED, JSON, count, emit, note, perform, say, table
from dataflow.cli.session import quitting, session, settings

if TYPE_CHECKING:
    from dataflow.journal import Journal
    from dataflow.projections.configured import ReadModels
    from dataflow.projections.recompute import Outcome
    from dataflow.projections.search import SearchProjection
    from dataflow.settings import Settings


class Action(StrEnum):
    """What to do."""

    RUN = "run"
    STATUS = "status"
    CHECK = "check"
    REBUILD = "rebuild"


_ACTION = typer.Argument(
    help="run: keep them up, until Ctrl-C; status: how far behind; check: compare with the journal; rebuild: anew."
)
_NAME = typer.Argument("", help="Only this read model.", show_default=False)
_ONCE = typer.Option(False, "--once", help="run: take in what is there now, and leave; needs no Temporal.")
_REPAIR = typer.Option(False, "--repair", help="check: put right what is different.")


def projector(
    action: Action = _ACTION, name: str = _NAME, once: bool = _ONCE, repair: bool = _REPAIR, as_json: bool = JSON
) -> None:
    """Keep, check or rebuild the read models.

    Rebuilding works beside live traffic, and goes on where it was killed. check: exit 1 for rows that are not what the
    journal says, unless --repair puts them right."""
    perform(_projector(action, name, once, repair, as_json), as_json=as_json)


async def _projector(action: Action, name: str, once: bool, repair: bool, as_json: bool) -> int:
    from dataflow.journal import open_journal
    from dataflow.projections.configured import ReadModels

    chosen = settings()
    if action is Action.RUN and not once:
        return await _stay(chosen, as_json)
    chosen.home.mkdir(parents=True, exist_ok=True)
    models = ReadModels(chosen)
    async with open_journal(chosen.journal_url) as journal:
        if action is Action.RUN:
            await models.projector(journal).catch_up()
            return await _status(journal, models, as_json)
        if action is Action.STATUS:
            return await _status(journal, models, as_json)
        return await _recompute(journal, models, action, name, repair, as_json)


async def _stay(chosen: Settings, as_json: bool) -> int:
    from dataflow.cli.interrupt import Interrupt

    with Interrupt(lambda: note("leaving"), lambda: None) as interrupt, quitting(interrupt):
        async with session(chosen, note, control=True, project=True, interrupt=interrupt) as up:
            told = {"status": "up", "temporal": up.address.target, "namespace": up.address.namespace}
            if as_json:
                emit(told)
            else:
                say(f"keeping the read models up; Temporal {up.address.target}; Ctrl-C ends it")
            await interrupt.wait()
    return DONE


async def _status(journal: Journal, models: ReadModels, as_json: bool) -> int:
    from dataflow.projections.standing import standings

    found = await standings(journal, models.projections(), datetime.now(UTC))
    degraded = any(one.degraded for one in found)
    if as_json:
        status = "degraded" if degraded else "current" if not any(one.behind for one in found) else "behind"
        emit({"status": status, "end": await journal.end(), "projections": [asdict(one) for one in found]})
        return FAILED if degraded else DONE
    rows = [
        (
            one.name,
            "" if one.degraded else str(one.position),
            "" if one.degraded else str(one.behind),
            f"{one.lag:.1f} s" if one.behind else "",
            f"degraded: {one.degraded}" if one.degraded else _building(one.building),
        )
        for one in found
    ]
    table(("READ MODEL", "POSITION", "BEHIND", "LAG", ""), rows)
    return FAILED if degraded else DONE


def _building(position: int | None) -> str:
    return "" if position is None else f"being rebuilt: at {position}"


async def _recompute(
    journal: Journal, models: ReadModels, action: Action, name: str, repair: bool, as_json: bool
) -> int:
    from dataflow.errors import Rejected
    from dataflow.projections.models import MODELS, model
    from dataflow.projections.recompute import Swap, recompute

    if action is Action.REBUILD and not name:
        raise Rejected("rebuild which?", hint=f"one of {', '.join(MODELS)}, search")
    if action is Action.REBUILD and name == "search":
        return await _search_anew(journal, models, as_json)
    swap = Swap.ALWAYS if action is Action.REBUILD else Swap.IF_DIFFERENT if repair else Swap.NEVER
    found: list[Outcome] = []
    async with models.store:
        for one in [] if name == "search" else [model(name)] if name else MODELS.values():
            told = _Progress(one.name) if not as_json else None
            found.append(await recompute(journal, models.store, one, swap, told))
            if not as_json:
                _tell(found[-1], repaired=repair)
    if name == "search" or (models.settings.search_url and not name):
        found.append(await _search_checked(journal, models, repair, as_json))
    if as_json:
        emit({"status": _verdict(found, swap is Swap.NEVER), "read_models": [asdict(one) for one in found]})
    return FAILED if swap is Swap.NEVER and any(one.different for one in found) else DONE


async def _search_checked(journal: Journal, models: ReadModels, repair: bool, as_json: bool) -> Outcome:
    from dataflow.projections.search_check import check_search, rebuild_search

    search = _search(models)
    async with search:
        outcome = await check_search(journal, search, None if as_json else _Progress("search"))
    if repair and outcome.different:
        await rebuild_search(journal, search)
        outcome.swapped = True
    if not as_json:
        _tell(outcome, repaired=repair)
    return outcome


def _search(models: ReadModels) -> SearchProjection:
    from dataflow.errors import Rejected

    if not models.settings.search_url:
        raise Rejected("there is no Elasticsearch", hint="set search_url")
    return models.search_projection(models.settings.search_url)


async def _search_anew(journal: Journal, models: ReadModels, as_json: bool) -> int:
    from dataflow.projections.search_check import rebuild_search

    position = await rebuild_search(journal, _search(models))
    if as_json:
        emit({"status": "done", "position": position})
    else:
        say(f"search: up to event {position:,}")
    return DONE


def _verdict(found: Sequence[Outcome], looked: bool) -> str:
    different = any(one.different for one in found)
    return ("different" if looked else "repaired") if different else "identical"


class _Progress:
    """Tells every 50 000 events how far it is."""

    def __init__(self, name: str) -> None:
        self._name, self._said = name, 0

    def __call__(self, position: int, goal: int) -> None:
        if position - self._said >= 50_000:
            self._said = position
            note(f"{self._name}: {position:,} of {goal:,} events")


def _tell(outcome: Outcome, *, repaired: bool) -> None:
    for one in outcome.differences:
        said = ", ".join(f"{column} {one.found[column]!r}, should be {one.wanted[column]!r}" for column in one.wanted)
        what = (
            said if one.found and one.wanted else "the row is missing" if one.wanted else "there should be no such row"
        )
        say(f"{one.table} {one.key}: {what}")
    same = "identical" if not outcome.different else count(outcome.different, "row") + " different"
    if outcome.different and (repaired or outcome.swapped):
        same += ", put right"
    say(
        f"{outcome.name}: {count(outcome.rows, 'row')} up to event {outcome.position:,}, {same}, "
        f"SHA-256 {outcome.checksum[:16]}"
    )


COMMANDS = (projector,)
