"""A schema registry with Confluent's REST API: what its readers and writers ask for, served over real HTTP."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fastavro
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastavro.read import SchemaResolutionError
from fastavro.utils import generate_one

REFUSED = {"message": "Invalid schema: nobody likes it"}


@dataclass
class RegistryServer:
    """`user`: `name:password` that it asks for. `status`: what it answers to everything while it is not 200;
    `status_of_register`: to schemas that are to be registered."""

    user: str = ""
    status: int = 200
    status_of_register: int = 200
    url: str = ""
    schemas: list[dict[str, Any]] = field(default_factory=list)
    subjects: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def register(
        self, subject: str, schema: str, kind: str = "AVRO", references: Any = (), serialized: str = ""
    ) -> int:
        """The id. `serialized`: what it gives for `format=serialized` (the descriptor of Protobuf, in base64)."""
        entry = {"schemaType": kind, "schema": schema, "references": list(references), "serialized": serialized}
        if entry not in self.schemas:
            self.schemas.append(entry)
        number = self.schemas.index(entry) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def app(self) -> FastAPI:
        async def allowed(request: Request) -> None:
            self.asked.append(request.url.path)
            if self.status != 200:
                raise HTTPException(self.status)
            wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
            if self.user and request.headers.get("authorization") != wanted:
                raise HTTPException(401)

        app = FastAPI(dependencies=[Depends(allowed)])

        def shown(number: int, format: str) -> dict[str, Any]:
            if not 1 <= number <= len(self.schemas):
                raise HTTPException(404, {"error_code": 40403, "message": "Schema not found"})
            entry = dict(self.schemas[number - 1])
            serialized = entry.pop("serialized")
            if format == "serialized" and serialized:
                entry["schema"] = serialized
            if entry["schemaType"] == "AVRO":
                del entry["schemaType"]  # as the original does
            return entry

        @app.get("/schemas/ids/{number}")
        def by_id(number: int, format: str = "") -> dict[str, Any]:
            return shown(number, format)

        @app.get("/subjects/{subject}/versions/{version}")
        def version(subject: str, version: str, format: str = "") -> dict[str, Any]:
            known = self.subjects.get(subject, [])
            at = len(known) if version == "latest" else int(version)
            if not 1 <= at <= len(known):
                raise HTTPException(404, {"error_code": 40401, "message": "Subject not found"})
            return {"subject": subject, "version": at, "id": known[at - 1], **shown(known[at - 1], format)}

        @app.post("/subjects/{subject}/versions")
        def add(subject: str, body: dict[str, Any]) -> Any:
            kind, known = body.get("schemaType", "AVRO"), self.subjects.get(subject, [])
            if self.status_of_register != 200:
                return JSONResponse(REFUSED | {"error_code": self.status_of_register}, self.status_of_register)
            if kind == "AVRO" and known and not _reads(body["schema"], self.schemas[known[-1] - 1]["schema"]):
                return JSONResponse({"error_code": 409, "message": "Schema being registered is incompatible"}, 409)
            return {"id": self.register(subject, body["schema"], kind)}

        @app.post("/subjects/{subject}")
        def look(subject: str, body: dict[str, Any]) -> Any:
            for number in self.subjects.get(subject, []):
                if self.schemas[number - 1]["schema"] == body["schema"]:
                    return {"subject": subject, "id": number, "version": 1, "schema": body["schema"]}
            return JSONResponse({"error_code": 40403, "message": "Schema not found"}, 404)

        return app


def _reads(newer: str, older: str) -> bool:
    """Whether what was written by the older schema can be read by the newer one: BACKWARD, as registries begin with."""
    old, new = (fastavro.parse_schema(json.loads(text)) for text in (older, newer))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, old, generate_one(old))
    try:
        fastavro.schemaless_reader(io.BytesIO(out.getvalue()), old, new)
    except SchemaResolutionError:
        return False
    return True


@contextmanager
def serving(server: RegistryServer) -> Iterator[RegistryServer]:
    """On a port of its own, until the block ends."""
    running = uvicorn.Server(uvicorn.Config(server.app(), host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}"
    try:
        yield server
    finally:
        running.should_exit = True
        thread.join()
