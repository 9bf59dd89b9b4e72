"""Whether the systems behind a pipeline serve it, asked of these systems themselves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataflow.assembly import build_sink, build_source, context_of
from dataflow.domain.spec import PipelineSpec
from dataflow.errors import DataFlowError
from dataflow.seams import Probing

WITHIN = 8.0
"""Seconds after which a system that does not answer counts as down."""


@dataclass(frozen=True, slots=True)
class Health:
    """Of one source or sink; `path` is its place in the definition. `detail` says what was found, or what is wrong."""

    path: str
    type: str
    healthy: bool
    detail: str
    code: str = ""


async def probe(spec: PipelineSpec, *, home: Path, within: float = WITHIN) -> list[Health]:
    """Every source and sink that can be asked, all at once; those that cannot are left out."""
    context = context_of(spec, home=home)
    stages: list[tuple[str, str, Any]] = [
        ("source", spec.source.type, lambda: build_source(spec, context)),
        *(
            (f"sinks[{number}]", stage.type, lambda number=number: build_sink(spec, number, context))
            for number, stage in enumerate(spec.sinks)
        ),
    ]
    found = await asyncio.gather(*(_asked(path, kind, build, within) for path, kind, build in stages))
    return [health for health in found if health is not None]


async def _asked(path: str, kind: str, build: Any, within: float) -> Health | None:
    try:
        part = build()
        if not isinstance(part, Probing):
            return None
        async with asyncio.timeout(within):
            return Health(path, kind, True, await part.probe())
    except TimeoutError:
        return Health(path, kind, False, f"no answer within {within:g} s", "TIMEOUT")
    except DataFlowError as error:
        return Health(path, kind, False, str(error), error.code)
