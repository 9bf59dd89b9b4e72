"""File to file, exactly once, while processes die: the output is compared with the input by an independent reader."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.temporal, pytest.mark.timeout(900)]

OUTPUTS = pytest.mark.parametrize(
    ("out", "format"), [("out", "parquet"), ("out.jsonl", "jsonl"), ("out.parquet", "parquet")]
)


@OUTPUTS
def test_kill_everything(battle: Any, kills: int, out: str, format: str) -> None:
    field = battle(out=out, format=format)
    for _ in range(kills if out == "out" else max(2, kills // 3)):
        run = field.run()
        moment = field.random.choice(["start", "commits", "commits", "commits"])
        if moment == "start":
            time.sleep(field.random.uniform(0.0, 3.0))
        elif not field.wait_for_commits(field.random.randint(1, 12), run):
            break
        else:
            time.sleep(field.random.uniform(0.0, 0.05))
        field.kill_everything()
    result = field.finish()
    assert result["status"] == "completed"
    assert result["records_read"] == field.rows
    field.verify()


def test_kill_the_worker_alone(battle: Any, kills: int) -> None:
    field = battle()
    field.hold_server()
    for _ in range(kills // 2):
        run = field.run()
        if not field.wait_for_commits(field.random.randint(1, 12), run):
            break
        run.kill()
        run.wait()
    field.finish()
    field.verify()


def test_kill_the_temporal_server_alone(battle: Any, kills: int) -> None:
    field = battle()
    run = field.run()
    hurt = 0
    for _ in range(max(2, kills // 3)):
        if not field.wait_for_commits(field.random.randint(1, 10), run):
            break
        server = field.server()
        assert server is not None
        server.kill()
        hurt += 1
        time.sleep(field.random.uniform(0.5, 2.0))
    out, _ = run.communicate(timeout=180)
    assert run.returncode == 0, f"{out} {field.logs()}"
    assert hurt
    field.verify()


def test_a_worker_that_sleeps_past_its_heartbeat_is_fenced(battle: Any) -> None:
    field = battle()
    field.hold_server()
    sleeper = field.run()
    assert field.wait_for_commits(3, sleeper)
    sleeper.send_signal(signal.SIGSTOP)
    heir = field.run()
    assert field.wait_for_commits(5, heir), field.logs()
    assert field.wait_for_word(heir), field.logs()  # though the sleeper has taken its first question along
    sleeper.send_signal(signal.SIGCONT)  # wakes in the middle of whatever it did, its epoch long taken by the heir
    for run in (sleeper, heir):
        out, _ = run.communicate(timeout=180)
        assert run.returncode == 0, f"{out} {field.logs()}"
    field.verify()
