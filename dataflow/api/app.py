"""The application: routes, and errors as problem details (RFC 9457) with a stable `code`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from dataflow.api.records import records_router
from dataflow.api.reset import reset_router
from dataflow.api.system import system_routes
from dataflow.domain.state import states
from dataflow.errors import Conflict, DataFlowError, IllegalCommand, InvalidSpec, NotFound, Problem, Rejected, Retryable

if TYPE_CHECKING:
    from dataflow.sdk.client import Client

PREFIX = "/api/v1"
_STATUS: tuple[tuple[type[DataFlowError], int, str], ...] = (
    (InvalidSpec, 422, "Not valid"),
    (NotFound, 404, "Not found"),
    (IllegalCommand, 409, "The command does not fit the pipeline's state"),
    (Conflict, 409, "Conflict"),
    (Rejected, 400, "Rejected"),
    (Retryable, 503, "Not available now"),
)


def create_app(client: Client, routes: Sequence[APIRouter] = ()) -> FastAPI:
    """The API over one client, and further routes. Building it connects to nothing."""
    app = FastAPI(title="DataFlow", version=version("dataflow"), openapi_url="/openapi.json")
    app.add_exception_handler(DataFlowError, _problem)
    app.add_exception_handler(RequestValidationError, _malformed)

    @app.get("/")
    async def root() -> dict[str, str]:
        """What this is."""
        return {"service": "dataflow", "version": version("dataflow"), "status": "ok"}

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """Commands can be given: Temporal answers. 503 where it does not."""
        try:
            healthy = await client.temporal.service_client.check_health()
        except RuntimeError as error:  # RPCError is one
            return JSONResponse({"status": "unavailable", "temporal": str(error)}, 503)
        return JSONResponse({"status": "ok" if healthy else "unavailable"}, 200 if healthy else 503)

    @app.get(f"{PREFIX}/pipelines")
    async def pipelines(
        status: str | None = None,
        limit: Annotated[int | None, Query(ge=1)] = None,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> dict[str, Any]:
        """All pipelines that are not deleted, by name; a page of them where a limit is given. `total` counts all."""
        found = await client.list(status)
        page = found[offset : None if limit is None else offset + limit]
        return {"pipelines": [asdict(one) for one in page], "total": len(found)}

    @app.get(f"{PREFIX}/pipelines/{{pipeline}}")
    async def pipeline(pipeline: str) -> dict[str, Any]:
        """One pipeline: its state, and the live counters of its running segments."""
        progress = await client.progress(pipeline)
        state: dict[str, Any] = states().dump_python(progress.state, mode="json")
        for bookkeeping in ("recent_batches", "recent_offsets"):
            state.pop(bookkeeping)
        return {
            **state,
            "counters": asdict(progress.counters),
            "epochs": progress.epochs,
            "lag": dict(progress.lag),
            "lanes": {name: asdict(doing) for name, doing in progress.lanes.items()},
            "blocked": list(progress.blocked),
        }

    app.include_router(system_routes(client), prefix=PREFIX)
    app.include_router(records_router(client), prefix=PREFIX)
    app.include_router(reset_router(client), prefix=PREFIX)
    for more in routes:
        app.include_router(more)
    return app


async def _malformed(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [
        Problem(".".join(str(step) for step in detail["loc"][1:]), str(detail["msg"]), code=str(detail["type"]))
        for detail in error.errors()
    ]
    return await _problem(request, InvalidSpec(found))


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DataFlowError)
    status, title = next(((code, title) for kind, code, title in _STATUS if isinstance(error, kind)), (500, "Error"))
    if error.code == "TOO_LARGE":
        status, title = 413, "Too large"
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": str(error),
        "instance": request.url.path,
        "code": error.code,
    }
    if isinstance(error, InvalidSpec):
        body["problems"] = [asdict(problem) for problem in error.problems]
    return JSONResponse(body, status, media_type="application/problem+json")
