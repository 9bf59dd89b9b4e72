"""Pushing records over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from dataflow.errors import InvalidSpec, Problem
from dataflow.inbox.batch import MAX_BYTES, too_large

if TYPE_CHECKING:
    from dataflow.sdk.client import Client
    from dataflow.sdk.ingest import Ingested

_BODY = MAX_BYTES + 2**20  # white space and the frame around the records
_KEYS = ("batch_id", "records", "source_offset")
_SCHEMA = {
    "type": "object",
    "required": ["batch_id", "records"],
    "additionalProperties": False,
    "properties": {
        "batch_id": {"type": "string", "maxLength": 200, "description": "The same when the batch is sent again."},
        "records": {"type": "array", "minItems": 1, "maxItems": 10_000, "items": {"type": "object"}},
        "source_offset": {"type": "integer", "minimum": 0, "default": 0, "description": "The caller's own offset."},
    },
}


def records_router(client: Client) -> APIRouter:
    """`POST /pipelines/{pipeline}/records`."""
    router = APIRouter()

    @router.post(
        "/pipelines/{pipeline}/records",
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}},
    )
    async def push(pipeline: str, request: Request) -> JSONResponse:
        """Push a batch of records, once. The same `batch_id` again has the same answer, and the header
        `Idempotent-Replayed: true`; with other records it is a conflict."""
        body = _parsed(await _body(request))
        taken = await client.ingest(
            pipeline, body["records"], batch_id=body["batch_id"], source_offset=body.get("source_offset", 0)
        )
        return JSONResponse(answer(taken), headers={"Idempotent-Replayed": "true"} if taken.repeated else None)

    return router


def answer(taken: Ingested) -> dict[str, Any]:
    """What a caller is told, the same for a repeat."""
    return {
        "pipeline_id": taken.pipeline_id,
        "batch_id": taken.batch_id,
        "success_count": taken.success_count,
        "failure_count": taken.failure_count,
        "first_offset": taken.first_offset,
    }


async def _body(request: Request) -> bytes:
    """The body, read no further than the limit."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _BODY:
            raise too_large()
        parts.append(part)
    return b"".join(parts)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidSpec([Problem("", f"the body is not JSON: {error}", code="syntax")]) from None
    if not isinstance(found, dict):
        raise InvalidSpec([Problem("", "the body is not a JSON object with batch_id and records")])
    problems = [Problem(key, "is missing") for key in _KEYS[:2] if key not in found]
    problems += [
        Problem(key, "unknown key", code="unknown_key", hint="known: " + ", ".join(_KEYS))
        for key in found
        if key not in _KEYS
    ]
    if problems:
        raise InvalidSpec(problems)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
