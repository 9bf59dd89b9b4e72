"""`dataflow search`: pipelines, events and errors by words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from dataflow.cli.result import DONE, JSON, emit, note, perform, say
from dataflow.cli.session import settings

if TYPE_CHECKING:
    from dataflow.projections.searching import Found

_WORDS = typer.Argument(help="What to look for: all words must be found; ord* is any word that begins so.")
_KIND = typer.Option("", "--kind", help="Only pipelines, events or errors.")
_LIMIT = typer.Option(10, "--limit", min=1, max=1000, help="How many of each kind at most.")


def search(words: list[str] = _WORDS, kind: str = _KIND, limit: int = _LIMIT, as_json: bool = JSON) -> None:
    """Find pipelines, events and errors by words.

    In Elasticsearch (the setting search_url); without it, or where it does not answer, more slowly in the read models,
    and the answer says so."""
    perform(_search(" ".join(words), kind, limit, as_json), as_json=as_json)


async def _search(words: str, kind: str, limit: int, as_json: bool) -> int:
    from dataflow.projections.configured import ReadModels

    chosen = settings()
    chosen.home.mkdir(parents=True, exist_ok=True)
    found = await ReadModels(chosen).search(words, kinds=[kind] if kind else None, limit=limit)
    if as_json:
        emit(found.as_json())
        return DONE
    if found.degraded:
        note(f"degraded: {found.degraded}; this is what the read models say")
    _tell(found)
    return DONE


def _tell(found: Found) -> None:
    if not any(part.hits for part in found.parts.values()):
        say("nothing found")
    for kind, part in found.parts.items():
        for hit in part.hits:
            say(f"{kind[:-1]:<8}  {_line(kind, hit)}")
        if part.total > len(part.hits):
            note(f"{len(part.hits)} of {part.total} {kind}: --limit shows more")


def _line(kind: str, hit: dict[str, Any]) -> str:
    if kind == "pipelines":
        return f"{hit['pipeline']}  {hit['status']}  {hit['description']}".rstrip()
    what = f"{hit['code']}: {hit['message']}" if kind == "errors" else hit["summary"]
    return f"{hit['pipeline']}  {hit['time']}  {hit['type']}  {what}"


COMMANDS = (search,)
