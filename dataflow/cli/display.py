"""Progress on standard error: a live line on a terminal, a plain line about once a second elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from dataflow.cli.result import count

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from dataflow.sdk.progress import Progress

WINDOW = 3.0
"""Seconds that the shown rate is taken over."""


class Display(Protocol):
    """Where `run` tells how it goes."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """Something to know, once."""

    def update(self, progress: Progress) -> None:
        """How far it is now."""


def display(console: Console) -> Display:
    """The display that fits where standard error goes."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class Rate:
    """Rows per second over the last `WINDOW` seconds, from cumulative counts. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, total: int) -> float:
        now = self._clock()
        self._seen.append((now, total))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()
        then, before = self._seen[0]
        return max(0, total - before) / (now - then) if now > then else 0.0


class PlainDisplay:
    """Lines for logs and pipes: at most one a second, and none where nothing has changed."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._rate = Rate(clock)
        self._last = clock()  # what is over within a second needs no line
        self._told = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, progress: Progress) -> None:
        rate = self._rate(progress.counters.read)
        figures = told(progress)
        if self._clock() - self._last < 1.0 or figures == self._told:
            return
        self._last, self._told = self._clock(), figures
        self.note(f"{progress.state.pipeline_id}: {figures}, {rate:,.0f} rows/s")


class LiveDisplay:
    """One line that changes in place, a bar before it where the end is known; notes scroll by above it."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = console
        self._rate = Rate()
        self._begun: float | None = None
        self._live = Live(Spinner("dots", "starting"), console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, progress: Progress) -> None:
        self._begun = self._begun or time.monotonic()
        rate = self._rate(progress.counters.read)
        self._live.update(live_line(progress, rate, time.monotonic() - self._begun))


def live_line(progress: Progress, rate: float, seconds: float) -> RenderableType:
    """The live line: name, bar, figures, rate, time, and what is being waited for."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2))
    cells: list[RenderableType] = [Text(progress.state.pipeline_id, style="bold", no_wrap=True, overflow="ellipsis")]
    if progress.fraction is not None:
        cells.append(ProgressBar(total=1.0, completed=progress.fraction, width=24))
    cells.append(Text(told(progress)))
    cells.append(Text(f"{rate:,.0f} rows/s", style="cyan", no_wrap=True))
    cells.append(Text(f"{seconds:.1f} s", style="dim", no_wrap=True))
    line.add_row(*cells)
    return line


def told(progress: Progress) -> str:
    """The figures of a pipeline: `63 %, 1,234 of 2,000 rows, 12 epochs, 3 dead letters`."""
    counters, state = progress.counters, progress.state
    if not counters.read and not progress.epochs and not state.retry_count and state.status == "running":
        return "no rows yet"
    percent = f"{progress.fraction:.0%}, " if progress.fraction is not None else ""
    rows = f"{counters.read:,}" + (f" of {progress.total_rows:,}" if progress.total_rows else "") + " rows"
    parts = [f"{percent}{rows}", count(progress.epochs, "epoch"), count(counters.dead_lettered, "dead letter")]
    if state.status != "running":
        parts.insert(0, str(state.status))
    elif state.retry_count and state.error:
        parts.append(f"retry {state.retry_count} after {state.error.code}: {state.error.message}")
    return ", ".join(parts)
