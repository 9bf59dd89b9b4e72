"""Working a read model out anew from the first event, beside live traffic: to rebuild it, or to check it.

The fresh rows go into the tables that are not read, with an offset of their own: killed at any moment, the next call
goes on from there. At the end the projection stands still for as long as it takes to compare the two; then one UPDATE
swaps them, or the fresh ones are thrown away.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from dataflow.errors import Corrupt
from dataflow.journal.base import Entry, Journal
from dataflow.projections.sql_tables import other, projections, table
from dataflow.projections.store import Place, Store, TableModel, advance, place_of

AT_ONCE = 1000
TOLD = 100
"""Differences that are told one by one; all are counted."""

Fetch = Callable[[int], Sequence[Entry]]


class Swap(StrEnum):
    """When the fresh tables take the place of those that are read."""

    ALWAYS = "always"
    IF_DIFFERENT = "if different"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not what the journal says. `found` or `wanted` is empty where there is no such row."""

    table: str
    key: str
    found: dict[str, Any]
    wanted: dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What a recomputation found. Checksums are SHA-256 over all rows in the order of their keys."""

    name: str
    position: int = 0
    rows: int = 0
    different: int = 0
    differences: list[Difference] = field(default_factory=list)
    found_checksum: str = ""
    checksum: str = ""
    swapped: bool = False


async def recompute(
    journal: Journal,
    store: Store,
    model: TableModel,
    swap: Swap,
    on_progress: Callable[[int, int], object] | None = None,
) -> Outcome:
    """Work the model out anew up to where it stands, compare, swap or not. `on_progress` takes the position reached
    and the one to reach. `Corrupt` where another process has finished it meanwhile."""
    await store.write(_begin, model)
    while True:
        place = await store.read(place_of, model.name)
        if place.building is None:
            raise Corrupt(f"the tables of {model.name} being built were given up by another process")
        if on_progress:
            on_progress(place.building, place.position)
        if place.building >= place.position:
            break
        # Never beyond the tables that are read: they could not be compared.
        entries = await journal.tail(place.building, min(AT_ONCE, place.position - place.building))
        if not entries:
            raise Corrupt(f"the journal ends at {place.building}, the read model {model.name} is at {place.position}")
        await store.write(advance, model, entries, building=True)
    loop = asyncio.get_running_loop()

    def fetch(after: int) -> Sequence[Entry]:
        return asyncio.run_coroutine_threadsafe(journal.tail(after, AT_ONCE), loop).result()

    outcome = await store.write(_finish, model, swap, fetch)
    await store.write(_clear_unread, model)
    return outcome


async def checksum(store: Store, model: TableModel) -> str:
    """Of the rows that are read, as in `Outcome`."""

    def take(connection: Connection) -> str:
        place = place_of(connection, model.name)
        digest = hashlib.sha256()
        for name in model.tables:
            for row in _rows(connection, name, place.slot):
                _feed(digest, name, row)
        return digest.hexdigest()

    return await store.read(take)


def _begin(connection: Connection, model: TableModel) -> None:
    place = place_of(connection, model.name, lock=True)
    if place.building is None or place.building_version != model.version:
        _empty(connection, model, other(place.slot))
        _note(connection, model, building=0, building_version=model.version)


def _finish(connection: Connection, model: TableModel, swap: Swap, fetch: Fetch) -> Outcome:
    place = place_of(connection, model.name, lock=True)
    while place.building is not None and place.building < place.position:
        entries = [entry for entry in fetch(place.building) if entry.position <= place.position]
        advance(connection, model, entries, building=True)
        place = place_of(connection, model.name, lock=True)
    if place.building != place.position:
        raise Corrupt(f"the tables of {model.name} being built are at {place.building}, not at {place.position}")
    outcome = _compared(connection, model, place)
    outcome.swapped = swap is Swap.ALWAYS or (swap is Swap.IF_DIFFERENT and outcome.different > 0)
    if outcome.swapped:
        _note(connection, model, building=None, slot=other(place.slot), version=model.version)
    else:
        _note(connection, model, building=None)
    return outcome


def _compared(connection: Connection, model: TableModel, place: Place) -> Outcome:
    outcome = Outcome(model.name, place.position)
    old, new = hashlib.sha256(), hashlib.sha256()
    for name in model.tables:
        key = len(table(name, place.slot).primary_key.columns)
        columns = table(name, place.slot).columns.keys()
        found, wanted = _rows(connection, name, place.slot), _rows(connection, name, other(place.slot))
        one, two = next(found, None), next(wanted, None)
        while one is not None or two is not None:
            here = one is not None and (two is None or tuple(one[:key]) <= tuple(two[:key]))
            there = two is not None and (one is None or tuple(two[:key]) <= tuple(one[:key]))
            row, fresh = (one if here else None), (two if there else None)
            if row is not None:
                _feed(old, name, row)
            if fresh is not None:
                _feed(new, name, fresh)
                outcome.rows += 1
            if row != fresh:
                outcome.different += 1
                if len(outcome.differences) < TOLD:
                    outcome.differences.append(_difference(name, columns[:key], row, fresh))
            one, two = (next(found, None) if here else one), (next(wanted, None) if there else two)
    outcome.found_checksum, outcome.checksum = old.hexdigest(), new.hexdigest()
    return outcome


def _difference(name: str, key: Sequence[str], row: Row[Any] | None, fresh: Row[Any] | None) -> Difference:
    found = dict(row._mapping) if row is not None else {}
    wanted = dict(fresh._mapping) if fresh is not None else {}
    place = " ".join(str((found or wanted)[column]) for column in key)
    if found and wanted:
        changed = [column for column in found if found[column] != wanted[column]]
        found, wanted = ({column: side[column] for column in changed} for side in (found, wanted))
    return Difference(name, place, found, wanted)


def _rows(connection: Connection, name: str, slot: str) -> Iterator[Row[Any]]:
    """All rows in the order of their keys: text as bytes, as Python compares it, whatever the database's language."""
    rows = table(name, slot)
    binary = "C" if connection.dialect.name == "postgresql" else "BINARY"
    keys = [column.collate(binary) if hasattr(column.type, "length") else column for column in rows.primary_key.columns]
    return iter(connection.execute(select(rows).order_by(*keys).execution_options(yield_per=5000)))


def _feed(digest: Any, name: str, row: Row[Any]) -> None:
    digest.update(f"{name}{tuple(row)!r}\n".encode())


def _note(connection: Connection, model: TableModel, **values: Any) -> None:
    connection.execute(update(projections).where(projections.c.name == model.name).values(**values))


def _clear_unread(connection: Connection, model: TableModel) -> None:
    place = place_of(connection, model.name, lock=True)
    if place.building is None:
        _empty(connection, model, other(place.slot))


def _empty(connection: Connection, model: TableModel, slot: str) -> None:
    for name in model.tables:
        connection.execute(delete(table(name, slot)))
