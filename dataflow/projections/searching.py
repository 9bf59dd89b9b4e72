"""Searching by words: in Elasticsearch, or where there is none that answers, in the read models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from dataflow.errors import NotFound
from dataflow.projections.search_documents import KINDS, SEARCHED
from dataflow.projections.sql_tables import table
from dataflow.projections.store import Store, place_of

_HIDDEN = ("row", "words")


@dataclass(slots=True)
class Part:
    """What was found of one kind: how many there are, and the best of them as they are stored."""

    total: int = 0
    hits: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Found:
    """`degraded` says why Elasticsearch could not be asked, `position` how far what was searched had come."""

    parts: dict[str, Part] = field(default_factory=dict)
    position: int = 0
    degraded: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        parts = {kind: asdict(part) for kind, part in self.parts.items()}
        return {"status": "degraded" if self.degraded else "ok", **asdict(self), "parts": parts}


def kinds_of(asked: Sequence[str] | None) -> Sequence[str]:
    """The kinds to search, all where none is asked for; `NotFound` for one that there is not."""
    for kind in asked or ():
        if kind not in KINDS:
            raise NotFound(f"there are no {kind!r} to search", hint=f"known: {', '.join(KINDS)}")
    return asked or KINDS


async def by_words(url: str, prefix: str, words: str, kinds: Sequence[str], limit: int) -> Found:
    """In Elasticsearch: all words, best first, among equals the newest. `Retryable` where it does not answer."""
    from elasticsearch import AsyncElasticsearch

    from dataflow.projections.search_errors import translated

    found = Found()
    with translated(url):
        async with AsyncElasticsearch(url, request_timeout=10, max_retries=0) as client:
            state = await client.options(ignore_status=404).get(index=f"{prefix}-state", id="builds")
            if "_source" not in state:
                return found
            serving = state["_source"]["serving"]
            noted = await client.options(ignore_status=404).get(index=f"{prefix}-state", id=f"position-{serving}")
            found.position = noted.get("_source", {}).get("position", 0)
            searches: list[Mapping[str, Any]] = []
            for kind in kinds:
                searches += [{"index": f"{prefix}-{kind}"}, _query(kind, words, limit)]
            answers = await client.msearch(searches=searches)
    for kind, answer in zip(kinds, answers["responses"], strict=True):
        hits = answer.get("hits", {"hits": [], "total": {"value": 0}})
        shown = [{k: v for k, v in hit["_source"].items() if k not in _HIDDEN} for hit in hits["hits"]]
        found.parts[kind] = Part(hits["total"]["value"], shown)
    return found


def _query(kind: str, words: str, limit: int) -> dict[str, Any]:
    newest = "updated_at" if kind == "pipelines" else "position"
    return {
        "size": limit,
        "query": {
            "simple_query_string": {
                "query": words,
                "fields": list(SEARCHED[kind]),
                "default_operator": "and",
                "lenient": True,
            }
        },
        "sort": [{"_score": "desc"}, {newest: "desc"}],
        "track_total_hits": 10_000,
    }


async def in_read_models(store: Store, words: str, kinds: Sequence[str], limit: int, degraded: str) -> Found:
    """In the tables of the read models: every word somewhere in the row, the newest first."""
    async with store:
        return await store.read(_scan, words, kinds, limit, degraded)


def _scan(connection: Connection, words: str, kinds: Sequence[str], limit: int, degraded: str) -> Found:
    found = Found(degraded=degraded)
    found.position = place_of(connection, "audit").position
    status = table("pipeline_status", place_of(connection, "status").slot)
    audit = table("audit_log", place_of(connection, "audit").slot)
    texts = (status.c.pipeline_id, status.c.pipeline_name, status.c.description, status.c.source_type, status.c.owner)
    said = (audit.c.stream, audit.c.type, audit.c.actor, audit.c.summary)
    error = audit.c.type.in_(("RetryScheduled", "PipelineFailed", "BatchTimedOut"))
    for kind in kinds:
        if kind == "pipelines":
            searched = (*texts, status.c.sink_type, status.c.status, status.c.error_code, status.c.error_message)
            where, rows, newest = _all_words(words, searched), status, status.c.updated_at
        else:
            where = _all_words(words, said) if kind == "events" else and_(error, _all_words(words, said))
            rows, newest = audit, audit.c.position
        total = connection.execute(select(func.count()).select_from(rows).where(where)).scalar_one()
        hits = connection.execute(select(rows).where(where).order_by(newest.desc()).limit(limit)).mappings()
        found.parts[kind] = Part(total, [_shown(kind, dict(hit)) for hit in hits])
    return found


def _all_words(words: str, columns: Sequence[ColumnElement[str]]) -> ColumnElement[bool]:
    each = [
        or_(*(column.icontains(word.strip('"*+'), autoescape=True) for column in columns)) for word in words.split()
    ]
    return and_(*each)


def _shown(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the names that documents have."""
    if kind == "pipelines":
        return {**row, "pipeline": row["pipeline_id"], "name": row["pipeline_name"]}
    shown = {**row, "pipeline": row["stream"]}
    if kind == "errors":
        code, _, message = str(row["summary"]).partition(": ")
        shown |= {"code": code.split(" at ")[0], "message": message}
    return shown
