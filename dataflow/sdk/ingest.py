"""Pushing a batch: into the inbox first, then past the pipeline, whose workflow admits it.

What can go wrong on the way, and why no record is lost or doubled:

* Nothing is staged, or the batch is and the caller is gone: what is not admitted is never read.
* The pipeline refuses: the staged batch goes, and nobody else knows its token.
* The workflow has taken the batch and the caller has no answer: it is admitted, recorded and read once. The same id
  again finds it in the inbox and gets the answer that the first request would have had.
* Two requests with one id at the same time: one is admitted, the other finds that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dataflow.domain.commands import IngestBatch
from dataflow.domain.progress import another_batch
from dataflow.errors import Corrupt, Rejected, Retryable
from dataflow.inbox import Admitted, Batch, Inbox
from workflows.names import CONTINUING

BUSY = "BUSY"
"""Code of a refusal by Temporal: too many updates of one workflow at once."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The answer to a batch, the same for every repeat. A batch is taken as a whole, so `failure_count` is 0: records
    that do not fit the columns are found when they are read, and treated as `errors.on_record` says.

    `first_offset` is the place of its first record among all that were pushed to the pipeline. `repeated`: it had been
    taken before."""

    pipeline_id: str
    batch_id: str
    success_count: int
    failure_count: int
    first_offset: int
    repeated: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.success_count}/{self.failure_count}"


async def ingest(
    inbox: Inbox, pipeline: str, batch: Batch, command: Callable[[IngestBatch], Awaitable[object]], within: float
) -> Ingested:
    """Push the batch; `command` brings the order to the pipeline. Waits up to `within` seconds for a pipeline that is
    busy. Raises what `Inbox.stage` and the pipeline raise."""
    staged = await inbox.stage(pipeline, batch)
    if isinstance(staged, Admitted):
        return _answer(pipeline, staged, repeated=True)
    order = IngestBatch(batch_id=batch.id, record_count=batch.records, source_offset=batch.source_offset, token=staged)
    try:
        await _patiently(lambda: command(order), within)
    except Rejected:
        await inbox.drop(staged)
        raise
    admitted = await inbox.find(pipeline, batch.id)
    if admitted is None:
        raise Corrupt(f"batch {batch.id!r} was recorded by {pipeline} and is not in the inbox: is it another one?")
    if admitted.token != staged:
        await inbox.drop(staged)
        if admitted.digest != batch.digest:
            raise another_batch(pipeline, batch.id)
    return _answer(pipeline, admitted, repeated=admitted.token != staged)


async def _patiently(send: Callable[[], Awaitable[object]], within: float) -> None:
    async with asyncio.timeout(within):
        pause = 0.05
        while True:
            try:
                await send()
                return
            except Retryable as busy:
                if busy.code not in (CONTINUING, BUSY):
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 1.0)


def _answer(pipeline: str, admitted: Admitted, *, repeated: bool) -> Ingested:
    return Ingested(pipeline, admitted.batch_id, admitted.records, 0, admitted.first_offset, repeated)
