"""The main job: CSV to filter to map to Parquet by `dataflow run`, beside plain Polars streaming doing the same work.

    python -m bench main_job [--rows 5000000] [--repetitions 5] [--level 3] [--big]

Each repetition runs `dataflow`, `polars` and `polars` again (the control: how far two runs of the same thing differ),
interleaved and in turn, each in a process of its own over the same warm file. Each side compresses as it does when not
told how; `--level` sets one level of Zstandard for all. Four times are compared with Polars' own
from scan to sink: `segments`, the work on the data, with every commit; `pipeline`, from the event of the start to that
of the completion (planning, scheduling, the journal); `seconds`, what the command waited for it; `wall`, the whole
process, with start-up. Every output is compared with what DuckDB finds in the CSV. `--big` also runs DataFlow over ten
times the rows: its memory should be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from bench.measure import Weighed, gone, keep, settled, spread, table, weigh
from bench.orders import orders_csv

PEERS = ("dataflow", "polars", "polars again")

POLARS = """
import json, sys, time
import polars as pl
begun = time.perf_counter()
(
    pl.scan_csv(sys.argv[1])
    .filter((pl.col("amount") > 50) & (pl.col("country") != "US"))
    .with_columns(total=pl.col("amount") * pl.col("quantity"))
    .drop("note")
    .sink_parquet(sys.argv[2], compression="zstd", compression_level=json.loads(sys.argv[3]))
)
print(time.perf_counter() - begun)
"""

PIPELINE = """
name: bench-main-job
source: {{type: file, path: {source}, format: csv}}
transforms:
  - {{type: filter, where: "amount > 50 AND country <> 'US'"}}
  - {{type: map, set: {{total: "amount * quantity"}}, drop: [note]}}
sink: {{type: file, path: out, format: parquet, compression: zstd, compression_level: {level}}}
"""

FACTS = "count(*), sum(order_id), sum(customer_id), sum(quantity), round(sum(amount), 2), round(sum({total}), 1)"


def expected(source: Path) -> tuple[Any, ...]:
    """What an independent reader finds in the CSV."""
    query = f"""
        SELECT {FACTS.format(total="amount * quantity")}
        FROM read_csv('{source}', header = true, columns = {{order_id: 'BIGINT', customer_id: 'BIGINT', country:
            'VARCHAR', amount: 'DOUBLE', quantity: 'BIGINT', ts: 'BIGINT', note: 'VARCHAR'}})
        WHERE amount > 50 AND country <> 'US'"""
    return _one(query)


def found(output: str) -> tuple[Any, ...]:
    return _one(f"SELECT {FACTS.format(total='total')} FROM read_parquet('{output}')")


def _one(query: str) -> tuple[Any, ...]:
    [row] = duckdb.sql(query).fetchall()
    return tuple(round(value, 1) if isinstance(value, float) else value for value in row)


def run_polars(source: Path, work: Path, level: int | None) -> tuple[Weighed, dict[str, float], str]:
    output = work / "polars.parquet"
    weighed = weigh([sys.executable, "-c", POLARS, str(source), str(output), json.dumps(level)], cwd=work)
    seconds = float(weighed.stdout)
    facts = dict.fromkeys(("segments", "pipeline", "seconds"), seconds)
    return weighed, {**facts, "startup": weighed.wall - seconds}, str(output)


def run_dataflow(source: Path, work: Path, level: int | None, options: str) -> tuple[Weighed, dict[str, float], str]:
    (work / "pipeline.yaml").write_text(PIPELINE.format(source=source, level=json.dumps(level)) + options)
    program = Path(sys.executable).with_name("dataflow")
    env = {"DATAFLOW_HOME": str(work / "home")}
    weighed = weigh([str(program), "run", "pipeline.yaml", "--json"], cwd=work, env=env)
    result = json.loads(weighed.stdout)
    if result["status"] != "completed":
        raise RuntimeError(weighed.stdout)
    events = journal(program, work, env)
    moved = sum(event["payload"]["processing_time_ms"] for event in events if event["type"] == "BatchProcessed")
    times = {event["type"]: datetime.fromisoformat(event["time"]) for event in events}
    facts = {
        "segments": moved / 1000,
        "pipeline": (times["PipelineCompleted"] - times["PipelineStarted"]).total_seconds(),
        "seconds": result["seconds"],
        "startup": weighed.wall - result["seconds"],
        "epochs": result["epochs"],
    }
    return weighed, facts, str(work / "out" / "*.parquet")


def journal(program: Path, work: Path, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every event of the run."""
    command = [str(program), "events", "bench-main-job", "--json", "--limit", "10000"]
    found = subprocess.run(command, cwd=work, env={**os.environ, **env}, capture_output=True, text=True, check=True)
    events: list[dict[str, Any]] = json.loads(found.stdout)["events"]
    return events


def measure(peer: str, source: Path, truth: tuple[Any, ...], *, level: int | None, options: str) -> dict[str, Any]:
    """One run of one peer in an empty folder, checked against the truth."""
    settled()
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_TMP")))
    try:
        if peer == "dataflow":
            weighed, facts, output = run_dataflow(source, work, level, options)
        else:
            weighed, facts, output = run_polars(source, work, level)
        if (got := found(output)) != truth:
            raise RuntimeError(f"{peer}: {got} is not {truth}")
        size = sum(path.stat().st_size for path in Path(output).parent.glob(Path(output).name))
    finally:
        gone(work / "home")
        shutil.rmtree(work)
    return {
        **facts,
        "wall": weighed.wall,
        "cpu": weighed.cpu,
        "main_mib": weighed.main_mib,
        "tree_mib": weighed.tree_mib,
        "foreign": weighed.foreign,
        "output_mib": size / 2**20,
    }


def ratios(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Speed relative to Polars in the same repetition: 1 is as fast, more is faster."""
    base = runs["polars"]
    return {
        f"{peer}: {what}": spread([b[what] / r[what] for b, r in zip(base, runs[peer], strict=True)])
        for peer in PEERS
        if peer != "polars"
        for what in ("segments", "pipeline", "seconds", "wall", "cpu")
    }


def best(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """The same from the quickest run of each side: what is left when others disturbed most of them."""
    polars = min(run["seconds"] for peer in PEERS if peer != "dataflow" for run in runs[peer])
    return {what: polars / min(run[what] for run in runs["dataflow"]) for what in ("segments", "pipeline", "seconds")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--level", type=int, help="of Zstandard, for every side; default: what each takes by itself")
    parser.add_argument("--options", default="", help="YAML lines added to the pipeline: 'checkpoint: {interval: 5s}'")
    parser.add_argument("--big", action="store_true", help="DataFlow over ten times the rows, too")
    asked = parser.parse_args()
    source = orders_csv(asked.rows)
    truth = expected(source)
    print(f"{source.name}: {source.stat().st_size / 2**20:,.0f} MiB, {truth[0]:,} of {asked.rows:,} rows are kept")
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in PEERS}
    for repetition in range(asked.repetitions + 1):
        for turn in range(len(PEERS)):
            peer = PEERS[(repetition + turn) % len(PEERS)]
            run = measure(peer, source, truth, level=asked.level, options=asked.options)
            print(f"  {repetition or 'warm'} {peer:13} {run['segments']:7.2f} s of {run['wall']:.2f} s", flush=True)
            if repetition:  # the first round only warms caches
                runs[peer].append(run)
    report: dict[str, Any] = {
        "rows": asked.rows,
        "level": asked.level,
        "options": asked.options,
        "runs": runs,
        "ratios": ratios(runs),
    }
    columns = ("segments", "pipeline", "seconds", "startup", "wall", "cpu", "main_mib", "tree_mib", "output_mib")
    rows = [[peer, *(spread([run[column] for run in runs[peer]])["median"] for column in columns)] for peer in PEERS]
    print("\n" + table(["median", *columns], rows))
    shown = [[name, *values.values()] for name, values in report["ratios"].items()]
    print("\n" + table(["speed relative to polars", "median", "least", "most"], shown))
    report["best"] = best(runs)
    print("\nthe quickest runs alone: " + ", ".join(f"{what} {value:.2f}" for what, value in report["best"].items()))
    if asked.big:
        large = orders_csv(10 * asked.rows)
        report["big"] = big = measure("dataflow", large, expected(large), level=asked.level, options=asked.options)
        before = spread([run["main_mib"] for run in runs["dataflow"]])["most"]
        print(f"\n{10 * asked.rows:,} rows: {big['seconds']:.1f} s, {big['main_mib']:,.0f} MiB (was {before:,.0f} MiB)")
    print(f"\nkept in {keep('main_job', report)}")


if __name__ == "__main__":
    main()
