"""`dataflow migrate`: every store's schema brought forward, taken back, or looked at."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from dataflow.cli.result import DONE, FAILED, INVALID, JSON, emit, note, perform, say
from dataflow.cli.session import settings

if TYPE_CHECKING:
    from dataflow.migrate import Standing


class Direction(StrEnum):
    """What to do."""

    UP = "up"
    DOWN = "down"
    STATUS = "status"


_DIRECTION = typer.Argument(help="up: to this version's schema; down: one revision back; status: look.")
_YES = typer.Option(False, "--yes", help="Really go down: what the schema holds is lost, the journal's events as well.")


def migrate(direction: Direction = _DIRECTION, yes: bool = _YES, as_json: bool = JSON) -> None:
    """Bring every configured store to its schema.

    The databases of journal, read models and inbox, search indices, the topic of published events, Temporal's
    namespace and search attributes: what the settings name. May be repeated. Exit 1 if a store is not where it should
    be."""
    perform(_migrate(direction, yes, as_json), as_json=as_json)


async def _migrate(direction: Direction, yes: bool, as_json: bool) -> int:
    from dataflow.migrate import State, migrate_down, migrate_up, status, stores

    chosen = stores(settings())
    if direction is Direction.DOWN and not yes:
        places = "; ".join(f"{store.name} at {store.where}" for store in chosen)
        message = f"this takes back the schema of {places}, with what is in it: say --yes"
        if as_json:
            emit({"status": "invalid", "error": {"code": "NOT_CONFIRMED", "message": message, "hint": "", "where": ""}})
        else:
            note(f"dataflow: {message}")
        return INVALID

    def tell(standing: Standing) -> None:
        if not as_json:
            say(line(standing, changed=direction is not Direction.STATUS))

    if direction is Direction.UP:
        found = await migrate_up(chosen, tell)
    elif direction is Direction.DOWN:
        found = await migrate_down(chosen, tell)
    else:
        found = await status(chosen)
        for one in found:
            tell(one)
    failed = any(one.state is State.FAILED for one in found)
    amiss = failed or (direction is not Direction.DOWN and any(one.state is not State.CURRENT for one in found))
    if as_json:
        worst = "failed" if failed else "behind" if amiss else "done" if direction is Direction.DOWN else "current"
        emit({"status": worst, "stores": [asdict(one) for one in found]})
    return FAILED if amiss else DONE


def line(standing: Standing, *, changed: bool) -> str:
    """One store on one line: `journal (sqlite:///x.db): 0001, was empty`."""
    what = standing.detail
    if not (what and standing.state in ("current", "failed")):
        what = ", ".join(filter(None, [standing.found or "empty", standing.detail]))
        if changed:
            what += ", as it was" if standing.was == standing.found else f"; was {standing.was or 'empty'}"
        elif standing.state == "behind":
            what += f"; {standing.wanted} is wanted: dataflow migrate up"
    return f"{standing.store} ({standing.where}): {'failed: ' if standing.state == 'failed' else ''}{what}"


COMMANDS = (migrate,)
