"""What aiokafka raises, as what the caller should do about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import errors as kafka

from dataflow.errors import Corrupt, DataFlowError, Fenced, NotFound, Rejected, Retryable, TimedOut

_OVERTAKEN = (kafka.ProducerFenced, kafka.InvalidProducerEpoch, kafka.InvalidTxnState)
_UNREACHABLE = (
    kafka.KafkaConnectionError,
    kafka.KafkaUnavailableError,
    kafka.NodeNotReadyError,
    kafka.NoBrokersAvailable,
    kafka.BrokerNotAvailableError,
)
_LATE = (kafka.KafkaTimeoutError, kafka.RequestTimedOutError)
_FORBIDDEN = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)
_UNKNOWN_USER = (
    kafka.AuthenticationFailedError,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.AuthenticationMethodNotSupported,
)
_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError, kafka.RecordTooLargeError)


def translate(error: BaseException, what: str) -> DataFlowError:
    """The error of ours that says what to do; `what` names the thing that was talked to."""
    cause = error.__cause__
    if type(error) is kafka.KafkaError and isinstance(cause, Exception):
        return translate(cause, what)  # the sender wraps whatever it does not expect
    told = f"{what}: {_words(error)}"
    match error:
        case DataFlowError():
            return error
        case _ if isinstance(error, _OVERTAKEN):
            return Fenced(f"{what}: another attempt took over, or the transaction was too long ({_words(error)})")
        case _ if isinstance(error, _UNREACHABLE):
            return Retryable(told, code="CONNECTION_FAILED", hint="is the broker up, and the address right?")
        case TimeoutError():
            return TimedOut(f"{what} did not answer in time")
        case _ if isinstance(error, _LATE):
            return TimedOut(told)
        case kafka.UnknownTopicOrPartitionError():
            return NotFound(told)
        case _ if isinstance(error, _FORBIDDEN):
            return Rejected(told, code="ACCESS_DENIED", hint="the user needs an ACL for this")
        case _ if isinstance(error, _UNKNOWN_USER):
            return Rejected(told, code="AUTHENTICATION_FAILED", hint="look at security")
        case _ if isinstance(error, _TOO_LARGE):
            return Rejected(told, code="RECORD_TOO_LARGE", hint="raise max.message.bytes of the topic")
        case kafka.InvalidTransactionTimeout():
            return Rejected(
                told,
                code="INVALID_TRANSACTION_TIMEOUT",
                hint="transaction_timeout may not exceed the broker's transaction.max.timeout.ms",
            )
        case kafka.UnsupportedCodecError():
            return Rejected(told, code="UNSUPPORTED_COMPRESSION", hint="install cramjam: snappy, lz4 and zstd need it")
        case kafka.CorruptRecordException():
            return Corrupt(told)
        case OSError():
            return Retryable(told, code="CONNECTION_FAILED")
        case kafka.KafkaError():
            return Retryable(told, code="SERVICE_UNAVAILABLE" if error.retriable else "TEMPORARY_FAILURE")
    return Retryable(told)


@asynccontextmanager
async def translated(what: str, timeout: float | None = None) -> AsyncIterator[None]:
    """Errors of aiokafka inside come out as ours, and so does taking longer than `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except (kafka.KafkaError, kafka.IllegalOperation, kafka.ConsumerStoppedError, OSError) as error:
        raise translate(error, what) from error  # TimeoutError is an OSError


def _words(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()[:500]
