"""`dataflow run` as people run it: a process of its own, a real Temporal, files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
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


def test_a_lost_journal_is_told_of_and_what_was_written_stays(shell: Shell) -> None:
    """A home that knows nothing neither goes on from an earlier one's receipts unasked, nor tries for ever."""
    text = "name: lost\nsource: {type: generator, rows: 10}\nsink: {type: file, path: out, format: jsonl}\n"
    file = shell.folder / "lost.yaml"
    file.write_text(text)
    environ = {key: value for key, value in shell.environ.items() if key != "DATAFLOW_TEMPORAL_ADDRESS"}

    def run(home: str, *options: str, code: int = 0) -> dict[str, Any]:
        """With a server of its own: the pipeline's workflow is there as long as its journal."""
        newborn = Shell(shell.folder, environ | {"DATAFLOW_HOME": str(shell.folder / home)})
        return result(newborn.run("run", "lost.yaml", "--json", *options), code)

    run("first")
    [written] = (shell.folder / "out").iterdir()
    refused = run("second", code=1)
    assert (refused["status"], refused["error"]["code"]) == ("failed", "CONFLICT")
    assert "another journal" in refused["error"]["message"] and "checkpoint.adopt" in refused["error"]["message"]
    file.write_text(text + "checkpoint: {adopt: true}\n")
    adopted = run("third")
    assert (adopted["records_written"], adopted["epochs"]) == (10, 1)
    assert written.read_text().count("\n") == 10

    file.write_text(text)
    run("first", "--again")
    refused = run("second", code=1)
    assert refused["error"]["code"] == "FENCED" and "DATAFLOW_HOME" in refused["error"]["message"]
    assert [path.read_text().count("\n") for path in (shell.folder / "out").iterdir()] == [10]


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


def test_a_run_that_works_itself_hears_of_its_end(shell: Shell) -> None:
    """With an hour between two looks it ends all the same."""
    (shell.folder / "in.csv").write_text("id\n1\n2\n")
    source, sink = {"type": "file", "path": "in.csv"}, {"type": "file", "path": "out", "format": "csv"}
    (shell.folder / "p.json").write_text(json.dumps({"name": f"ends-{uuid4()}", "source": source, "sink": sink}))
    program = (
        "import sys; from dataflow.cli import looks, main; looks.FIRST = looks.SELDOM = 3600.0;"
        "sys.argv[1:] = ['run', 'p.json', '--json']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shell.folder,
        env=shell.environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result(done, 0)["records_written"] == 2


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


def test_records_are_pushed_from_a_file_and_from_a_pipe(shell: Shell) -> None:
    name = f"cli-{uuid4().hex[:8]}"
    (shell.folder / "p.yaml").write_text(
        f"name: {name}\nsource: {{type: push}}\nsink: {{type: file, path: out, format: jsonl}}\n"
        "checkpoint: {interval: 50ms}\n"
    )
    (shell.folder / "rows.jsonl").write_text("".join(f'{{"id": {n}}}\n\n' for n in range(25)))
    worker = shell.start("worker", "--json")
    try:
        assert worker.stdout and worker.stdout.readline()
        assert shell.run("submit", "p.yaml", "--start").returncode == 0
        for again in (False, True):
            pushed = shell.run("ingest", name, "rows.jsonl", "--batch-size", "10", "--batch-id", "day1")
            assert pushed.returncode == 0, pushed.stderr
            lines = pushed.stdout.splitlines()
            assert [line.split(",")[0] for line in lines] == ["day1/1: 10/0", "day1/2: 10/0", "day1/3: 5/0"]
            assert all(line.endswith("taken before") == again for line in lines)
        piped = subprocess.run(
            shell.command("ingest", name, "-", "--json"),
            cwd=shell.folder,
            env=shell.environ,
            input='{"id": 25}\n',
            capture_output=True,
            text=True,
            timeout=120,
        )
        told = json.loads(piped.stdout)
        assert (told["success_count"], told["failure_count"]) == (1, 0) and told["batches"][0].startswith("sha256:")
        (shell.folder / "bad.jsonl").write_text('{"id": 1}\n[1]\n')
        bad = shell.run("ingest", name, "bad.jsonl")
        assert bad.returncode == 2 and "bad.jsonl:2:1: not a JSON object" in bad.stderr
        assert shell.run("ingest", name, "nowhere.jsonl").returncode == 1
        deadline = time.monotonic() + 60
        while sum(len(p.read_text().splitlines()) for p in (shell.folder / "out").glob("*.jsonl")) < 26:
            assert time.monotonic() < deadline
        assert shell.run("stop", name).returncode == 0
        refused = shell.run("ingest", name, "rows.jsonl", "--batch-id", "late")
        assert refused.returncode == 1 and "is stopped and cannot take batches" in refused.stderr
    finally:
        worker.terminate()
        worker.wait(60)
    found = [json.loads(line)["id"] for p in (shell.folder / "out").glob("*.jsonl") for line in p.open()]
    assert sorted(found) == list(range(26))


def test_a_completed_pipeline_is_taken_back_and_runs_its_range_again(shell: Shell) -> None:
    name = f"cli-{uuid4().hex[:8]}"
    (shell.folder / "in.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(100)))
    (shell.folder / "p.yaml").write_text(
        f"name: {name}\nsource: {{type: file, path: in.csv, format: csv}}\n"
        "sink: {type: file, path: out, format: jsonl}\n"
    )
    assert shell.run("run", "p.yaml").returncode == 0
    events = json.loads(shell.run("events", name, "--json").stdout)["events"]
    planned = next(event["sequence"] for event in events if event["type"] == "PipelinePlanned")
    for wrong, said in (
        (["--to", "soon"], "names nothing to go back to"),
        (["--to", "1", "--to", "2"], "is an event, a time, or split=place"),
        (["--to", "1", "--from-start"], "exclude each other"),
    ):
        refused = shell.run("reset", name, *wrong)
        assert refused.returncode == 2 and said in refused.stderr, refused.stderr
    worker = shell.start("worker", "--json")
    try:
        assert worker.stdout and worker.stdout.readline()
        back = shell.run("reset", name, "--to", str(planned))
        assert back.returncode == 0, back.stderr
    finally:
        worker.terminate()
        worker.wait(60)
    done = shell.run("run", "p.yaml", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["generation"], told["records_read"]) == (2, 100)
    found = [json.loads(line)["id"] for p in (shell.folder / "out").glob("*.jsonl") for line in p.open()]
    assert sorted(found) == list(range(100))
