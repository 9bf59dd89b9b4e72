"""Pushing batches: into the inbox first, then past the pipeline, whose workflow admits them. What is pushed to one
pipeline while others are on their way goes together: one transaction, one command, one entry of the journal for each.

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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dataflow.domain.commands import IngestBatch
from dataflow.domain.orders import Admission
from dataflow.domain.progress import another_batch
from dataflow.errors import Conflict, Corrupt, DataFlowError, Rejected, Retryable
from dataflow.inbox import Admitted, Batch, Inbox
from workflows.names import CONTINUING

T = TypeVar("T")

TOGETHER = 250
"""Batches of one command at most."""

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
    inbox: Inbox,
    pipeline: str,
    batches: Sequence[Batch],
    command: Callable[[list[IngestBatch]], Awaitable[Sequence[Admission]]],
    within: float,
) -> list[Ingested | DataFlowError]:
    """Push batches, each for itself: its answer, or why it is not taken. `command` brings the orders to the pipeline.
    Waits up to `within` seconds for a pipeline that is busy. Raises what `Inbox.stage` and the pipeline raise, where
    that is the same for all of them."""
    staged = await inbox.stage(pipeline, batches)
    orders = [
        IngestBatch(batch_id=batch.id, record_count=batch.records, source_offset=batch.source_offset, token=token)
        for batch, token in zip(batches, staged, strict=True)
        if isinstance(token, str)
    ]
    known: Mapping[str, Admitted] = {}
    refused: DataFlowError | None = None
    admissions: dict[str, Admission] = {}
    if orders:
        tokens = [order.token for order in orders]
        try:
            admissions = dict(zip(tokens, await _patiently(lambda: command(orders), within), strict=True))
        except Rejected as error:
            refused = error
        except Retryable as error:  # it is open what became of them, so they stay
            return [error if isinstance(one, str) else _told(pipeline, one) for one in staged]
        known = await inbox.find(pipeline, [order.batch_id for order in orders])
        mine = {one.token for one in known.values()}
        await inbox.drop([token for token in tokens if token not in mine])
    found: list[Ingested | DataFlowError] = []
    for batch, one in zip(batches, staged, strict=True):
        if not isinstance(one, str):
            found.append(_told(pipeline, one))
        elif refused is not None:
            found.append(refused)
        else:
            found.append(_taken(pipeline, batch, one, admissions[one], known.get(batch.id)))
    return found


def _taken(
    pipeline: str, batch: Batch, token: str, admission: Admission, admitted: Admitted | None
) -> Ingested | DataFlowError:
    if admission is Admission.GONE:
        return Retryable(f"batch {batch.id!r} waited for too long", hint="send it again")
    if admitted is None:
        told = f"batch {batch.id!r} was recorded by {pipeline} and is not in the inbox: is it another one?"
        return Corrupt(told)
    if admitted.token != token and admitted.digest != batch.digest:
        return another_batch(pipeline, batch.id)
    return _answer(pipeline, admitted, repeated=admitted.token != token)


def _told(pipeline: str, known: Admitted | Conflict) -> Ingested | DataFlowError:
    """Of a batch that needed no order."""
    return known if isinstance(known, Conflict) else _answer(pipeline, known, repeated=True)


async def _patiently(send: Callable[[], Awaitable[T]], within: float) -> T:
    async with asyncio.timeout(within):
        pause = 0.05
        while True:
            try:
                return await send()
            except Retryable as busy:
                if busy.code not in (CONTINUING, BUSY):
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, 1.0)


def _answer(pipeline: str, admitted: Admitted, *, repeated: bool) -> Ingested:
    return Ingested(pipeline, admitted.batch_id, admitted.records, 0, admitted.first_offset, repeated)
