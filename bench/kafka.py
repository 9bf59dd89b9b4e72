"""Kafka to filter to map to Kafka, exactly once, 1 s epochs: `dataflow run` beside Kafka Streams and Flink SQL.

    python -m bench kafka [--rows 5000000] [--repetitions 3] [--peers dataflow streams flink] [--processes N]
    python -m bench kafka --latency [--commit-ms 100] [--rate 5000]

All on one broker, 4 partitions, JSON of 136 bytes, interleaved and in turn. `dataflow again` is the control: how far
two runs of the same thing differ. A run's time is from its start to the moment its last commit became visible: start-up
is part of it. Then every record of the output is compared with the order it was made from, by a reader in Java that
shares no code with us.

`--latency` writes orders at a steady rate and measures from a record's stamp to its arrival at a read_committed reader.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.measure import gone, keep, settled, spread, table
from bench.peer import Running, built, java

PARTITIONS = 4
CORES = os.cpu_count() or 1
SERVERS = Path(__file__).parent.parent / "docker" / "local"
ROOT = Path(__file__).parent / "data" / "servers"
PATIENCE = 300.0

# Each run has a pipeline of its own: the receipts of another one under the same name, which stay with the broker, would
# tell it that the input has been read already.
PIPELINE = """
name: bench-{output}
source:
  type: kafka
  brokers: {brokers}
  topic: {input}
  columns: {{order_id: TEXT, customer_id: BIGINT, country: TEXT, amount: DOUBLE, quantity: BIGINT, ts: BIGINT}}
{until}
transforms:
  - {{type: filter, where: "amount > 50 AND country <> 'US'"}}
  - {{type: map, set: {{total: "amount * quantity"}}}}
sink: {{type: kafka, brokers: {brokers}, topic: {output}, key: customer_id}}
checkpoint: {{interval: {commit_ms}ms}}
parallelism: {lanes}
"""


@dataclass(frozen=True)
class Broker:
    address: str
    pid: int

    @classmethod
    def up(cls) -> Broker:
        """The broker of `docker/local`, under bench/data; left running for the next run (`down` stops it)."""
        command = [sys.executable, str(SERVERS)]
        env = {**os.environ, "DATAFLOW_KAFKA_HEAP": "1g"}
        subprocess.run([*command, "up", "kafka", "--free", "--root", str(ROOT)], check=True, env=env)
        text = subprocess.run(
            [*command, "env", "--root", str(ROOT)], check=True, env=env, capture_output=True, text=True
        ).stdout
        [address] = [line.split("=")[1] for line in text.splitlines() if "KAFKA_BROKERS" in line]
        port = int(address.rpartition(":")[2])
        [pid] = {
            c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port and c.pid
        }
        return cls(address, pid)

    def cpu(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


def loaded(broker: Broker, tools: Path, rows: int) -> str:
    """The topic with that many orders; made where it is not there yet."""
    topic = f"orders-{rows}"
    done = ROOT / "kafka" / f"{topic}.loaded"
    if not done.exists():
        topic_and_count = (topic, PARTITIONS, rows)
        subprocess.run(java(tools, "Load", broker.address, *topic_and_count), check=True)
        done.touch()
    return topic


def expected(tools: Path, broker: Broker, output: str, rows: int) -> dict[str, int]:
    """What the independent reader finds: records, missing, duplicates, wrong. Deletes the topic."""
    command = java(tools, "Check", broker.address, output, PARTITIONS, rows)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(zip(("records", "missing", "duplicates", "wrong"), map(int, text.split()), strict=True))


def start(
    peer: str, broker: Broker, names: Mapping[str, str], work: Path, commit_ms: int, options: argparse.Namespace
) -> Running:
    env = {
        "KAFKA": broker.address,
        "IN_TOPIC": names["input"],
        "OUT_TOPIC": names["output"],
        "GROUP": names["output"],
        "STATE": str(work / "state"),
        "COMMIT_MS": str(commit_ms),
        "LINGER_MS": "20" if commit_ms >= 1000 else "5",
        "CORES": str(CORES),
        "DATAFLOW_HOME": str(work / "home"),
    }
    (work / "state").mkdir()
    if peer == "streams":
        command = java(built("kafka"), "Streams", options=["-Xmx1g"])
    elif peer == "flink":
        opens = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("util", "lang", "time")]
        command = java(built("flink"), "Sql", options=["-Xmx1g", "-XX:MaxDirectMemorySize=512m", *opens])
    else:
        text = PIPELINE.format(
            brokers=broker.address,
            **names,
            until="  until: end" if options.rows else "",
            commit_ms=commit_ms,
            lanes=options.lanes,
        )
        (work / "pipeline.yaml").write_text(text)
        command = [str(Path(sys.executable).with_name("dataflow")), "run", "pipeline.yaml", "--json"]
        command += ["--processes", str(options.processes)] if options.processes else []
    return Running(command, cwd=work, env=env, log=work / "log")


def awaited(tool: subprocess.Popen[str], running: Running, peer: str) -> str:
    """What the tool prints until it ends. Raises RuntimeError with the peer's output where the peer fails meanwhile, or
    nothing comes of it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return tool.communicate(timeout=1)[0]
        except subprocess.TimeoutExpired:
            status = running.process.poll()
            if status or time.monotonic() > deadline:
                said = f"ended with {status}" if status else f"has not come to an end within {PATIENCE:g} s"
                raise RuntimeError(f"{peer} {said}: {running.log.read_text()[-3000:]}") from None


def throughput(peer: str, broker: Broker, tools: Path, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run of one peer, checked."""
    settled()
    output = f"out-{uuid.uuid4().hex[:8]}"
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_TMP")))
    watching = java(tools, "Watch", broker.address, output, PARTITIONS, rows, 2500, options=["-Xmx128m"])
    watch = subprocess.Popen(watching, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    try:
        watch.stdout.readline()
        before = broker.cpu()
        peer_run = start(peer, broker, {"input": f"orders-{rows}", "output": output}, work, 1000, options)
        try:
            text = awaited(watch, peer_run, peer)
        finally:
            spent = peer_run.end()
        commits = [tuple(map(int, line.split())) for line in text.splitlines()]
        if not commits:
            raise RuntimeError(f"{peer} has committed nothing: {peer_run.log.read_text()[-3000:]}")
        wall = commits[-1][0] / 1000 - peer_run.begun
        first = commits[0][0] / 1000 - peer_run.begun
        found = expected(tools, broker, output, rows)
        if found["missing"] or found["duplicates"] or found["wrong"]:
            raise RuntimeError(f"{peer}: {found}")
        between = (commits[-1][1] - commits[0][1]) / commits[-1][1] * rows / max(1e-9, wall - first)
        return {
            "wall": wall,
            "rate": rows / wall,
            "first": first,
            "commits": len(commits),
            "between": between if len(commits) > 3 else 0.0,
            "cpu": spent.cpu,
            "mib": spent.mib,
            "broker": broker.cpu() - before,
        }
    finally:
        watch.kill()
        gone(work / "home")
        shutil.rmtree(work)


def latency(peer: str, broker: Broker, tools: Path, commit_ms: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run of one peer at a steady rate."""
    settled()
    name = uuid.uuid4().hex[:8]
    names = {"input": f"live-{name}", "output": f"out-{name}"}
    work = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_TMP")))
    live = subprocess.Popen(
        java(tools, "Live", broker.address, *names.values(), PARTITIONS, options.rate, options.seconds, options.warm),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert live.stdout is not None
    try:
        live.stdout.readline()
        before = broker.cpu()
        peer_run = start(peer, broker, names, work, commit_ms, options)
        try:
            text = awaited(live, peer_run, peer)
        finally:
            log = peer_run.log.read_text()[-3000:]
            spent = peer_run.end()
        count, p50, p99, most, missing = text.split()
        if int(missing) or not int(count):
            raise RuntimeError(f"{peer}: {text}: {log}")
        found = {"p50": float(p50), "p99": float(p99), "max": float(most)}
        return {**found, "count": int(count), "cpu": spent.cpu, "mib": spent.mib, "broker": broker.cpu() - before}
    finally:
        live.kill()
        gone(work / "home")
        shutil.rmtree(work)


def rounds(peers: Sequence[str], repetitions: int, run: Any, shown: str) -> dict[str, list[dict[str, Any]]]:
    """Every peer once in every round, beginning with another one each time."""
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    for repetition in range(repetitions):
        for turn in range(len(peers)):
            peer = peers[(repetition + turn) % len(peers)]
            begun = time.monotonic()
            found = run(peer.partition(" ")[0])
            runs[peer].append(found)
            told = ", ".join(f"{key} {value:,.1f}" for key, value in found.items())
            print(f"  {repetition + 1} {peer:15} {told}  ({time.monotonic() - begun:.0f} s in all)", flush=True)
    columns = list(next(iter(runs.values()))[0])
    print(
        "\n"
        + table(
            ["median", *columns], [[p, *(spread([r[c] for r in runs[p]])["median"] for c in columns)] for p in peers]
        )
    )
    others = [peer for peer in peers if peer != "dataflow"]
    report = [
        [
            f"{peer}: {shown} of dataflow relative to it",
            *spread([r[shown] / p[shown] for r, p in zip(runs["dataflow"], runs[peer], strict=True)]).values(),
        ]
        for peer in others
        if "dataflow" in runs
    ]
    if report:
        print("\n" + table(["ratio in one round", "median", "least", "most"], report))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--peers", nargs="+", default=["dataflow", "streams", "flink", "dataflow again"])
    parser.add_argument("--lanes", type=int, default=PARTITIONS, help="parallelism of the pipeline")
    parser.add_argument("--processes", type=int, help="of `dataflow run`; default: its own")
    parser.add_argument("--latency", action="store_true", help="instead of throughput")
    parser.add_argument("--commit-ms", type=int, nargs="+", default=[100, 1000], help="of --latency")
    parser.add_argument("--rate", type=int, default=5000, help="of --latency: records a second")
    parser.add_argument("--seconds", type=int, default=15, help="of --latency: how long is measured")
    parser.add_argument("--warm", type=int, default=15, help="of --latency: how long is not")
    asked = parser.parse_args()
    peers = [peer.replace("-", " ") for peer in asked.peers]
    tools = built("kafka")
    broker = Broker.up()
    given = {"lanes": asked.lanes, "processes": asked.processes}
    if asked.latency:
        asked.rows = 0
        for commit_ms in asked.commit_ms:
            print(f"{asked.rate}/s, an epoch every {commit_ms} ms; milliseconds")
            runs = rounds(peers, asked.repetitions, lambda p, c=commit_ms: latency(p, broker, tools, c, asked), "p50")
            print(
                f"kept in {keep('kafka_latency', {**given, 'commit_ms': commit_ms, 'rate': asked.rate, 'runs': runs})}"
            )
        return
    loaded(broker, tools, asked.rows)
    runs = rounds(peers, asked.repetitions, lambda peer: throughput(peer, broker, tools, asked.rows, asked), "rate")
    print(f"kept in {keep('kafka', {**given, 'rows': asked.rows, 'runs': runs})}")


if __name__ == "__main__":
    main()
