"""What a process does with reports that cannot be delivered."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from activities.link import CoordinatorLink
from dataflow.domain.state import Status

from .conftest import report


async def test_reports_that_cannot_be_delivered_are_kept_and_told_of_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nobody: Any = None
    link = CoordinatorLink(nobody, "q", None)
    sent: list[str] = []

    async def away(name: str, argument: Any) -> None:
        raise TimeoutError

    async def there(name: str, argument: Any) -> None:
        sent.extend(one.pipeline_id for one in argument)

    monkeypatch.setattr(link, "_signal", away)
    with caplog.at_level(logging.WARNING):
        await asyncio.gather(*(link.report(report(f"p{n}", Status.RUNNING, 2)) for n in range(100)))
    assert len(caplog.records) == 1
    monkeypatch.setattr(link, "_signal", there)
    await link.report(report("p0", Status.STOPPED, 3))
    assert sorted(sent) == sorted(f"p{n}" for n in range(100))
    await link.close()
