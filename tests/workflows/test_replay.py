"""Histories of earlier releases are replayed with today's workflows: no change may make an old run non-deterministic.

`record_histories.py` beside this file makes new ones; a released history is never edited or removed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from dataflow.worker import WORKFLOWS

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def test_there_are_histories() -> None:
    assert len(HISTORIES) >= 5


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_an_old_run_still_replays(path: Path) -> None:
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter)
    await replayer.replay_workflow(WorkflowHistory.from_json(f"pipeline/{path.stem}", path.read_text()))


async def test_a_changed_order_of_things_is_noticed() -> None:
    text = HISTORIES[0].read_text().replace('"dataflow.plan"', '"dataflow.other"')
    replayer = Replayer(workflows=WORKFLOWS, data_converter=pydantic_data_converter)
    with pytest.raises(Exception, match=r"[Nn]ondeterminism"):
        await replayer.replay_workflow(WorkflowHistory.from_json("pipeline/changed", text))
