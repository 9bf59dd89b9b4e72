"""A pipeline by its id, also where Temporal has forgotten it: the journal outlives Temporal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataflow.domain.state import PipelineState
    from dataflow.journal import Journal
    from dataflow.sdk.client import Client


async def recall(client: Client, journal: Journal, pipeline: str, note: Callable[[str], None]) -> PipelineState | None:
    """The pipeline's state, None where there never was one. What Temporal has forgotten is restored from the journal.

    Raises `IllegalCommand` for a pipeline that was deleted."""
    from dataflow.errors import IllegalCommand, NotFound
    from dataflow.journal.history import state_at

    try:
        return await client.state(pipeline)
    except NotFound:
        try:
            state = await state_at(journal, pipeline)
        except NotFound:
            return None
    if state.status == "deleted":
        raise IllegalCommand(f"{pipeline} was deleted", hint="its id is not given out again: take another name or id")
    note(f"Temporal does not know {pipeline}: restoring it from the journal, event {state.version}")
    await client.restore(state)
    return await client.state(pipeline)
