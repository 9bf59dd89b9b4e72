"""The database of the read models, and the transaction in which a projection moves: rows and offset together.

SQLite in one file (embedded), or PostgreSQL. Several processes may project at the same time: a transaction begins by
locking the projection's row, and events that are in already are passed over.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from sqlalchemy import Connection, Engine, event, select, update

from dataflow.errors import Corrupt
from dataflow.journal.base import Entry
from dataflow.journal.sql_engine import create_journal_engine, journal_url, translated, writing
from dataflow.journal.sql_statements import time_text
from dataflow.projections.base import following
from dataflow.projections.sql_tables import other, projections

THREADS = 6
WHAT = "the read models' database"

P = ParamSpec("P")
T = TypeVar("T")


class TableModel(Protocol):
    """A read model in tables. `version` rises when the same events give other rows: it is rebuilt then."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def tables(self) -> tuple[str, ...]: ...

    def fold(self, connection: Connection, slot: str, entries: Sequence[Entry], kept_from: Mapping[str, str]) -> None:
        """Take in the events, in this transaction, into the tables of that slot. `kept_from` says of some tables since
        when they have rows: older ones were dropped on purpose, and are not made again."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a model has come. `building` is the position in the tables being built anew, None where none are;
    `building_version` of the code that builds them; `version` of the code that filled the tables that are read;
    `kept_from` as `TableModel.fold` takes it."""

    name: str
    slot: str
    position: int
    event_time: str
    building: int | None
    building_version: int | None
    version: int
    kept_from: Mapping[str, str]


class Store:
    """The database at `url`, to be entered: that brings its schema up to date. It may be entered again while it is
    open, and closes with the last one who leaves. `Rejected` for a URL of another kind."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.where = journal_url(url).render_as_string(hide_password=True)
        self._engine: Engine | None = None
        self._door, self._users = asyncio.Lock(), 0
        # SQLite has one writer at a time and lets the others try again and again: within a process they queue here.
        self._turn = threading.Lock() if self.where.startswith("sqlite") else nullcontext()
        self._stack = ExitStack()
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        async with self._door:
            if not self._users:
                self._stack.callback(self._dispose)
                self._threads = self._stack.enter_context(ThreadPoolExecutor(THREADS, "readmodel"))
                try:
                    await asyncio.get_running_loop().run_in_executor(self._threads, self._open)
                except BaseException:
                    await asyncio.to_thread(self._stack.close)
                    raise
            self._users += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        async with self._door:
            self._users -= 1
            if not self._users:
                await asyncio.to_thread(self._stack.close)

    def _open(self) -> None:
        from migrations import READ_MODELS

        with translated(self.where, WHAT):
            engine = create_journal_engine(self.url, connections=THREADS)
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _no_sync)
            self._engine = engine
            with engine.connect() as connection:
                found = READ_MODELS.current(connection)
            if found != READ_MODELS.head:
                with writing(engine) as connection:
                    READ_MODELS.upgrade(connection)

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    async def read(self, ask: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer of a blocking function over one snapshot of the database."""

        def run() -> T:
            with translated(self.where, WHAT), self._opened.connect() as connection:
                if connection.dialect.name == "postgresql":  # SQLite's transactions see one snapshot anyway
                    connection = connection.execution_options(isolation_level="REPEATABLE READ")
                with connection.begin():
                    return ask(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    async def write(self, act: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer of a blocking function in one transaction that may write."""

        def run() -> T:
            with translated(self.where, WHAT), self._turn, writing(self._opened) as connection:
                return act(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._pool, run)

    @property
    def _opened(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the read models are not open: use the store inside `async with`")
        return self._engine

    @property
    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            raise RuntimeError("the read models are not open: use the store inside `async with`")
        return self._threads


class TableProjection:
    """`Projection` of a table model. Several may share a store, each opening it for itself."""

    def __init__(self, store: Store, model: TableModel) -> None:
        self._store, self.model, self.name = store, model, model.name

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._store.__aexit__(*exc)

    async def position(self) -> int:
        return (await self.place()).position

    async def place(self) -> Place:
        """All that is known of how far it has come."""
        return await self._store.read(place_of, self.name)

    async def apply(self, entries: Sequence[Entry]) -> None:
        await self._store.write(advance, self.model, entries)

    async def apply_building(self, entries: Sequence[Entry]) -> None:
        """As `apply`, into the tables that are being built."""
        await self._store.write(advance, self.model, entries, building=True)


def place_of(connection: Connection, name: str, *, lock: bool = False) -> Place:
    """How far the projection has come; with `lock` it stays there until the transaction ends."""
    asked = select(projections).where(projections.c.name == name)
    row = connection.execute(asked.with_for_update() if lock else asked).mappings().one_or_none()
    if row is None:
        raise Corrupt(f"the read models' database has no place for {name!r}", hint="dataflow migrate up")
    return Place(**{**row, "kept_from": json.loads(row["kept_from"])})


def advance(connection: Connection, model: TableModel, entries: Sequence[Entry], *, building: bool = False) -> None:
    """Take in the events that are new, and move the offset, in one transaction: each event counts exactly once."""
    place = place_of(connection, model.name, lock=True)
    position = place.building if building else place.position
    if position is None:  # what was being built has been finished, or given up, by another process
        return
    new = following(entries, position)
    if not new:
        return
    model.fold(connection, other(place.slot) if building else place.slot, new, place.kept_from)
    last = new[-1]
    moved: dict[str, Any] = {"building": last.position}
    if not building:
        moved = {"position": last.position, "event_time": time_text(last.record.time)}
    connection.execute(update(projections).where(projections.c.name == model.name).values(**moved))


def _no_sync(connection: Any, _record: object) -> None:
    """A read model may lose its last transactions with the power: rows and offset go back together and are made up
    for from the journal. So it need not wait for the disk (SQLite manual, "PRAGMA synchronous": NORMAL with WAL)."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
