"""`dataflow run` as people run it: a process of its own, a real Temporal, files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from dataflow.embedded.temporal import Address

EXAMPLES = Path(__file__).parents[3] / "examples"

pytestmark = pytest.mark.temporal


@dataclass
class Shell:
    """Runs commands in a folder, against the shared server, on a task queue of its own."""

    folder: Path
    environ: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "dataflow.cli", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=120
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def shell(temporal: Address, tmp_path: Path) -> Shell:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DATAFLOW_")}
    environ |= {
        "DATAFLOW_HOME": str(tmp_path / "home"),
        "DATAFLOW_TEMPORAL_ADDRESS": temporal.target,
        "DATAFLOW_TASK_QUEUE": f"cli-{uuid4()}",
    }
    return Shell(tmp_path, environ)


def result(done: subprocess.CompletedProcess[str], code: int) -> dict[str, Any]:
    assert done.returncode == code, done.stderr
    assert done.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_example_from_its_file_to_its_end(shell: Shell) -> None:
    """Run it, run it again, change it, run it anew: DESIGN 7."""
    shutil.copytree(EXAMPLES / "data", shell.folder / "data")
    name = f"orders-{uuid4()}"
    file = shell.folder / "orders.yaml"
    file.write_text((EXAMPLES / "eu-orders.yaml").read_text().replace("eu-orders ", f"{name} ", 1))
    orders = pl.read_csv(shell.folder / "data" / "orders.csv")
    kept = orders.filter((pl.col("amount") > 50) & (pl.col("country") != "US"))

    first = result(shell.run("run", "orders.yaml", "--json"), 0)
    assert (first["pipeline_id"], first["status"], first["generation"]) == (name, "completed", 1)
    assert (first["records_read"], first["records_written"]) == (orders.height, kept.height)
    assert first["records_filtered"] == orders.height - kept.height and first["epochs"] >= 1
    written = pl.read_parquet(shell.folder / "out" / "orders")
    assert written.height == kept.height
    assert written["total"].sum() == pytest.approx((kept["amount"] * kept["quantity"]).sum())
    assert "at" in written.columns and "note" not in written.columns

    again = shell.run("run", "orders.yaml")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert f"{name}: completed" in again.stdout

    file.write_text(file.read_text().replace("amount > 50", "amount > 100"))
    changed = shell.run("run", "orders.yaml", "--json")
    assert "its file has changed" in changed.stderr
    second = result(changed, 0)
    dear = kept.filter(pl.col("amount") > 100).height
    assert (second["generation"], second["records_written"]) == (2, dear)
    assert pl.read_parquet(shell.folder / "out" / "orders").height == dear

    third = result(shell.run("run", "orders.yaml", "--again", "--json"), 0)
    assert (third["generation"], third["records_written"]) == (3, dear)
    events = json.loads(shell.run("events", name, "--json").stdout)["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert sum(event["type"] == "PipelineCompleted" for event in events) == 3


def test_ctrl_c_stops_and_the_same_command_goes_on(shell: Shell) -> None:
    name = f"slow-{uuid4()}"
    (shell.folder / "slow.yaml").write_text(
        f"name: {name}\n"
        "source: {type: generator, kind: order, rows: 60000, rate: 10000, seed: 1}\n"
        "sink: {type: file, path: out/slow, format: csv}\n"
        "checkpoint: {interval: 200ms}\n"
    )
    running = shell.start("run", "slow.yaml", "--json")
    assert running.stdout and running.stderr
    for line in running.stderr:
        if re.search(r"[1-9]\d* epoch", line):
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    stopped = json.loads(out)
    assert stopped["status"] == "stopped" and 0 < stopped["records_read"] < 60_000

    finished = result(shell.run("run", "slow.yaml", "--json"), 0)
    assert (finished["status"], finished["records_read"], finished["records_written"]) == ("completed", 60_000, 60_000)
    written = pl.read_csv(shell.folder / "out" / "slow" / "*.csv")
    assert written.height == 60_000 and written["order_id"].n_unique() == 60_000


def test_a_failed_run_is_exit_1_and_says_why(shell: Shell) -> None:
    (shell.folder / "fail.yaml").write_text(
        f"name: fail-{uuid4()}\n"
        "source: {type: generator, kind: order, rows: 1000, seed: 1}\n"
        'transforms: [{type: map, set: {n: "CAST(note AS INTEGER)"}}]\n'
        "sink: {type: file, path: out.csv}\n"
        "errors: {on_record: fail}\n"
    )
    failed = result(shell.run("run", "fail.yaml", "--json"), 1)
    assert failed["status"] == "failed" and failed["error"]["part"] == "transform" and failed["error"]["message"]
    assert not (shell.folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("example", "read", "written", "failed", "outputs"),
    [
        ("hello", 5, 5, 0, []),
        ("fan-out", 3000, 1376, 0, ["fan-out/archive", "fan-out/dear.csv", "fan-out/germany.jsonl.gz"]),
        ("quality", 200, 194, 4, ["quality.csv"]),
        ("multi-format", 200, 341, 0, ["items.csv.gz"]),
    ],
)
def test_every_example_runs(
    shell: Shell, example: str, read: int, written: int, failed: int, outputs: list[str]
) -> None:
    """With `eu-orders` above these are all of them."""
    shutil.copytree(EXAMPLES / "data", shell.folder / "data")
    text = (EXAMPLES / f"{example}.yaml").read_text().replace(f"name: {example}", f"name: {example}-{uuid4()}", 1)
    (shell.folder / "example.yaml").write_text(text)
    found = result(shell.run("run", "example.yaml", "--json"), 0)
    assert (found["records_read"], found["records_written"], found["records_failed"]) == (read, written, failed)
    assert found["records_dead_lettered"] == failed
    assert [path for path in outputs if not (shell.folder / "out" / path).exists()] == []


def test_no_example_is_forgotten() -> None:
    tested = {"eu-orders", "hello", "fan-out", "quality", "multi-format"}
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == tested
