"""The definition of a pipeline, as it is stored in events: plain JSON values, references unresolved.

The short form of a pipeline file (`sink:`) is normalised here to `sinks:`. Options of connectors and transforms are
kept as they were written; the registry's models check them (`dataflow.specfile`).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dataflow.domain.flow import Delivery, OnRecord

NAME = re.compile(r"[A-Za-z0-9_-]{3,100}")
REFERENCE = re.compile(r"\$\{(env|secret):([A-Za-z_][A-Za-z0-9_.-]*)\}")
"""`${env:NAME}` and `${secret:NAME}`: resolved in the worker, never stored or shown."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def seconds(value: object) -> float:
    """`500ms`, `1s`, `5m`, `2h`, `1d`, or a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a duration is not negative")
        return float(value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a duration such as 500ms, 1s, 5m")
    return float(found[1]) * _SECONDS[found[2]]


def size(value: object) -> int:
    """`64MiB`, `10MB`, `512kB`, or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"{value!r} is not a size such as 64MiB")
    return int(float(found[1]) * _BYTES[found[2] or "B"])


Seconds = Annotated[float, BeforeValidator(seconds)]
Bytes = Annotated[int, BeforeValidator(size)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(Model):
    """A source, transform or sink: its type and whatever options that type takes."""

    model_config = ConfigDict(extra="allow", frozen=True)
    type: str = Field(min_length=1, description="Which connector or transform.")

    @property
    def options(self) -> dict[str, Any]:
        """The options as written, without what every stage has."""
        return dict(self.model_extra or {})


class SourceStage(Stage):
    batch_size: int | None = Field(
        None, ge=1, le=10_000, description="Rows of one batch at most; default: as the source likes."
    )
    poll_interval: Seconds = Field(0.0, le=3600, description="Pause between two looks at a source that must be asked.")

    @field_validator("poll_interval")
    @classmethod
    def _measurable(cls, value: float) -> float:
        if 0 < value < 0.001:
            raise ValueError("0, or 1ms to 1h")
        return value


class TransformStage(Stage):
    on_error: OnRecord | None = Field(
        None, description="What becomes of a record this stage cannot handle; default: errors.on_record."
    )


class SinkStage(Stage):
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{1,60}$", description="Name of the sink; default sink, or sink1, sink2 ..."
    )
    batch_size: int | None = Field(
        None, ge=1, le=10_000, description="Rows of one write at most; default: whole batches."
    )
    where: str | None = Field(None, description="Only rows for which this expression is true.")


class Checkpoint(Model):
    interval: Seconds = Field(
        1.0,
        gt=0,
        le=3600,
        description="An epoch ends after this time at the latest (and after half of `timeouts.batch`).",
    )
    max_rows: int = Field(10_000_000, ge=1, le=100_000_000, description="... or after about this many rows read.")
    max_bytes: Bytes = Field(256 * 2**20, ge=1, description="... or after this many bytes of rows in memory.")
    adopt: bool = Field(
        False,
        description="Go on from receipts that a pipeline of this name, but of another journal, has left in the sinks. "
        "Otherwise they are refused.",
    )


class Errors(Model):
    on_record: OnRecord = Field(
        OnRecord.DEAD_LETTER, description="What becomes of a record that cannot be read, transformed or written."
    )
    dead_letters: str | None = Field(None, description="Folder for dead letters; default: beside the sink.")


class Retry(Model):
    max_attempts: int = Field(5, ge=0, le=1000, description="Retries before the pipeline fails.")
    initial: Seconds = Field(1.0, description="First backoff; doubles each time.")
    maximum: Seconds = Field(30.0, description="Longest backoff.")
    codes: tuple[str, ...] = Field((), description="Error codes to retry beside the transient ones.")


class Timeouts(Model):
    batch: Seconds = Field(300.0, gt=0, description="One epoch from its first row to its commit.")
    operation: Seconds = Field(30.0, gt=0, description="One call to an external system.")


class Resources(Model):
    cpu_percent: float | None = Field(
        None, ge=0, le=100_000, description="CPU, in percent of one machine; default: the setting pipeline_cpu_percent."
    )
    memory: Bytes | None = Field(None, ge=0, description="Memory; default: the setting pipeline_memory_mb.")


class PipelineSpec(Model):
    """A whole pipeline definition, normalised. `model_dump(mode="json", exclude_defaults=True)` is its stored form."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{3,100}$", description="Letters, digits, - and _, 3 to 100.")
    id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{3,100}$", description="The pipeline's id; default: its name.")
    description: str = Field("", max_length=500)
    owner: str = Field("", max_length=100)
    group: str = Field("", max_length=100, description="Whose quota of slots a run counts for; default: the owner's.")
    priority: int = Field(
        0, ge=-1000, le=1000, description="Of the starts that wait for a slot the one with the highest goes first."
    )
    resources: Resources = Field(Resources(), description="What a run counts for among those that share the workers.")
    source: SourceStage
    transforms: tuple[TransformStage, ...] = ()
    sinks: tuple[SinkStage, ...] = Field(min_length=1)
    checkpoint: Checkpoint = Checkpoint()
    errors: Errors = Errors()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    delivery: Delivery | None = Field(
        None, description="The guarantee demanded; validation refuses what cannot give it."
    )
    parallelism: int = Field(1, ge=1, le=256, description="Lanes at most, for each sink.")
    version: Literal[1] = 1
    base: str = Field("", description="Folder that relative paths start from: the pipeline file's own.")

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if "sink" in data:
            if "sinks" in data:
                raise ValueError("give sink or sinks, not both")
            data["sinks"] = [data.pop("sink")]
        return data

    @property
    def pipeline_id(self) -> str:
        return self.id or self.name

    def sink_names(self) -> tuple[str, ...]:
        """One unique name for each sink, in order; stable while sinks are only appended."""
        if len(self.sinks) == 1:
            return (self.sinks[0].name or "sink",)
        return tuple(sink.name or f"sink{n}" for n, sink in enumerate(self.sinks, 1))

    def stored(self) -> dict[str, Any]:
        """Canonical JSON form: what events carry."""
        return self.model_dump(mode="json", exclude_defaults=True)
