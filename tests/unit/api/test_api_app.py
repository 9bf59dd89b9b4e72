"""The first routes of the API, over a client in memory and over a real socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from dataflow.api import create_app
from dataflow.api.server import serving
from dataflow.domain.flow import Counters
from dataflow.domain.state import PipelineState
from dataflow.errors import Conflict, DataFlowError, IllegalCommand, InvalidSpec, NotFound, Problem, Rejected, Retryable
from dataflow.sdk.client import Summary
from dataflow.sdk.progress import Progress


class Client:
    """What the routes use of `dataflow.sdk.client.Client`."""

    def __init__(self) -> None:
        self.error: DataFlowError | None = None
        self.healthy: bool | None = True
        self.temporal = SimpleNamespace(service_client=self)

    async def check_health(self) -> bool:
        if self.healthy is None:
            raise RuntimeError("connection refused")
        return self.healthy

    async def list(self, status: str | None = None) -> list[Summary]:
        found = [Summary("a", "a", "running", "file", "file", ""), Summary("b", "b", "failed", "file", "console", "me")]
        return [one for one in found if status in (None, one.status)]

    async def progress(self, pipeline: str) -> Progress:
        if self.error:
            raise self.error
        return Progress(PipelineState.empty(pipeline), Counters(read=7), 2)


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(client)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as found:
        yield found


async def test_root_names_the_service(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/")).json()
    assert answer["service"] == "dataflow" and answer["status"] == "ok" and answer["version"]


async def test_live_and_ready_are_told_apart(http: httpx.AsyncClient, client: Client) -> None:
    assert (await http.get("/health/ready")).status_code == 200
    for healthy in (False, None):
        client.healthy = healthy
        assert (await http.get("/health/ready")).status_code == 503
        assert (await http.get("/health/live")).status_code == 200


async def test_pipelines(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/api/v1/pipelines")).json()
    assert answer["total"] == 2 and answer["pipelines"][1]["owner"] == "me"
    answer = (await http.get("/api/v1/pipelines", params={"status": "failed"})).json()
    assert [one["id"] for one in answer["pipelines"]] == ["b"]


async def test_one_pipeline(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/api/v1/pipelines/a")).json()
    assert (answer["pipeline_id"], answer["status"], answer["epochs"]) == ("a", "empty", 2)
    assert answer["counters"]["read"] == 7 and "recent_batches" not in answer


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("no"), 404, "NOT_FOUND"),
        (IllegalCommand("no"), 409, "ILLEGAL_COMMAND"),
        (Conflict("no"), 409, "CONFLICT"),
        (InvalidSpec([Problem("name", "bad")]), 422, "VALIDATION_FAILED"),
        (Rejected("no", code="ODD"), 400, "ODD"),
        (Retryable("later", hint="wait"), 503, "TEMPORARY_FAILURE"),
        (DataFlowError("broken"), 500, "DATAFLOW"),
    ],
)
async def test_errors_are_problem_details(
    http: httpx.AsyncClient, client: Client, error: DataFlowError, status: int, code: str
) -> None:
    client.error = error
    answer = await http.get("/api/v1/pipelines/a")
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"], body["instance"]) == (status, code, "/api/v1/pipelines/a")
    assert body["detail"] == str(error)
    assert ("problems" in body) == isinstance(error, InvalidSpec)


async def test_serving_over_a_socket(client: Client) -> None:
    async with (
        serving(client, "127.0.0.1", 0) as address,  # type: ignore[arg-type]
        httpx.AsyncClient(base_url=address) as http,
    ):
        assert (await http.get("/health/live")).json() == {"status": "ok"}
        assert (await http.get("/openapi.json")).json()["info"]["title"] == "DataFlow"
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient(base_url=address) as http:
            await http.get("/health/live")


async def test_a_port_that_is_taken(client: Client) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Rejected, match="cannot listen") as caught:
            async with serving(client, "127.0.0.1", taken.getsockname()[1]):  # type: ignore[arg-type]
                pass
    assert caught.value.code == "PORT_IN_USE" and "--port" in caught.value.hint


async def test_pipelines_in_pages(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/api/v1/pipelines", params={"limit": 1, "offset": 1})).json()
    assert answer["total"] == 2 and [one["id"] for one in answer["pipelines"]] == ["b"]
    assert (await http.get("/api/v1/pipelines", params={"limit": 0})).status_code == 422


class Resettable(Client):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    async def reset(self, pipeline: str, *, from_start: bool = False) -> PipelineState:
        self.asked.append(from_start)
        return PipelineState(pipeline_id=pipeline, generation=1 + from_start)

    async def rewind(self, pipeline: str, to: Any) -> PipelineState:
        self.asked.append(to)
        return PipelineState(pipeline_id=pipeline, generation=2)


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (None, False),
        ({}, False),
        ({"from_start": True}, True),
        ({"event": 7}, 7),
        ({"time": "2026-11-25T10:00:00"}, datetime(2026, 11, 25, 10, tzinfo=UTC)),
        ({"time": "2026-11-25T10:00:00+01:00"}, datetime(2026, 11, 25, 9, tzinfo=UTC)),
        ({"splits": {"orders-0": 7, "*": "2026-11-25T10:00"}}, {"orders-0": 7, "*": "2026-11-25T10:00"}),
    ],
)
async def test_resetting(body: Any, asked: Any) -> None:
    client = Resettable()
    app = create_app(client)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.post("/api/v1/pipelines/a/reset", json=body)
    assert answer.status_code == 200 and answer.json()["pipeline_id"] == "a"
    assert client.asked == [asked]


@pytest.mark.parametrize("body", [{"event": 0}, {"event": 1, "from_start": True}, {"splits": {}}, {"to": 7}, [7]])
async def test_a_reset_that_is_not_valid_is_a_problem_too(body: Any) -> None:
    app = create_app(Resettable())  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        answer = await http.post("/api/v1/pipelines/a/reset", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["code"] == "VALIDATION_FAILED" and answer.json()["problems"]
