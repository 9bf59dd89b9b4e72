"""The seams of a pipeline: Source, Transform, Sink, LaneWriter. Read this file first.

Rows travel as Polars data frames, which are Arrow memory: columns keep their types (64-bit integers stay integers,
NULL stays NULL, structs and lists stay nested) and cross to any Arrow library without a copy.

Constructors are pure: they check nothing outside themselves and connect to nothing. `async with` acquires and
releases. A component raises the errors of `dataflow.errors` and no others for what it foresees: `Retryable` where a
later call may succeed, `Rejected` where it cannot, `Fenced` where another attempt took over, `Corrupt` where an
invariant is broken. Blocking work runs in threads inside the component (`asyncio.to_thread`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import polars as pl

from dataflow.domain.flow import Delivery, Lane, OnRecord, Position, Receipt
from dataflow.domain.state import Rewind

REJECTS = pl.Schema(
    {"stage": pl.String, "code": pl.String, "message": pl.String, "where": pl.String, "record": pl.String}
)
"""Columns of rejected records: the stage that refused it (`source`, `transforms[0]`, `sink`), a stable code, a message
for people, where it came from (`orders.csv:17`), and the record itself (raw text, or its row as one JSON object)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a component may know of the run it belongs to."""

    pipeline: str
    generation: int = 1
    base: Path = field(default_factory=Path)  # relative paths of the definition start here
    home: Path = field(default_factory=lambda: Path(".dataflow"))  # where the platform keeps its data
    on_record: OnRecord = OnRecord.DEAD_LETTER
    parallelism: int = 1
    inbox: str = ""  # URL of the inbox; empty: the file inbox.db in `home`
    chunk_rows: int | None = None  # a source's chunks hold about this many rows at most, so that epochs can be as small
    timeout: float = 30.0  # seconds for one call to an external system, where the component's options say nothing else
    interval: float = 1.0  # seconds that an epoch lasts at most before it commits
    rewind: Rewind | None = None  # what stays of the generation before, and where this one began
    begins: bool = False  # the generation does: by the journal, no sink can have a receipt of it
    dead_letters: Path | None = None  # folder for dead letters, where the definition names one


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a source found when the run was planned. Pinned: the whole generation is read under it.

    `schema` is what `read` yields. `pin` is opaque JSON text of the source's own (inferred types, sample facts, names;
    under 100 kB: it lives in the workflow's state). `total_bytes` or `total_rows` are for progress, None where endless.
    """

    splits: Sequence[str]
    schema: pl.Schema
    pin: str = "{}"
    total_bytes: int | None = None
    total_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows, and where to resume once they are safe. Rows may be none: positions move alone too.

    `rejected` has the columns of `REJECTS`; `bytes_read` counts the input bytes behind this chunk. `caught_up`: behind
    it the source had nothing when it read it. An endless source that says so is left alone for a while, so that what
    trickles in comes in few chunks; it should not read ahead meanwhile.
    """

    rows: pl.DataFrame
    resume: Position
    rejected: pl.DataFrame | None = None
    bytes_read: int = 0
    caught_up: bool = False


class Source(Protocol):
    """Where rows come from, cut into splits: each read in order, all read in parallel."""

    bounded: bool

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def discover(self) -> Discovery:
        """Look at what there is: name the splits, infer and pin the schema. A split's name means the same rows always.

        Raises `Rejected` (NOT_FOUND, EMPTY where a schema cannot be had, ...) or `Retryable`."""

    def read(
        self, split: str, start: Position | None, *, pin: str, columns: Sequence[str] | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """Yield chunks from `start`, or from the first row; return when a bounded split ends.

        Reading again from any `resume` it yielded gives exactly the rows that followed it, chunked as it likes.
        `columns` (a subset of the pinned schema) is a permission to leave out the others, not a duty. A chunk holds
        some tens of megabytes at most. The generator is closed (`aclose`) when the epoch loop has enough."""
        ...

    async def settle(self, split: str, upto: Position) -> None:
        """Upstream may forget rows before `upto`. A hint: repeatable, late, perhaps never."""


@runtime_checkable
class Growing(Protocol):
    """A source whose splits may become more while it is read. Asked at the end of every segment."""

    async def grown(self, pin: str) -> Discovery | None:
        """What there is by now, under the same pin: the splits of `pin`, unchanged, and those that have been added;
        None where none have. Raises like `discover`, and where a split of `pin` is not there any more."""


@runtime_checkable
class Lagging(Protocol):
    """A source that knows how much is still to be read."""

    def lag(self, positions: Mapping[str, Position]) -> Mapping[str, int]:
        """Rows, as the source counts them, between each of these positions and the end of its split, as it was seen at
        most some seconds ago. Splits of which nothing is known are left out. Called often: it asks nobody."""


@runtime_checkable
class Probing(Protocol):
    """A source or sink that can tell whether the system behind it serves."""

    async def probe(self) -> str:
        """Ask for what this component needs there, and change nothing. A line for people; raises `Retryable` where the
        system does not answer, `Rejected` where it refuses or lacks something."""


@runtime_checkable
class Locating(Protocol):
    """A source that can be told where to begin: by a number it counts in, or by a time."""

    async def locate(self, split: str, place: int | datetime, *, pin: str) -> Position:
        """The position of that split before the record of that number, or before the first one at or after that time
        (aware). Raises `Rejected` (LOST_OFFSETS, OUT_OF_RANGE, ...) where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Applied:
    """What goes on; what became an error (columns of `REJECTS`); how many rows were filtered out, and the net number
    of rows added. rows_in + expanded == rows_out + filtered + len(rejected)."""

    rows: pl.DataFrame
    rejected: pl.DataFrame | None = None
    filtered: int = 0
    expanded: int = 0


class Transform(Protocol):
    """A pure function of one batch: no clock, no network, no memory between calls. Runs in a thread."""

    on_error: OnRecord | None  # None: as the pipeline says

    def bind(self, schema: pl.Schema) -> pl.Schema:
        """Check the configuration against the incoming columns and compile it, once. Returns the outgoing schema.

        Raises `InvalidSpec` whose problem paths are relative to the transform (`where`, `set.total`), with line and
        column inside the expression's own text where they are known."""

    @property
    def fallible(self) -> bool:
        """Whether a record can be refused here, as far as is known after `bind`. A dead letter then has to hold the
        whole row, so no column of it may be left out before."""
        ...

    def needs(self, columns: frozenset[str]) -> frozenset[str]:
        """Which incoming columns matter, when only `columns` of the outgoing ones are wanted downstream."""

    def apply(self, rows: pl.DataFrame) -> Applied: ...


class LaneWriter(Protocol):
    """One attempt at one lane, epoch after epoch. Nothing it is given is visible before `commit`.

    Opened by `Sink.open`; opening fences earlier attempts where the medium can, and rolls a half-published commit
    forward. Leaving the context without `commit` discards the open epoch and nothing else."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def last_receipt(self) -> Receipt | None:
        """The newest committed receipt of this lane and generation, read after fencing."""

    async def write(self, rows: pl.DataFrame) -> None:
        """Add rows to the open epoch."""

    async def reject(self, rejected: pl.DataFrame) -> None:
        """Add dead letters (columns of `REJECTS`) to the open epoch."""

    async def commit(self, receipt: Receipt) -> None:
        """Show rows, dead letters and receipt in one act, if the lane's last epoch is `receipt.epoch - 1`, else raise
        `Fenced`. An error other than `Fenced` leaves the outcome open: the next attempt finds out by `last_receipt`.
        After a commit the writer takes the next epoch."""


class Sink(Protocol):
    """Where rows go. It remembers, beside them, the last receipt of every lane."""

    delivery: Delivery
    max_lanes: int | None  # None: any number

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        """Once per generation, before the first epoch, repeatable: check that the rows can be written there at all
        (`Rejected`), make room, replace what an earlier generation of the same pipeline left behind. Where
        `context.rewind` is set, what it keeps of that stays."""

    def open(self, lane: Lane, schema: pl.Schema) -> LaneWriter: ...

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        """All lanes have ended: publish what only a whole run can show (a single file). Repeatable.
        Returns a small JSON summary for people: paths, files, bytes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that contradicts the promise, and where: `out/part-g1-sink-0-00000007-000.parquet`, `orders[2]@17`."""

    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Commit:
    """What an epoch left in a sink. `id` is the sink's own name for it; `rows` were counted there."""

    id: str
    epoch: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneAudit:
    """What a sink holds of one lane. `rows` and `dead_letters` are counted in the output itself, not taken from a
    receipt; None where they cannot be. `commits` are those that can be told apart, in order, with all of `rows`."""

    receipt: Receipt | None
    rows: int | None
    dead_letters: int | None
    commits: Sequence[Commit] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a sink holds, lane by lane. `faults` contradict the sink's own records; `open` says what cannot be counted,
    and why; `unfinished` what `complete` has yet to publish ("": nothing)."""

    lanes: Mapping[str, LaneAudit]
    faults: Sequence[Fault] = ()
    open: Sequence[str] = ()
    unfinished: str = ""


@runtime_checkable
class Auditable(Protocol):
    """A sink that can be counted afterwards. Optional: without it a proof rests on the journal alone."""

    async def audit(self, lanes: Sequence[Lane]) -> Audit:
        """Look, and change nothing: no attempt is fenced. Under a pipeline that moves, receipts and rows are of
        different moments; who asks looks again. Raises `Retryable` or `Rejected` where it cannot be looked at."""
        ...


@runtime_checkable
class Ordered(Protocol):
    """A source that can say which of two positions comes first. Optional."""

    def precedes(self, split: str, one: Position, other: Position) -> bool:
        """Whether `one` lies before `other` in that split. Raises `Corrupt` for what is no position."""
        ...
