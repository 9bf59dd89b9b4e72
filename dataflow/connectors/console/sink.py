"""The console sink: configuration, writer, sink, registration.

A terminal cannot take back what it has shown, nor show it together with a receipt. So an epoch is printed first, then
its receipt is kept under the platform's home: an attempt that dies in between prints the epoch again (at least once);
a restart after the receipt does not.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ParamSpec, Self, TypeVar

import polars as pl
from pydantic import BeforeValidator, Field

from dataflow.components import Component, Config, Kind
from dataflow.connectors.console.ledger import Ledger, first_time, forget_older, keep_letters
from dataflow.connectors.console.output import Colour, Stream, coloured, write
from dataflow.connectors.console.render import Format, Style, render
from dataflow.domain.flow import Counters, Delivery, Lane, Receipt
from dataflow.errors import Rejected, Retryable
from dataflow.seams import Context

Clock = Callable[[], datetime]
Given = ParamSpec("Given")
Result = TypeVar("Result")


def _switch(value: object) -> object:
    """YAML 1.1 readers make booleans of `on` and `off`."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


class ConsoleConfig(Config):
    format: Format = Field(
        Format.COMPACTJSON,
        description="prettyjson, compactjson (a record a line), simple (values, tabs between), table (one for each"
        " epoch), structured (a block for each record), keyvalue (logfmt).",
    )
    stream: Stream = Field(Stream.STDOUT, description="stdout or stderr.")
    colour: Annotated[Colour, BeforeValidator(_switch)] = Field(
        Colour.AUTO, description="auto (on a terminal, unless NO_COLOR is set), on, off."
    )
    show_timestamp: bool = Field(False, description="Show when the epoch was printed, in UTC.")
    show_metadata: bool = Field(False, description="Show pipeline, generation, lane and epoch.")
    max_field_width: int = Field(
        80, ge=1, le=1000, description="Longer values are cut in simple, table, structured and keyvalue; never in JSON."
    )
    print_summary: bool = Field(True, description="At the end, print the totals on stderr.")


async def _in_thread(work: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """Blocking work; errors of the file system as those of the seams. Cancelled, it waits for the thread's end: a
    cut-off attempt must not go on printing behind the next one."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
    except (PermissionError, NotADirectoryError, IsADirectoryError) as failed:
        raise Rejected(f"{failed.strerror}", where=str(failed.filename or "")) from failed
    except OSError as failed:
        code = "RESOURCE_EXHAUSTED" if failed.errno == errno.ENOSPC else None
        raise Retryable(f"cannot keep it: {failed.strerror}", code=code, where=str(failed.filename or "")) from failed


def _now() -> datetime:
    return datetime.now(UTC)


class ConsoleWriter:
    """One attempt at one lane; holds the open epoch's rows in memory until they are printed at commit."""

    def __init__(self, config: ConsoleConfig, lane: Lane, ledger: Ledger, letters: Path, clock: Clock) -> None:
        self._config, self._lane, self._ledger = config, lane, ledger
        self._letters, self._clock = letters, clock
        self._rows: list[pl.DataFrame] = []
        self._rejected: list[pl.DataFrame] = []

    async def __aenter__(self) -> Self:
        await _in_thread(self._ledger.open)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._rows, self._rejected = [], []

    async def last_receipt(self) -> Receipt | None:
        return await _in_thread(self._ledger.last)

    async def write(self, rows: pl.DataFrame) -> None:
        self._rows.append(rows)

    async def reject(self, rejected: pl.DataFrame) -> None:
        self._rejected.append(rejected)

    async def commit(self, receipt: Receipt) -> None:
        rows, self._rows = self._rows, []
        rejected, self._rejected = self._rejected, []
        await _in_thread(self._commit, receipt, rows, rejected)

    def _commit(self, receipt: Receipt, rows: list[pl.DataFrame], rejected: list[pl.DataFrame]) -> None:
        self._ledger.check(receipt)
        if rejected:
            keep_letters(self._letters, self._lane, receipt.epoch, self._ledger.token, rejected)
        if rows:
            whole = pl.concat(rows)
            first = receipt.counters.written - whole.height + 1
            write(render(whole, self._config.format, self._style(receipt), first=max(1, first)), self._config.stream)
        self._ledger.keep(receipt)

    def _style(self, receipt: Receipt) -> Style:
        config = self._config
        about: dict[str, str | int] = {
            "pipeline": receipt.pipeline,
            "generation": receipt.generation,
            "lane": receipt.lane,
            "epoch": receipt.epoch,
        }
        return Style(
            colour=coloured(config.colour, config.stream),
            width=config.max_field_width,
            stamp=self._clock().strftime("%Y-%m-%dT%H:%M:%SZ") if config.show_timestamp else None,
            metadata=about if config.show_metadata else {},
        )


class ConsoleSink:
    """Prints what is committed, lane by lane. `clock` tells the time to show."""

    delivery = Delivery.AT_LEAST_ONCE
    max_lanes: int | None = None

    def __init__(self, config: ConsoleConfig, context: Context, *, clock: Clock = _now) -> None:
        self._config, self._clock = config, clock
        self._root = context.home / "console" / context.pipeline
        named = context.dead_letters
        self._letters = context.base / named if named else context.home / "dead-letters" / context.pipeline
        self._pipeline = context.pipeline

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def prepare(self, schema: pl.Schema, lanes: Sequence[Lane]) -> None:
        """Raises `Rejected` for columns that have no text (Python objects)."""
        for name, dtype in schema.items():
            if dtype == pl.Object:
                raise Rejected(f"column {name!r} holds Python objects, which cannot be shown")
        for generation in {lane.generation for lane in lanes}:
            await _in_thread(forget_older, self._root, self._letters, self._pipeline, generation)

    def open(self, lane: Lane, schema: pl.Schema) -> ConsoleWriter:
        return ConsoleWriter(self._config, lane, Ledger(self._root, lane), self._letters, self._clock)

    async def complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        """`records`, `failed`, `dead_letters`, and the folder of the dead letters where there are any."""
        return await _in_thread(self._complete, lanes)

    def _complete(self, lanes: Sequence[Lane]) -> Mapping[str, Any]:
        receipts = [last for lane in lanes if (last := Ledger(self._root, lane).last())]
        total = sum((receipt.counters for receipt in receipts), Counters())
        summary: dict[str, Any] = {
            "records": total.written,
            "failed": total.failed,
            "dead_letters": total.dead_lettered,
        }
        if total.dead_lettered:
            summary["dead_letter_folder"] = str(self._letters)
        if self._config.print_summary and lanes and first_time(self._root, lanes[0].generation):
            where = f" in {self._letters}" if total.dead_lettered else ""
            letters = f"{total.dead_lettered} dead letters{where}"
            write(f"{total.written} records printed, {total.failed} failed, {letters}\n", Stream.STDERR)
        return summary


SINK = Component(Kind.SINK, "console", ConsoleConfig, ConsoleSink, "Prints records on the terminal, in six formats.")
