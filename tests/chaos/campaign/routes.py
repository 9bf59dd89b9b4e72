"""The pipelines of the campaigns: what they read, what they write, who reads that in the end."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.campaign.arena import Arena
from tests.chaos.campaign.flood import Flood
from tests.chaos.campaign.gauge import FolderGauge, TopicGauge
from tests.chaos.campaign.verdict import Verdict

NAMES = ("kafka-to-kafka", "file-to-kafka", "kafka-to-file")
PIPELINE = "campaign"
_COLUMNS = {"id": "BIGINT", "key": "VARCHAR", "seq": "BIGINT", "amount": "DOUBLE", "note": "VARCHAR"}


@dataclass
class Route:
    """One of `NAMES` in an arena. `poured`: how many messages of a topic are there; a file is there as a whole."""

    name: str
    arena: Arena
    flood: Flood
    dice: random.Random
    faults: int
    poured: int = 0
    gauge: TopicGauge | FolderGauge = field(init=False)

    @property
    def from_kafka(self) -> bool:
        return self.name.startswith("kafka")

    @property
    def to_kafka(self) -> bool:
        return self.name.endswith("kafka")

    @property
    def endless(self) -> bool:
        """Messages of a topic come while the pipeline runs; files have an end."""
        return self.from_kafka

    def prepare(self) -> None:
        """The input, or its first half, and the place that says how far the output is."""
        brokers = self.arena.address("kafka")
        if self.from_kafka:
            asyncio.run(self.flood.make_topic(brokers, "in"))
            self.pour(self.flood.messages // 2)
        else:
            self.flood.write_files(self.arena.folder / "in")
            self.poured = self.flood.messages
        self.arena.home.mkdir(exist_ok=True)
        out = self.arena.folder / "out"
        self.gauge = TopicGauge(brokers, "out") if self.to_kafka else FolderGauge(out, PIPELINE)

    def pour(self, upto: int) -> None:
        """More messages, up to this one."""
        if self.from_kafka and upto > self.poured:
            asyncio.run(self.flood.pour(self.arena.address("kafka"), "in", self.poured, upto))
            self.poured = upto

    def definition(self) -> dict[str, Any]:
        brokers = self.arena.address("kafka")
        source: dict[str, Any] = {"type": "file", "path": "in", "format": "csv", "columns": _COLUMNS}
        if self.from_kafka:
            source = {"type": "kafka", "brokers": brokers, "topic": "in", "columns": _COLUMNS}
        sink: dict[str, Any] = {"type": "file", "path": "out", "format": "parquet"}
        if self.to_kafka:
            sink = {"type": "kafka", "brokers": brokers, "topic": "out", "key": "key", "partitions": 4}
        rows = self.dice.choice([1000, 5000, 1_000_000])
        if not self.endless:  # so small that the run is not over before its faults
            rows = max(5, self.flood.messages // (150 * (self.faults + 1)))
        return {
            "name": PIPELINE,
            "source": source,
            "transforms": [
                {"type": "filter", "where": "id % 8 <> 5 OR amount IS NULL"},
                {"type": "map", "set": {"total": "amount * 2"}},
            ],
            "sink": sink,
            "checkpoint": {"interval": self.dice.choice(["50ms", "200ms", "500ms"]), "max_rows": rows},
            "retry": {"max_attempts": 60, "initial": "500ms", "maximum": "3s"},
            "parallelism": 3,
            "delivery": "exactly_once",
        }

    def judge(self, tell: Any) -> Verdict:
        """Let the witness read, and give the verdict what it has seen."""
        verdict = Verdict()
        folder = self.arena.folder
        if self.from_kafka:
            verdict.source_topic(self.witness("in", tell))
        else:
            verdict.source_files(folder / "in")
        if self.to_kafka:
            verdict.sink_topic(self.witness("out", tell), self.witness("out.dead", tell))
        else:
            verdict.sink_files(folder / "out", folder / "out.dead")
        return verdict

    def witness(self, topic: str, tell: Any) -> Path:
        path = self.arena.folder / f"witness-{topic}.jsonl"
        script = Path(__file__).parent / "witness.py"
        command = [sys.executable, str(script), self.arena.address("kafka"), topic, str(path)]
        done = subprocess.run(command, cwd=self.arena.folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the witness could not read {topic}: {done.stderr[-2000:]}")
        tell(f"the witness read {int(done.stdout):,} committed messages of {topic}")
        return path
