"""Dropping old rows of read models. The journal keeps every event; what is dropped here can no longer be looked up
quickly, and a rebuild leaves it away too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, update

from dataflow.journal.sql_statements import time_text
from dataflow.projections.metrics import GRAINS, begin_of
from dataflow.projections.models import model
from dataflow.projections.sql_tables import SLOTS, projections, table
from dataflow.projections.store import Store, place_of

OWNER: Mapping[str, str] = {
    "pipeline_metrics_minute": "metrics",
    "pipeline_metrics_hourly": "metrics",
    "audit_log": "audit",
}
"""Table -> its read model. What is not here is kept as long as its pipeline."""


async def retain(store: Store, keep: Mapping[str, float], now: datetime) -> dict[str, int]:
    """Drop rows that are older than `keep` says (table -> seconds; 0: kept for ever); how many went, by table.

    Repeatable; the limit never moves back, so dropped rows do not come again with a longer `keep`."""
    dropped = {}
    for name, seconds in keep.items():
        if seconds > 0:
            dropped[name] = await store.write(_drop, name, now - timedelta(seconds=seconds))
    return dropped


def _drop(connection: Connection, name: str, before: datetime) -> int:
    owner = model(OWNER[name])
    place = place_of(connection, owner.name, lock=True)
    grain, kept = GRAINS.get(name, ("time", 0))
    since = time_text(before)
    since = max(place.kept_from.get(name, ""), begin_of(since, kept) if kept else since)
    if since == place.kept_from.get(name):
        return 0
    gone = 0
    for slot in SLOTS:
        rows = table(name, slot)
        count = connection.execute(delete(rows).where(rows.c[grain] < since)).rowcount
        gone += count if slot == place.slot else 0
    kept_from = json.dumps({**place.kept_from, name: since}, sort_keys=True)
    connection.execute(update(projections).where(projections.c.name == owner.name).values(kept_from=kept_from))
    return gone
