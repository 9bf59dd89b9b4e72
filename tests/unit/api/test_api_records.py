"""`POST /pipelines/{id}/records`: what is taken, what is refused, and how that is said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest

from dataflow.api import create_app
from dataflow.api.records import _BODY
from dataflow.errors import Conflict, DataFlowError, IllegalCommand
from dataflow.inbox import MAX_BYTES, Batch
from dataflow.sdk import Ingested

PATH = "/api/v1/pipelines/orders/records"


class Client:
    """What the route uses of `dataflow.sdk.Client`; it checks batches as that does."""

    def __init__(self) -> None:
        self.taken: dict[str, Ingested] = {}
        self.error: DataFlowError | None = None
        self.given: list[tuple[str, int, int]] = []

    async def ingest(
        self, pipeline: str, records: Sequence[Mapping[str, Any]], *, batch_id: str, source_offset: int = 0
    ) -> Ingested:
        batch = Batch.of(batch_id, records, source_offset)
        if self.error:
            raise self.error
        self.given.append((batch_id, batch.records, source_offset))
        known = self.taken.get(batch_id)
        self.taken[batch_id] = Ingested(pipeline, batch_id, batch.records, 0, 0)
        return (known and Ingested(pipeline, batch_id, batch.records, 0, 0, repeated=True)) or self.taken[batch_id]


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
async def http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(client)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as found:
        yield found


async def test_a_batch_and_its_repeat_have_the_same_body(http: httpx.AsyncClient, client: Client) -> None:
    body = {"batch_id": "b1", "records": [{"a": 1}, {"a": 2}], "source_offset": 7}
    first, second = await http.post(PATH, json=body), await http.post(PATH, json=body)
    assert (first.status_code, second.status_code) == (200, 200)
    assert (
        first.json()
        == second.json()
        == {
            "pipeline_id": "orders",
            "batch_id": "b1",
            "success_count": 2,
            "failure_count": 0,
            "first_offset": 0,
        }
    )
    assert "Idempotent-Replayed" not in first.headers and second.headers["Idempotent-Replayed"] == "true"
    assert client.given == [("b1", 2, 7), ("b1", 2, 7)]


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b"", [""]),
        (b"[]", [""]),
        (b'{"batch_id": "b", "records": [{"a": NaN}]}', [""]),
        (b'{"batch_id": "b", "records": [}', [""]),
        (b"{}", ["batch_id", "records"]),
        (b'{"batch_id": "b", "record": [{}]}', ["records", "record"]),
        (b'{"batch_id": "", "records": [], "source_offset": -1}', ["batch_id", "records", "source_offset"]),
        (b'{"batch_id": "b", "records": [{}, 1, {}, null]}', ["records[1]", "records[3]"]),
        (b'{"batch_id": 7, "records": {"a": 1}}', ["batch_id", "records"]),
    ],
)
async def test_malformed_bodies_name_every_problem(
    http: httpx.AsyncClient, client: Client, body: bytes, paths: list[str]
) -> None:
    answer = await http.post(PATH, content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["code"] == "VALIDATION_FAILED"
    assert [problem["path"] for problem in answer.json()["problems"]] == paths
    assert client.given == []


async def test_too_large_is_413_and_the_rest_is_not_read(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'{"batch_id": "b", "records": ['
        while True:
            sent += 1
            yield b" " * 2**20

    for content in (endless(), json.dumps({"batch_id": "b", "records": [{"a": "x" * MAX_BYTES}]}).encode()):
        answer = await http.post(PATH, content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert sent <= _BODY // 2**20 + 2


@pytest.mark.parametrize("error", [IllegalCommand("is paused", hint="resume it"), Conflict("other records")])
async def test_refusals_of_the_pipeline(http: httpx.AsyncClient, client: Client, error: DataFlowError) -> None:
    client.error = error
    answer = await http.post(PATH, json={"batch_id": "b", "records": [{}]})
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (409, error.code, str(error))


async def test_it_is_described(http: httpx.AsyncClient) -> None:
    found = (await http.get("/openapi.json")).json()["paths"]["/api/v1/pipelines/{pipeline}/records"]["post"]
    schema = found["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["batch_id", "records"]
