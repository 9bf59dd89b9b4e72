"""`kill -9` of Cassandra while events are appended. It has a server of its own: others may be using the shared one."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from servers.fleet import Fleet
from servers.places import Site

from dataflow.errors import Retryable
from dataflow.journal import open_journal
from dataflow.journal.audit import audit_verify_all
from dataflow.testing.journal_kit import append_and_acknowledge, check_acknowledged


@pytest.fixture
def own(cassandra: Site) -> Iterator[Fleet]:  # the shared one tells whether it can be had at all
    root = Path(tempfile.gettempdir()) / f"dataflow-kill-{uuid4().hex[:8]}"
    with Fleet(root, until_unused=True) as fleet:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, fleet.up(["cassandra"], logging.info, free=True)).result()
        yield fleet
    if fleet.wait_until_unused():
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.chaos
async def test_killed_server_keeps_what_it_acknowledged(own: Fleet) -> None:
    url = f"cassandra://127.0.0.1:{own.site('cassandra').port}/journal"
    acknowledged = {"left": 0, "right": 0}
    for enough in (60, 90):
        reached = asyncio.Event()

        def note(stream: str, sequence: int, reached: asyncio.Event = reached, enough: int = enough) -> None:
            acknowledged[stream] = sequence
            if min(acknowledged.values()) >= enough:
                reached.set()

        async with open_journal(url) as one, open_journal(url) as other:
            appending = [
                asyncio.create_task(
                    append_and_acknowledge(journal, stream, lambda n, s=stream: note(s, n), 100_000)  # type: ignore[misc]
                )
                for journal, stream in ((one, "left"), (other, "right"))
            ]
            await reached.wait()
            await asyncio.to_thread(own.kill, "cassandra")
            outcomes = await asyncio.gather(*appending, return_exceptions=True)
            assert all(isinstance(outcome, Retryable) for outcome in outcomes), outcomes
        await own.up(["cassandra"], logging.info)
        async with open_journal(url) as journal:
            for stream, sequence in acknowledged.items():
                await check_acknowledged(journal, stream, sequence)
            assert await audit_verify_all(journal) == []
