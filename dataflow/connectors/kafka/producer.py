"""The transactional producer of one lane's attempt: opening it fences all earlier ones.

aiokafka retries what may pass and breaks for ever on what may not; then every later call here raises the first error.
Where it offers no public way (leaving without waiting for a broker that is gone), its insides are used, and only here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from dataflow.connectors.kafka.cluster import Cluster
from dataflow.connectors.kafka.errors import translate, translated
from dataflow.connectors.kafka.pack import Messages, Packed, packed, single
from dataflow.connectors.kafka.sink_config import Compression, KafkaSinkConfig
from dataflow.errors import DataFlowError, Rejected

_FAREWELL = 5.0  # seconds for an abort, or the end of a commit under way, when an attempt leaves


class LaneProducer:
    """Begins a transaction with the first batch; `commit` ends it. Without a transactional id it fences nobody, and
    what is sent can be seen at once. Not for two tasks at once."""

    def __init__(self, cluster: Cluster, config: KafkaSinkConfig, transactional_id: str | None) -> None:
        self._cluster, self._config, self._id = cluster, config, transactional_id
        self._client: AIOKafkaProducer | None = None
        self._acks: list[asyncio.Future[Any]] = []
        self._open = False  # a transaction is
        self._failed: DataFlowError | None = None

    async def fence(self) -> None:
        """Take the transactional id over. Returns when the broker has finished whatever transaction was pending, and
        earlier owners can no longer commit. Raises `Retryable` where no broker answers."""
        check_codec(self._config.codec)
        client = AIOKafkaProducer(
            **self._cluster.options(),
            transactional_id=self._id,
            transaction_timeout_ms=round(self._config.transaction_timeout * 1000),
            enable_idempotence=True,
            acks="all",
            linger_ms=self._config.linger_ms,
            max_batch_size=self._config.max_batch,
            compression_type=None if self._config.codec is Compression.NONE else str(self._config.codec),
        )
        self._client = client
        async with self._cluster.reaching(), translated(f"transactional id {self._id}"):
            await client.start()
            await asyncio.sleep(0)  # let its task begin: one that is cancelled before that breaks `stop`

    async def partition_count(self, topic: str) -> int:
        async with translated(f"topic {topic!r}", self._cluster.timeout):
            return len(await self._producer.partitions_for(topic))

    def batches(self, messages: Messages, at: int) -> list[tuple[int, Packed]]:
        """The messages as record batches with the timestamp `at` (ms), partitions taking turns. For a thread."""
        compression = None if self._config.codec is Compression.NONE else str(self._config.codec)
        transactional = self._id is not None
        made = packed(messages, self._config.max_batch, at, compression, transactional)
        partitions = [list(batches) for _, batches in groupby(made, key=itemgetter(0))]
        return [pair for turn in zip_longest(*partitions) for pair in turn if pair is not None]

    def message(self, partition: int, key: bytes, value: bytes | None, at: int) -> tuple[int, Packed]:
        """The same of one message: cheap enough for the event loop."""
        compression = None if self._config.codec is Compression.NONE else str(self._config.codec)
        return partition, single(value, key, at, compression, self._id is not None)

    async def send(self, topic: str, batches: Sequence[tuple[int, Packed]]) -> None:
        """Hand batches over, inside the open transaction. Waits while a partition's previous ones are queued."""
        self._check()
        async with self._guarded(topic):
            if not self._open and self._id is not None:
                await self._producer.begin_transaction()
                self._open = True
            for partition, batch in batches:
                self._acks.append(await self._producer.send_batch(batch, topic, partition=partition))
            self._acks = [ack for ack in self._acks if not ack.done() or ack.exception() is not None]

    async def flush(self, topic: str) -> None:
        """Until everything is acknowledged. A batch that was refused would else be missing from the transaction."""
        self._check()
        async with self._guarded(topic):
            acks, self._acks = self._acks, []
            await asyncio.gather(*acks)

    async def commit(self) -> None:
        """End the open transaction: the one act that shows everything in it. An error leaves the outcome open, unless
        it is `Fenced`."""
        self._check()
        async with self._guarded(f"transactional id {self._id}"):
            await self._producer.commit_transaction()
            self._open = False

    async def close(self) -> None:
        """Leave, and take back the open transaction where the broker can be asked to. Never raises for what it says:
        who fences next finishes it, or the broker does after the transaction's timeout."""
        if self._client is None:
            return
        if self._open and self._failed is None:
            with suppress(KafkaError, TimeoutError, AssertionError):
                async with asyncio.timeout(_FAREWELL):
                    await self._settle(self._client)
        await _discard(self._client)
        for ack in self._acks:
            ack.cancel()
        self._client = None

    async def _settle(self, client: AIOKafkaProducer) -> None:
        """Abort; or wait for a commit that was cut off: it cannot be called back."""
        manager = client._txn_manager
        if manager.is_in_transaction():
            await client.abort_transaction()
        else:
            await asyncio.shield(manager.wait_for_transaction_end())

    @property
    def _producer(self) -> AIOKafkaProducer:
        if self._client is None:
            raise DataFlowError(f"the producer of {self._id} is not open")
        return self._client

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _guarded(self, what: str) -> _Guard:
        return _Guard(self, what, self._cluster.timeout)

    def failed(self, error: DataFlowError) -> None:
        self._failed = self._failed or error


class _Guard:
    """`translated`, and whatever is raised inside breaks the producer for good."""

    def __init__(self, owner: LaneProducer, what: str, timeout: float) -> None:
        self._owner = owner
        self._inner = translated(what, timeout)

    async def __aenter__(self) -> None:
        await self._inner.__aenter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            if isinstance(error, AssertionError):  # a state that aiokafka did not expect: it has failed before
                raise translate(error, "the producer") from error
            await self._inner.__aexit__(kind, error, trace)
        except DataFlowError as translated_error:
            self._owner.failed(translated_error)
            raise


async def _discard(client: AIOKafkaProducer) -> None:
    """Stop without waiting for anything that was not sent: `stop` alone waits for ever for a broker that is gone."""
    sender, accumulator = client._sender, client._message_accumulator
    if sender.sender_task is not None:
        accumulator.fail_all(ProducerClosed())
        for queued in (*accumulator._batches.values(), accumulator._pending_batches):
            for batch in queued:
                _retrieve(batch.future)
                _retrieve(batch._drain_waiter)
        await _ended(sender.sender_task)
    _retrieve(client._txn_manager.wait_for_transaction_end())
    await client.stop()


async def _ended(sending: asyncio.Task[None]) -> None:
    """Cancelled, it waits for the request under way, which is tried again for ever while no broker answers: cancelled
    once more, it gives that up too."""
    while not sending.done():
        sending.cancel()
        await asyncio.wait({sending}, timeout=_FAREWELL)
    _retrieve(sending)


def _retrieve(future: asyncio.Future[Any] | None) -> None:
    """Look at its error, which nobody else will: otherwise asyncio complains of it."""
    if future is not None and future.done() and not future.cancelled():
        future.exception()


def check_codec(codec: Compression) -> None:
    """Raises `Rejected` (UNSUPPORTED_COMPRESSION) where this process cannot compress that way."""
    if not codec.available:
        raise Rejected(
            f"{codec} needs the package cramjam, which is not installed",
            code="UNSUPPORTED_COMPRESSION",
            hint="install it, or write compression: none or gzip",
        )
