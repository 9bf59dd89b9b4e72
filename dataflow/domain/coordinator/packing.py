"""The coordinator's state as bytes that fit into one message, with the beats and the unread reports.

Pipelines are written column by column: ten thousand of them are about half a megabyte, and are written and read in some
hundredths of a second, in a workflow that must never take long at a time. A column that is missing has its default, so
one version reads what another has written.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.overview import Beat
from dataflow.domain.coordinator.state import CoordinatorState, Registered, Share
from dataflow.domain.state import EPOCH, Status

MOST = 1_900_000
"""Bytes of a packed state at most: a message of Temporal's holds two megabytes."""

PART = 4_000_000
"""Characters of JSON in one part of a state that is sent in parts."""

_MICROSECOND = timedelta(microseconds=1)
_STATUSES = {str(status): status for status in Status}


@cache
def states() -> TypeAdapter[CoordinatorState]:
    """The state as plain JSON."""
    return TypeAdapter(CoordinatorState)


@cache
def _reports() -> TypeAdapter[tuple[PipelineReport, ...]]:
    return TypeAdapter(tuple[PipelineReport, ...])


def pack(
    state: CoordinatorState, beats: Mapping[str, Beat] | None = None, reports: Sequence[PipelineReport] = ()
) -> bytes:
    """All three as bytes."""
    return zlib.compress(_text(state, beats or {}, reports).encode(), 3)


def unpack(data: bytes) -> tuple[CoordinatorState, dict[str, Beat], tuple[PipelineReport, ...]]:
    """What was packed."""
    return _parsed(zlib.decompress(data).decode())


def packed(state: CoordinatorState) -> dict[str, Any]:
    """The state as plain JSON that is as small as the packed bytes: for snapshots."""
    return {"packed": base64.b64encode(pack(state)).decode("ascii")}


def unpacked(stored: Mapping[str, Any]) -> CoordinatorState:
    """What `packed` gave, or the state written out, as snapshots were before. ValueError for anything else."""
    if "packed" not in stored:
        return states().validate_python(stored)
    try:
        return unpack(base64.b64decode(stored["packed"], validate=True))[0]
    except (TypeError, KeyError, zlib.error) as error:
        raise ValueError(f"not a packed state: {error}") from error


def cut(state: CoordinatorState) -> list[str]:
    """The state in parts, each a text that fits into one message."""
    whole = _text(state, {}, ())
    parts = [whole[start : start + PART] for start in range(0, len(whole), PART)]
    return [base64.b64encode(zlib.compress(part.encode(), 3)).decode("ascii") for part in parts]


def joined(parts: Sequence[str]) -> CoordinatorState:
    """The state of all its parts."""
    return _parsed(b"".join(zlib.decompress(base64.b64decode(part)) for part in parts).decode())[0]


def _text(state: CoordinatorState, beats: Mapping[str, Beat], reports: Sequence[PipelineReport]) -> str:
    entries = list(state.pipelines.values())
    told = [beats.get(pipeline) for pipeline in state.pipelines] if beats else []
    columns: dict[str, list[Any]] = {
        "id": list(state.pipelines),
        "name": [None if entry.name == pipeline else entry.name for pipeline, entry in state.pipelines.items()],
        "status": [entry.status._value_ for entry in entries],
        "version": [entry.version for entry in entries],
        "registered_at": [_number(entry.registered_at) for entry in entries],
        "heard_at": [_number(entry.heard_at) for entry in entries],
        "group": [entry.group for entry in entries],
        "priority": [entry.priority for entry in entries],
        "records": [entry.records for entry in entries],
        "failed": [entry.failed for entry in entries],
        "share": [(entry.share.cpu, entry.share.memory_mb) if entry.share else None for entry in entries],
        "beat": [(_number(beat.at), beat.records, beat.failed) if beat else None for beat in told],
    }
    rest = states().dump_python(replace(state, pipelines={}), mode="json")
    waiting = _reports().dump_python(tuple(reports), mode="json")
    # Not in ASCII alone: an escaped letter takes six characters, and names are in any language.
    return json.dumps({"state": rest, "pipelines": columns, "reports": waiting}, ensure_ascii=False)


def _parsed(text: str) -> tuple[CoordinatorState, dict[str, Beat], tuple[PipelineReport, ...]]:
    whole = json.loads(text)
    columns: dict[str, list[Any]] = whole["pipelines"]
    ids = columns["id"]
    rows = zip(
        ids,
        columns["name"],
        columns["status"],
        columns["version"],
        columns["registered_at"],
        columns["heard_at"],
        columns.get("group") or [""] * len(ids),
        columns.get("priority") or [0] * len(ids),
        columns.get("records") or [0] * len(ids),
        columns.get("failed") or [0] * len(ids),
        columns.get("share") or [None] * len(ids),
        strict=True,
    )
    pipelines = {
        pipeline: Registered(
            name=pipeline if name is None else name,
            status=_STATUSES[status],
            version=version,
            registered_at=_time(registered_at),
            heard_at=_time(heard_at),
            group=group,
            priority=priority,
            records=records,
            failed=failed,
            share=Share(cpu=share[0], memory_mb=share[1]) if share else None,
        )
        for (
            pipeline,
            name,
            status,
            version,
            registered_at,
            heard_at,
            group,
            priority,
            records,
            failed,
            share,
        ) in rows
    }
    beats = {
        pipeline: Beat(at=_time(beat[0]), records=beat[1], failed=beat[2])
        for pipeline, beat in zip(ids, columns.get("beat") or (), strict=False)
        if beat
    }
    state = replace(states().validate_python(whole["state"]), pipelines=pipelines)
    return state, beats, _reports().validate_python(whole.get("reports") or ())


def _number(at: datetime) -> int:
    return (at - EPOCH) // _MICROSECOND


def _time(number: int) -> datetime:
    return EPOCH + number * _MICROSECOND
