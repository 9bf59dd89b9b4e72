"""Resetting a pipeline over HTTP: to its checkpoint, to the first record, or to a place that was recorded or given."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from dataflow.sdk.client import Client


class Reset(BaseModel):
    """Nothing: back to configured, checkpoint kept. Only one of the others."""

    model_config = ConfigDict(extra="forbid")

    from_start: bool = Field(False, description="Read from the first record, in a new generation.")
    event: int | None = Field(None, ge=1, description="Read again from the checkpoint after this event.")
    time: datetime | None = Field(None, description="Read again from the checkpoint at this time.")
    splits: dict[str, str | int] | None = Field(
        None, min_length=1, description="Read again from a place in each split; `*` is all the others."
    )

    @model_validator(mode="after")
    def _one(self) -> Reset:
        if sum((self.from_start, self.event is not None, self.time is not None, self.splits is not None)) > 1:
            raise ValueError("from_start, event, time and splits exclude each other")
        return self


def reset_router(client: Client) -> APIRouter:
    """`POST /pipelines/{pipeline}/reset`."""
    router = APIRouter()

    @router.post("/pipelines/{pipeline}/reset")
    async def reset(pipeline: str, body: Reset | None = None) -> dict[str, Any]:
        """Bring a pipeline that is not running back to configured."""
        asked = body or Reset()
        time = asked.time and (asked.time if asked.time.tzinfo else asked.time.replace(tzinfo=UTC))
        if (to := asked.event or time or asked.splits) is not None:
            state = await client.rewind(pipeline, to)
        else:
            state = await client.reset(pipeline, from_start=asked.from_start)
        return {"pipeline_id": pipeline, "status": str(state.status), "generation": state.generation}

    return router
