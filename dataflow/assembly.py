"""From a definition to working components: what the activities, validation and preview all build with.

References are resolved here, in the process that uses the component, and nowhere else (invariant 5). Every function
raises `InvalidSpec`, its paths absolute in the normalised definition (`sinks[0].path`), and `Rejected`
(UNRESOLVED_REFERENCE) for a reference to something that is not set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from dataflow.chain import Chain, Stage
from dataflow.components import Kind
from dataflow.domain.flow import OnRecord
from dataflow.domain.spec import PipelineSpec
from dataflow.domain.spec import Stage as StageSpec
from dataflow.domain.state import Rewind
from dataflow.errors import InvalidSpec, Problem
from dataflow.references import References
from dataflow.registry import component
from dataflow.seams import Applied, Context, Sink, Source, Transform
from dataflow.specfile.structure import configure, options_of


def context_of(
    spec: PipelineSpec,
    *,
    generation: int = 1,
    home: Path,
    inbox: str = "",
    rewind: Rewind | None = None,
    begins: bool = False,
) -> Context:
    """What the components of this pipeline may know of the run. Relative paths start at the definition's folder."""
    base = Path(spec.base) if spec.base else Path.cwd()
    named = spec.errors.dead_letters
    return Context(
        pipeline=spec.pipeline_id,
        generation=generation,
        base=base,
        home=home,
        inbox=inbox,
        rewind=rewind,
        begins=begins,
        on_record=spec.errors.on_record,
        parallelism=spec.parallelism,
        chunk_rows=min(spec.source.batch_size or spec.checkpoint.max_rows, spec.checkpoint.max_rows),
        timeout=spec.timeouts.operation,
        interval=spec.checkpoint.interval,
        dead_letters=base / References.of_process().resolve(named) if named else None,
    )


def build_source(spec: PipelineSpec, context: Context, references: References | None = None) -> Source:
    """The source, not yet entered."""
    source: Source = _build(Kind.SOURCE, spec.source, "source", context, references)
    return source


def build_sink(spec: PipelineSpec, index: int, context: Context, references: References | None = None) -> Sink:
    """The sink of that number, not yet entered."""
    sink: Sink = _build(Kind.SINK, spec.sinks[index], f"sinks[{index}]", context, references)
    return sink


def build_stages(spec: PipelineSpec, index: int, context: Context, references: References | None = None) -> list[Stage]:
    """The transforms on the way to the sink of that number, not yet bound. A `where:` of the sink is the last of them,
    under the name `sinks[index].where`."""
    stages = []
    for number, written in enumerate(spec.transforms):
        name = f"transforms[{number}]"
        transform: Transform = _build(Kind.TRANSFORM, written, name, context, references)
        transform.on_error = written.on_error
        stages.append(Stage(name, transform))
    if (where := spec.sinks[index].where) is not None:
        name = f"sinks[{index}].where"
        only = StageSpec(type="filter", where=where)
        stages.append(Stage(name, _SinkFilter(_build(Kind.TRANSFORM, only, name, context, references))))
    return stages


def build_chain(spec: PipelineSpec, index: int, context: Context, references: References | None = None) -> Chain:
    """These stages as a chain, not yet bound."""
    return Chain(build_stages(spec, index, context, references), spec.errors.on_record)


def _build(kind: Kind, stage: StageSpec, path: str, context: Context, references: References | None) -> Any:
    try:
        found = component(kind, stage.type)
        framed = {key: getattr(stage, key) for key in stage.model_fields_set if key in type(stage).model_fields}
        written = options_of(found, {**stage.options, **framed})  # an option may be called like a method (`schema`)
        resolved = (references or References.of_process()).resolve(written)
        return found.build(configure(found, resolved, written), context)
    except InvalidSpec as refused:
        raise InvalidSpec(_under(path, refused.problems)) from refused


def _under(path: str, problems: Sequence[Problem]) -> list[Problem]:
    return [replace(problem, path=f"{path}.{problem.path}" if problem.path else path) for problem in problems]


class _SinkFilter:
    """A sink's `where:`: a filter whose problems lie at the sink's own key."""

    on_error: OnRecord | None = None

    def __init__(self, only: Transform) -> None:
        self._only = only

    def bind(self, schema: pl.Schema) -> pl.Schema:
        try:
            return self._only.bind(schema)
        except InvalidSpec as refused:
            raise InvalidSpec([replace(problem, path="") for problem in refused.problems]) from refused

    @property
    def fallible(self) -> bool:
        return self._only.fallible

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        return self._only.needs(columns)

    def apply(self, rows: pl.DataFrame) -> Applied:
        return self._only.apply(rows)
