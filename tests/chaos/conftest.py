"""A field of battle: a pipeline run by real processes, ways to hurt them, and an independent look at what came out.

`DATAFLOW_CHAOS_SEED` chooses the moments (default: fixed), `DATAFLOW_CHAOS_KILLS` how many there are.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psutil
import pytest

from dataflow.domain.pipeline import fold
from dataflow.domain.record import verify
from dataflow.domain.state import PipelineState
from dataflow.journal import open_journal

SEED = int(os.environ.get("DATAFLOW_CHAOS_SEED", "20261123"))
KILLS = int(os.environ.get("DATAFLOW_CHAOS_KILLS", "10"))


@dataclass
class Field:
    """One pipeline in a folder of its own: `orders.csv` -> filter, map -> `out` (a folder of parts, or one file)."""

    folder: Path
    rows: int = 200_000
    out: str = "out"
    format: str = "parquet"
    random: random.Random = field(default_factory=lambda: random.Random(SEED))
    runs: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        index = pl.int_range(self.rows, eager=True)
        notes = pl.Series(["plain", "rush, please", 'gift "wrap"', "", "two\nlines", "ünï"])
        pl.DataFrame(
            {
                "id": index,
                "amount": (index.hash(1) % 20_000).cast(pl.Float64) / 100,
                "country": pl.Series(["FR", "US", "DE", "JP"]).gather(index.hash(2) % 4),
                "quantity": (index.hash(3) % 9).cast(pl.Int64) + 1,
                "note": notes.gather(index.hash(4) % 6),
            }
        ).write_csv(self.folder / "orders.csv")
        (self.folder / "p.json").write_text(
            json.dumps(
                {
                    "name": "battle",
                    "source": {"type": "file", "path": "orders.csv", "format": "csv"},
                    "transforms": [
                        {"type": "filter", "where": "amount > 50 AND country <> 'US'"},
                        {"type": "map", "set": {"total": "amount * quantity"}},
                    ],
                    "sink": {"type": "file", "path": self.out, "format": self.format},
                    "checkpoint": {"interval": "50ms", "max_rows": 2000},
                }
            )
        )

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATAFLOW_HOME": str(self.home),
            "DATAFLOW_HEARTBEAT_TIMEOUT": "2",
            "DATAFLOW_SEGMENT_MIN": "2",
        }

    def run(self) -> subprocess.Popen[str]:
        """Start `dataflow run` in a session of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "dataflow", "run", str(self.folder / "p.json"), "--json"],
            env=self.environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=(self.folder / f"run-{len(self.runs)}.log").open("w"),
            text=True,
            start_new_session=True,
        )
        self.runs.append(process)
        return process

    def hold_server(self) -> subprocess.Popen[str]:
        """A process that only uses the embedded server, so that it outlives killed runs."""
        code = (
            "import asyncio\nfrom dataflow.embedded.temporal import temporal_server\n"
            "from dataflow.settings import Settings\n"
            "async def main():\n"
            "    async with temporal_server(Settings.load()) as address:\n"
            "        print(address.target, flush=True)\n"
            "        await asyncio.Event().wait()\n"
            "asyncio.run(main())\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        self.runs.append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        """Everything that works for this home: runs, keeper, Temporal server."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if process.pid != os.getpid() and (str(self.home) in words or str(self.folder / "p.json") in words):
                    found.append(process)
        return found

    def server(self) -> psutil.Process | None:
        """The Temporal server itself."""
        for process in self.processes():
            with suppress(psutil.Error):
                if "start-dev" in process.cmdline():
                    return process
        return None

    def kill_everything(self) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        for run in self.runs:
            with suppress(ProcessLookupError):
                run.kill()
            run.wait()

    def committed(self) -> int:
        """Epochs that the sink has committed: the number of its newest commit record."""
        found = [
            int(p.stem)
            for p in self.folder.glob(f".{self.out}.dataflow/battle/g1/*/records/*.json")
            if p.stem.isdigit()
        ]
        return max(found, default=0)

    def wait_for_commits(self, more: int, run: subprocess.Popen[str], limit: float = 180) -> bool:
        """Until `more` epochs were committed since now; False where the run ended before."""
        goal = self.committed() + more
        return self._wait(lambda: self.committed() >= goal, run, limit)

    def wait_for_word(self, run: subprocess.Popen[str], limit: float = 180) -> bool:
        """Until the run has said anything about itself; False where it ended before."""
        log = self.folder / f"run-{self.runs.index(run)}.log"
        return self._wait(lambda: bool(log.read_text()), run, limit)

    def _wait(self, reached: Callable[[], bool], run: subprocess.Popen[str], limit: float) -> bool:
        end = time.monotonic() + limit
        while not reached():
            if run.poll() is not None:
                return False
            assert time.monotonic() < end, f"no progress: {self.logs()}"
            time.sleep(0.01)
        return True

    def finish(self, limit: float = 300) -> dict[str, Any]:
        """One run that nobody hurts."""
        run = self.run()
        out, _ = run.communicate(timeout=limit)
        assert run.returncode == 0, f"exit {run.returncode}: {out} {self.logs()}"
        return dict(json.loads(out))

    def logs(self) -> str:
        """What the last two runs have said, with the exit code and the result of one that has ended."""
        texts = [path.read_text()[-2000:] for path in sorted(self.folder.glob("run-*.log"))[-2:]]
        ended = [run for run in self.runs[-2:] if run.poll() is not None and run.stdout and not run.stdout.closed]
        texts += [f"exit {run.returncode}: {run.stdout.read()[-2000:]}" for run in ended if run.stdout]
        return "\n---\n".join(texts)

    def verify(self) -> None:
        """DuckDB reads input and output on its own and compares them row by row; files, receipts, journal agree."""
        db = duckdb.connect(config={"threads": 1})  # several would mix up the order in which they read
        source = f"read_csv('{self.folder}/orders.csv', header=true)"
        db.execute(
            "create table wanted as select id, amount, country, quantity, coalesce(note, '') note, "
            f"amount * quantity total from {source} where amount > 50 and country <> 'US'"
        )
        path = self.folder / self.out
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        reader = {"parquet": "read_parquet", "jsonl": "read_json", "csv": "read_csv"}[self.format]
        names = ", ".join(f"'{file}'" for file in files)
        db.execute(
            "create table got as select id, amount, country, quantity, coalesce(note, '') note, total "
            f"from {reader}([{names}])"
        )
        count = "select count(*) from (select * from {} except all select * from {})"
        missing = db.execute(count.format("wanted", "got")).fetchone()
        extra = db.execute(count.format("got", "wanted")).fetchone()
        assert (missing, extra) == ((0,), (0,))
        assert db.execute("select list(id) = list_sort(list(id)) from got").fetchone() == (True,)
        assert all(not file.name.startswith(".") for file in files)
        beside = {entry.name for entry in self.folder.iterdir() if not entry.name.startswith("run-")}
        assert beside == {"orders.csv", "p.json", "home", self.out, f".{self.out}.dataflow"}
        asyncio.run(self._verify_journal(int(db.execute("select count(*) from got").fetchone()[0])))  # type: ignore[index]

    async def _verify_journal(self, written: int) -> None:
        async with open_journal(f"sqlite:///{self.home / 'journal.db'}") as journal:
            records = [record async for record in journal.read("battle")]
        assert verify(records) is None
        state = fold(PipelineState.empty("battle"), records)
        assert state.status == "completed"
        (lane,) = state.checkpoint.lanes.values()
        assert lane.counters.read == self.rows
        assert lane.counters.written == written
        newest = max(
            self.folder.glob(f".{self.out}.dataflow/battle/g1/*/records/[0-9]*.json"),
            key=lambda p: p.stem,
            default=None,
        )
        if newest is not None:
            receipt = json.loads(newest.read_text())["receipt"]
            assert (receipt["epoch"], receipt["counters"]["written"]) == (lane.epoch, written)


@pytest.fixture
def battle(tmp_path: Path) -> Iterator[Callable[..., Field]]:
    """Makes fields; whatever still runs in the end is killed."""
    fields: list[Field] = []

    def make(**options: Any) -> Field:
        fields.append(Field(tmp_path, **options))
        return fields[-1]

    yield make
    for made in fields:
        for process in made.processes():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)
        made.kill_everything()
        for run in made.runs:
            if run.stdout:
                run.stdout.close()


@pytest.fixture
def kills() -> int:
    return KILLS
