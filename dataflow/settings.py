"""Settings of the platform: from the environment (`DATAFLOW_*`), then `dataflow.toml` in the current directory.

A setting `api_port` is the variable `DATAFLOW_API_PORT` and the key `api_port` of the file; the environment wins. With
nothing set, DataFlow runs embedded: its own Temporal dev server, SQLite, everything under `.dataflow/`.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from dataflow.domain.coordinator.state import Limits, WhenFull
from dataflow.domain.spec import seconds
from dataflow.errors import InvalidSpec, Problem

FILE = Path("dataflow.toml")
PREFIX = "DATAFLOW_"
DAY = 86_400.0

Port = Annotated[int, Field(ge=0, le=65535)]


def _seconds(value: object) -> float:
    """Durations as in pipeline files; a bare number in the environment is text and means seconds too."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return seconds(value)
    return seconds(value)


Seconds = Annotated[float, BeforeValidator(_seconds)]


class Settings(BaseSettings):
    """Every setting, checked. Frozen: a process reads them once, with `Settings.load()`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, toml_file=FILE, extra="forbid", frozen=True, validate_default=True
    )

    home: Path = Field(Path(".dataflow"), description="Where the platform keeps its data.")
    temporal_address: str | None = Field(
        None, description="host:port of a Temporal frontend; unset: the embedded dev server."
    )
    temporal_namespace: str = Field("default", min_length=1, description="Temporal namespace of the workflows.")
    temporal_binary: Path | None = Field(
        None, description="The `temporal` program to embed; unset: PATH, the cache, a download, a build."
    )
    task_queue: str = Field("dataflow", min_length=1, description="Task queue of the workers.")
    journal_url: str = Field(
        "", description="URL of the event journal: sqlite:, postgresql: or cassandra:; unset: SQLite in `home`."
    )
    readmodel_url: str = Field(
        "", description="URL of the read models: sqlite: or postgresql:; unset: SQLite in `home`."
    )
    search_url: str | None = Field(
        None, description="Elasticsearch in which pipelines, events and errors can be searched; unset: none."
    )
    search_prefix: str = Field(
        "dataflow", pattern="^[a-z][a-z0-9_-]*$", description="What the names of its indices begin with."
    )
    redis_url: str | None = Field(
        None, description="Redis that keeps rows at hand, counts live and tells of events; unset: none."
    )
    redis_prefix: str = Field("dataflow:", description="What its keys and channels begin with.")
    publish_brokers: str | None = Field(
        None, description="Kafka brokers at which all events are published, host:port,...; unset: they are not."
    )
    publish_topic: str = Field("pipeline-events", description="The topic they are published to.")
    keep_minutes: Seconds = Field(7 * DAY, ge=0, description="How long metrics by minute are kept; 0: for ever.")
    keep_hours: Seconds = Field(400 * DAY, ge=0, description="How long metrics by hour are kept; 0: for ever.")
    keep_audit: Seconds = Field(
        0, ge=0, description="How long rows of the audit log are kept; 0: for ever. The journal keeps all."
    )
    inbox_url: str = Field(
        "",
        description="URL of the inbox of pushed records, sqlite: or postgresql:; unset: the journal's database where "
        "that is PostgreSQL, otherwise SQLite in `home`. Every worker must reach it.",
    )
    api_host: str = Field("127.0.0.1", min_length=1, description="Address the API listens on.")
    api_port: Port = Field(8080, description="Port of the API and the dashboard; 0: any free one.")
    metrics_port: Port = Field(9095, description="Port of the Prometheus metrics; 0: any free one.")
    heartbeat_timeout: Seconds = Field(
        8.0, ge=1, le=600, description="A worker silent for this long is taken for lost, its segment runs elsewhere."
    )
    start_patience: Seconds = Field(
        300.0,
        ge=0,
        description="How long what stays (worker, up, projector run) waits at its start for a Temporal or a journal "
        "that is not there yet; 0: it ends at once.",
    )
    segment_min: Seconds = Field(10.0, gt=0, le=3600, description="Length of a pipeline's first segments.")
    segment_max: Seconds = Field(60.0, gt=0, le=3600, description="Length of segments in a steady stream.")
    worker_processes: int = Field(
        1, ge=1, le=256, description="Processes of a worker that move data; one uses about two processors."
    )
    worker_segments: int = Field(100, ge=1, le=10_000, description="Segments that one worker runs at once.")
    worker_cache: int = Field(1000, ge=0, description="Idle pipelines that one worker keeps in memory.")
    worker_report: Seconds = Field(
        60.0,
        ge=1,
        le=3600,
        description="How often a worker reports its load; silent for three times as long it is gone.",
    )
    pipeline_report: Seconds = Field(
        30.0, ge=1, le=3600, description="How often a worker reports which pipelines it has heard of or runs."
    )
    admission: Literal["queue", "refuse", "off"] = Field(
        "queue", description="What becomes of a start beyond the limits that follow; off: they are not asked for."
    )
    max_pipelines_per_worker: int = Field(100, ge=1, description="Pipelines that run at once, for each worker.")
    max_cpu_percent: float = Field(80.0, gt=0, description="CPU that pipelines may take of each machine, in percent.")
    max_memory_mb: int = Field(80_000, ge=1, description="Memory that all pipelines may take together, in MB.")
    pipeline_cpu_percent: float = Field(
        0.8, ge=0, description="What a pipeline takes that does not say `resources.cpu_percent`."
    )
    pipeline_memory_mb: int = Field(64, ge=0, description="What a pipeline takes that does not say `resources.memory`.")
    admission_measured: bool = Field(
        False, description="Whether what workers measure counts where it is more than what their pipelines take."
    )
    max_pipelines_per_group: int = Field(0, ge=0, description="Pipelines of one group that run at once; 0: any number.")
    group_slots: dict[str, int] = Field(default_factory=dict, description="The same for single groups, by name.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_json: bool = Field(False, description="Log lines as JSON objects.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read environment and file. Raises `InvalidSpec` naming the variable or key of every bad value."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise InvalidSpec([_problem(cls, detail) for detail in error.errors()]) from None
        except tomllib.TOMLDecodeError as error:
            raise InvalidSpec([Problem(str(FILE), f"not TOML: {error}", code="syntax")]) from None

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("temporal_address")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is None:
            return None
        host, colon, port = value.rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"{value!r} is not host:port, such as 127.0.0.1:7233")
        return value

    @field_validator("home", "temporal_binary")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.segment_min > self.segment_max:
            raise ValueError(f"segment_min ({self.segment_min:g} s) is more than segment_max ({self.segment_max:g} s)")
        if not self.journal_url:
            # Frozen for everyone else; this is still construction.
            object.__setattr__(self, "journal_url", f"sqlite:///{self.home / 'journal.db'}")
        if not self.readmodel_url:
            object.__setattr__(self, "readmodel_url", f"sqlite:///{self.home / 'readmodels.db'}")
        if not self.inbox_url:
            shared = self.journal_url.startswith("postgresql")
            object.__setattr__(self, "inbox_url", self.journal_url if shared else f"sqlite:///{self.home / 'inbox.db'}")
        return self

    @property
    def limits(self) -> Limits:
        """What the coordinator is told of these settings."""
        return Limits(
            when_full=WhenFull.REFUSE if self.admission == "refuse" else WhenFull.QUEUE,
            pipelines_per_worker=self.max_pipelines_per_worker,
            cpu_percent=self.max_cpu_percent,
            memory_mb=self.max_memory_mb,
            pipeline_cpu_percent=self.pipeline_cpu_percent,
            pipeline_memory_mb=self.pipeline_memory_mb,
            measured=self.admission_measured,
            group_slots=self.group_slots,
            slots_per_group=self.max_pipelines_per_group,
            silent_seconds=3 * self.worker_report,
        )

    @property
    def advice(self) -> tuple[str, ...]:
        """What is allowed and will not do what it should, for people."""
        one_machine = self.inbox_url.startswith("sqlite")
        if one_machine and self.journal_url.partition(":")[0].partition("+")[0] in ("cassandra", "postgresql"):
            return (
                f"inbox_url is {self.inbox_url}, a file of this machine, and the journal is not: workers on other "
                "machines do not see what is pushed here; set inbox_url to a PostgreSQL that all of them reach",
            )
        return ()

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.home / "logs"


def _problem(cls: type[Settings], detail: Any) -> Problem:
    """One validation error, under the name its value was given by."""
    key = str(detail["loc"][0]) if detail["loc"] else ""
    variable = PREFIX + key.upper()
    if not key:
        path = "settings"
    elif variable in os.environ:
        path = variable
    else:
        path = f"{FILE}: {key}" if FILE.exists() else key
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, cls.model_fields, n=1)
        return Problem(path, "unknown setting", code="unknown_key", hint=f"did you mean {near[0]}?" if near else "")
    return Problem(path, detail["msg"].removeprefix("Value error, "), code=detail["type"])
