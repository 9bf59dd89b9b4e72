"""The measurements still run; how fast is not for a test to say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataflow.embedded.temporal import Address

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> str:
    command = [sys.executable, "-m", "bench", *arguments]
    environ = {**os.environ, "BENCH_PATIENCE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_measurement_is_listed_and_explains_itself() -> None:
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in bench().splitlines()}
    assert {"main_job", "history", "journal", "expressions", "file_source"} <= listed.keys()
    explained = (ROOT / "bench/README.md").read_text(encoding="utf-8")
    assert not [name for name in listed if f"`{name}`" not in explained]


@pytest.mark.slow
@pytest.mark.temporal
def test_main_job_finds_what_duckdb_finds(temporal: Address) -> None:
    """`temporal` only makes sure that there is a server to start."""
    said = bench("main_job", "--rows", "20000", "--repetitions", "1")
    assert "dataflow: segments" in said and "polars again: wall" in said


@pytest.mark.slow
@pytest.mark.temporal
def test_history_counts_exactly(temporal: Address) -> None:
    assert "200 epochs, 600 rows" in bench("history", "--epochs", "200", "--rows", "3", "--segment", "1")
