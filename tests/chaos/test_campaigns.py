"""Short campaigns; long ones are a command: `python -m tests.chaos.campaign`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.campaign.routes import NAMES
from tests.chaos.campaign.verdict import Verdict

ROOT = Path(__file__).parents[2]
SEED = os.environ.get("DATAFLOW_CHAOS_SEED", "20261125")


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("kafka", "temporal")  # they say what becomes of the test where there are no servers
@pytest.mark.parametrize("route", NAMES)
def test_short_campaign(route: str) -> None:
    faults = {"worker-kills": 3, "freezes": 1, "broker-restarts": 1, "temporal-restarts": 1}
    words = [word for fault, count in faults.items() for word in (f"--{fault}", str(count))]
    command = [sys.executable, "-m", "tests.chaos.campaign", route, "--messages", "30000", "--seed", SEED, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"


ROWS = [{"id": n, "key": f"k{n % 2}", "seq": n // 2, "amount": n / 4, "note": "x"} for n in range(12)]
BROKEN = 7


def judged(folder: Path, change: Any = lambda rows: rows, dead: tuple[int, ...] = (BROKEN,)) -> dict[str, int]:
    """The rules that are broken, and how often, where the output is as `change` makes it."""

    def dump(name: str, values: list[tuple[int, Any]]) -> Path:
        lines = [
            {"partition": part, "offset": n, "key": value.get("key"), "value": json.dumps(value)}
            for n, (part, value) in enumerate(values)
        ]
        path = folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    verdict = Verdict()
    source = [{**row, "amount": f"oops-{row['id']}"} if row["id"] == BROKEN else row for row in ROWS]
    verdict.source_topic(dump("in", [(0, row) for row in source]))
    out = [(row["id"] % 2, {**row, "total": row["amount"] * 2}) for row in ROWS if row["id"] not in (5, BROKEN)]
    letters = dump("dead", [(0, {"record": f"... oops-{n} ..."}) for n in dead])
    verdict.sink_topic(dump("out", change(out)), letters)
    return {finding.rule: finding.wrong for finding in verdict.findings(len(ROWS)) if finding.wrong}


def test_the_verdict_finds_nothing_wrong_with_what_is_right(tmp_path: Path) -> None:
    assert judged(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda out: out[1:], {"no id is missing", "every row is what it should be"}),
        (
            lambda out: [*out, out[-1]],
            {"no id is doubled", "every row is what it should be", "the order of each key is kept"},
        ),
        (
            lambda out: [*out, (1, {**out[0][1], "id": 5, "key": "k1", "seq": 99})],
            {"nothing else is there", "every row is what it should be"},
        ),
        (lambda out: [out[2], out[1], out[0], *out[3:]], {"the order of each key is kept"}),
        (lambda out: [*out[:-2], (1, out[-2][1]), out[-1]], {"a key stays in one place"}),
        (lambda out: [(0, {**out[0][1], "total": 1.0}), *out[1:]], {"every row is what it should be"}),
    ],
    ids=["missing", "doubled", "foreign", "swapped", "moved", "altered"],
)
def test_the_verdict_finds_what_is_wrong(tmp_path: Path, change: Any, rules: set[str]) -> None:
    assert set(judged(tmp_path, change)) == rules


@pytest.mark.parametrize("dead", [(), (BROKEN, BROKEN), (BROKEN, 3)])
def test_the_verdict_counts_dead_letters(tmp_path: Path, dead: tuple[int, ...]) -> None:
    assert set(judged(tmp_path, dead=dead)) == {"each broken record is one dead letter"}
