"""Routes over read models and journal: pages, filters, sorting, what is away."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dataflow.api.app import PREFIX, create_app
from dataflow.api.past import past_routes
from dataflow.api.query import query_routes
from dataflow.domain.pipeline import fold
from dataflow.domain.state import PipelineState
from dataflow.journal import MemoryJournal
from dataflow.projections.configured import ReadModels
from dataflow.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "projections"))

from lives import Lives


@pytest.fixture
async def lives() -> Lives:
    lives = Lives(MemoryJournal(), pipelines=25)
    await lives.live(1500)
    return lives


@pytest.fixture
async def http(lives: Lives, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    models = ReadModels(settings)
    await models.projector(lives.journal).catch_up()
    routes = [past_routes(lives.journal, PREFIX), query_routes(models, lives.journal, PREFIX)]
    app = create_app(None, routes)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://test{PREFIX}") as found:
        yield found


async def ask(http: httpx.AsyncClient, path: str, code: int = 200, **parameters: Any) -> dict[str, Any]:
    answer = await http.get(path, params={k: v for k, v in parameters.items() if v is not None})
    assert answer.status_code == code, answer.text
    return dict(answer.json())


async def test_pipelines_in_pages_filtered_and_sorted(http: httpx.AsyncClient, lives: Lives) -> None:
    pages = [await ask(http, "/query/pipelines", limit=10, offset=offset) for offset in (0, 10, 20)]
    names = [row["pipeline_name"] for page in pages for row in page["rows"]]
    assert [len(page["rows"]) for page in pages] == [10, 10, 5]
    assert names == sorted(lives.states) and pages[0]["total"] == 25
    assert pages[0]["position"] == await lives.journal.end()
    running = await ask(http, "/query/pipelines", status="running", sort="total_records", descending=True)
    assert {row["pipeline_id"] for row in running["rows"]} == {
        name for name, state in lives.states.items() if state.status == "running"
    }
    totals = [row["total_records"] for row in running["rows"]]
    assert totals == sorted(totals, reverse=True)
    for sink in ("console", "memory"):
        found = await ask(http, "/query/pipelines", sink_type=sink, words="p-1", limit=1000)
        assert {row["pipeline_id"] for row in found["rows"]} == {
            name for name, state in lives.states.items() if "p-1" in name and state.spec["sinks"][0]["type"] == sink
        }
    assert (await ask(http, "/query/pipelines/p-3"))["version"] == lives.states["p-3"].version
    assert (await ask(http, "/query/pipelines/nobody", 404))["code"] == "NOT_FOUND"
    assert (await ask(http, "/query/pipelines", 400, sort="colour"))["code"] == "BAD_SORT"
    assert (await http.get("/query/pipelines", params={"limit": 0})).status_code == 422


async def test_metrics_sum_up(http: httpx.AsyncClient, lives: Lives) -> None:
    for grain in ("minute", "hour"):
        found = await ask(http, "/query/metrics", grain=grain, pipeline="p-3", limit=1000)
        total = lives.states["p-3"].lifetime
        assert sum(row["records_processed"] for row in found["rows"]) == total.records_processed
        assert [row[grain] for row in found["rows"]] == sorted((row[grain] for row in found["rows"]), reverse=True)
        half = found["rows"][len(found["rows"]) // 2][grain]
        later = await ask(http, "/query/metrics", grain=grain, pipeline="p-3", since=half, limit=1000)
        earlier = await ask(http, "/query/metrics", grain=grain, pipeline="p-3", until=half, limit=1000)
        assert later["rows"] + earlier["rows"] == found["rows"]
    assert (await ask(http, "/query/metrics", 400, grain="year"))["code"] == "BAD_GRAIN"


async def test_audit_in_pages_by_actor(http: httpx.AsyncClient, lives: Lives) -> None:
    before, seen = None, []
    while True:
        page = await ask(http, "/query/audit", actor="ann", limit=100, before=before)
        if not page["rows"]:
            break
        seen += [row["position"] for row in page["rows"]]
        before = seen[-1]
    journal = lives.journal
    assert isinstance(journal, MemoryJournal)
    assert seen == [e.position for e in reversed(journal.store.entries) if e.record.actor == "ann"]
    assert page["total"] == len(seen)
    found = await ask(http, "/query/audit", words="DENIED away", pipeline="p-3", limit=1000)
    assert all("DENIED" in row["summary"] and row["stream"] == "p-3" for row in found["rows"])


async def test_search_and_projections(http: httpx.AsyncClient) -> None:
    found = await ask(http, "/query/search", words="lunch", kind="events")
    assert found["parts"]["events"]["total"] > 0
    found = await ask(http, "/query/projections")
    assert found["status"] == "ok" and {one["behind"] for one in found["projections"]} == {0}


async def test_events_in_pages_without_gaps(http: httpx.AsyncClient, lives: Lives) -> None:
    after, seen = None, []
    while True:
        page = await ask(http, "/events", limit=100, after=after)
        seen += [event["position"] for event in page["events"]]
        if (after := page["next"]) is None:
            break
    assert seen == list(range(1, await lives.journal.end() + 1))
    one = await ask(http, "/pipelines/p-3/events", limit=1000)
    assert [event["sequence"] for event in one["events"]] == list(range(1, lives.states["p-3"].version + 1))
    found = await ask(http, "/pipelines/p-3/events", tag="failure-events")
    assert {event["type"] for event in found["events"]} <= {"PipelineFailed", "BatchTimedOut"}
    assert (await ask(http, "/pipelines/nobody/events", 404))["code"] == "NOT_FOUND"


async def test_state_at_any_event_is_the_fold_up_to_it(http: httpx.AsyncClient, lives: Lives) -> None:
    records = [record async for record in lives.journal.read("p-3")]
    for record in (records[0], records[len(records) // 2], records[-1]):
        folded = fold(PipelineState.empty("p-3"), records[: record.sequence])
        for at in (str(record.sequence), record.id):
            found = await ask(http, "/pipelines/p-3/state", at=at)
            assert (found["version"], found["status"], found["last_hash"]) == (
                folded.version,
                folded.status,
                folded.last_hash,
            )
        at = record.time.isoformat()
        assert (await ask(http, "/pipelines/p-3/state", at=at))["version"] >= record.sequence
    assert (await ask(http, "/pipelines/p-3/state", 404, at="100000"))["code"] == "NOT_FOUND"


async def test_a_database_that_is_away_is_503(lives: Lives, settings: Settings) -> None:
    models = ReadModels(settings.model_copy(update={"readmodel_url": "postgresql://nobody@127.0.0.1:9/none"}))
    app = create_app(None, [query_routes(models, lives.journal, PREFIX)])  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://test{PREFIX}") as http:
        for path in ("/query/pipelines", "/query/metrics", "/query/audit"):
            assert (await ask(http, path, 503))["code"] in ("SERVICE_UNAVAILABLE", "CONNECTION_FAILED")
        assert (await ask(http, "/query/projections"))["status"] == "degraded"
