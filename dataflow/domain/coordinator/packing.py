"""The coordinator's state as bytes that fit into one message, and the beats and unread reports beside it.

Ten thousand pipelines are three megabytes of JSON and half a megabyte packed; with names and ids of a hundred random
characters each, less than two.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from pydantic import TypeAdapter

from dataflow.domain.coordinator.commands import PipelineReport
from dataflow.domain.coordinator.overview import Beat
from dataflow.domain.coordinator.state import CoordinatorState

MOST = 1_900_000
"""Bytes of a packed state at most: a message of Temporal's holds two megabytes."""

PART = 4_000_000
"""Bytes of JSON in one part of a state that is sent in parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """`beats` are in the order of the state's pipelines, None where there is none: ids are not written twice."""

    state: CoordinatorState
    beats: tuple[tuple[datetime, int, int] | None, ...] = ()
    reports: tuple[PipelineReport, ...] = ()


@cache
def _packings() -> TypeAdapter[Packed]:
    return TypeAdapter(Packed)


@cache
def states() -> TypeAdapter[CoordinatorState]:
    """The state as plain JSON."""
    return TypeAdapter(CoordinatorState)


def pack(
    state: CoordinatorState, beats: Mapping[str, Beat] | None = None, reports: tuple[PipelineReport, ...] = ()
) -> bytes:
    """All three as bytes."""
    known = beats or {}
    told = [known.get(pipeline) for pipeline in state.pipelines]
    packed = Packed(
        state=state,
        beats=tuple((beat.at, beat.records, beat.failed) if beat else None for beat in told) if known else (),
        reports=reports,
    )
    return zlib.compress(_packings().dump_json(packed), 6)


def unpack(data: bytes) -> tuple[CoordinatorState, dict[str, Beat], tuple[PipelineReport, ...]]:
    """What was packed."""
    packed = _packings().validate_json(zlib.decompress(data))
    beats = {
        pipeline: Beat(at=beat[0], records=beat[1], failed=beat[2])
        for pipeline, beat in zip(packed.state.pipelines, packed.beats, strict=False)
        if beat is not None
    }
    return packed.state, beats, packed.reports


def cut(state: CoordinatorState) -> list[bytes]:
    """The state as JSON in parts."""
    whole = states().dump_json(state)
    return [whole[start : start + PART] for start in range(0, len(whole), PART)]


def encoded(part: bytes) -> str:
    """A part as text for JSON."""
    return base64.b64encode(zlib.compress(part, 6)).decode("ascii")


def joined(texts: list[str]) -> CoordinatorState:
    """The state of all its parts."""
    return states().validate_json(b"".join(zlib.decompress(base64.b64decode(text)) for text in texts))
