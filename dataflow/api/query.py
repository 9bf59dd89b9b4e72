"""Routes over the read models: `/api/v1/query/...`, with paging, filters and sorting.

They are a moment behind the commands, and each answer says how far they had come. Where the database of the read
models is away the answer is 503 with the code of the cause; where only the search is, the answer comes from the read
models and says *degraded*.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from dataflow.api.past import aware
from dataflow.journal import Journal
from dataflow.projections.configured import ReadModels
from dataflow.projections.queries import MOST, Queries
from dataflow.projections.standing import standings

Limit = Annotated[int, Query(ge=1, le=MOST)]
Offset = Annotated[int, Query(ge=0)]


def query_routes(models: ReadModels, journal: Journal, prefix: str) -> APIRouter:
    """The routes, below `prefix`/query."""
    routes, queries = APIRouter(prefix=f"{prefix}/query", tags=["query"]), Queries(models.store)

    @routes.get("/pipelines")
    async def pipelines(
        status: str | None = None,
        source_type: str | None = None,
        sink_type: str | None = None,
        owner: str | None = None,
        words: str | None = None,
        deleted: bool = False,
        sort: str = "pipeline_name",
        descending: bool = False,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> dict[str, Any]:
        """Pipelines, filtered, sorted, a page at a time."""
        found = await queries.pipelines(
            status=status,
            source_type=source_type,
            sink_type=sink_type,
            owner=owner,
            words=words,
            deleted=deleted,
            sort=sort,
            descending=descending,
            limit=limit,
            offset=offset,
        )
        return found.as_json()

    @routes.get("/pipelines/{pipeline}")
    async def pipeline(pipeline: str) -> dict[str, Any]:
        """One pipeline's row."""
        return await queries.pipeline(pipeline)

    @routes.get("/metrics")
    async def metrics(
        grain: str = "hour",
        pipeline: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> dict[str, Any]:
        """Sums by minute or hour, the newest first."""
        found = await queries.metrics(
            grain=grain, pipeline=pipeline, since=aware(since), until=aware(until), limit=limit, offset=offset
        )
        return found.as_json()

    @routes.get("/audit")
    async def audit(
        pipeline: str | None = None,
        actor: str | None = None,
        type: str | None = None,
        correlation_id: str | None = None,
        words: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        """Events with who did it, the newest first; the next page is `before` the last row's position."""
        found = await queries.audit(
            stream=pipeline,
            actor=actor,
            type=type,
            correlation_id=correlation_id,
            words=words,
            since=aware(since),
            until=aware(until),
            before=before,
            limit=limit,
        )
        return found.as_json()

    @routes.get("/search")
    async def search(words: str, kind: str | None = None, limit: Limit = 10) -> dict[str, Any]:
        """Pipelines, events and errors by words."""
        return (await models.search(words, kinds=[kind] if kind else None, limit=limit)).as_json()

    @routes.get("/projections")
    async def projections() -> dict[str, Any]:
        """How far behind the journal each projection is, and which store is away."""
        found = await standings(journal, models.projections(), datetime.now(UTC))
        degraded = any(one.degraded for one in found)
        return {"status": "degraded" if degraded else "ok", "projections": [asdict(one) for one in found]}

    return routes
