"""Routes about the whole system: its status, its registry, its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query
from pydantic import TypeAdapter

from dataflow.domain.coordinator.overview import Overview, PipelineInfo
from dataflow.domain.state import Status
from dataflow.sdk.system import Cluster

if TYPE_CHECKING:
    from dataflow.sdk.client import Client

_OVERVIEWS = TypeAdapter(Overview)
_INFOS = TypeAdapter(PipelineInfo)
_CLUSTERS = TypeAdapter(Cluster)


def system_json(overview: Overview) -> dict[str, Any]:
    """The overview as JSON; `status` is its health."""
    return {"status": str(overview.health), **_OVERVIEWS.dump_python(overview, mode="json")}


def cluster_json(cluster: Cluster) -> dict[str, Any]:
    """The cluster as JSON; `status` is the system's health, `unknown` where the coordinator does not answer."""
    whole: dict[str, Any] = _CLUSTERS.dump_python(cluster, mode="json")
    overview = whole.pop("overview")
    return {"status": str(cluster.overview.health) if cluster.overview else "unknown", **whole, "system": overview}


def system_routes(client: Client) -> APIRouter:
    """The routes over one client."""
    router = APIRouter(tags=["system"])

    @router.get("/system/status")
    async def status() -> dict[str, Any]:
        """Health, counts by status, slots, load, starts that wait, workers."""
        return system_json(await client.system.overview())

    @router.get("/system/pipelines")
    async def pipelines(
        status: Status | None = None, after: str = "", limit: int = Query(100, ge=1, le=1000)
    ) -> dict[str, Any]:
        """A page of the registry, by id. `next` goes on as `after`; null: this was the last page."""
        found = await client.system.pipelines(status, after=after, limit=limit)
        return {
            "pipelines": [_INFOS.dump_python(one, mode="json") for one in found],
            "next": found[-1].pipeline_id if len(found) == limit else None,
        }

    @router.get("/system/pipelines/{pipeline}")
    async def pipeline(pipeline: str) -> dict[str, Any]:
        """One pipeline as the coordinator knows it: heartbeat, slot, place among those that wait."""
        found: dict[str, Any] = _INFOS.dump_python(await client.system.pipeline(pipeline), mode="json")
        return found

    @router.get("/cluster")
    async def cluster() -> dict[str, Any]:
        """Workers, task queues with pollers and backlog, load, health, and what could be done."""
        return cluster_json(await client.system.cluster())

    return router
