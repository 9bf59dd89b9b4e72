"""When a failed run is tried again, and how long it waits before that."""

from __future__ import annotations

from dataflow.domain.spec import Retry
from dataflow.domain.state import PipelineError

TRANSIENT = frozenset(
    {
        "TIMEOUT",
        "CONNECTION_FAILED",
        "SERVICE_UNAVAILABLE",
        "RATE_LIMITED",
        "TEMPORARY_FAILURE",
        "NETWORK_ERROR",
        "TOO_MANY_REQUESTS",
        "DEADLOCK",
        "RESOURCE_EXHAUSTED",
    }
)
"""Codes of errors that pass by themselves. All others are permanent, unless their component or the pipeline says so."""

JITTER = 0.2
"""A backoff is spread by at most this share, both ways, so that pipelines hit by one outage do not return as one."""


def is_transient(error: PipelineError, retry: Retry) -> bool:
    """Whether waiting may help: the pipeline's own `retry.codes` come first, then what the component said
    (`error.retryable`), then the code. Codes are compared without regard to case."""
    code = error.code.strip().upper()
    if code in {extra.strip().upper() for extra in retry.codes}:
        return True
    if error.retryable is not None:
        return error.retryable
    return code in TRANSIENT


def backoff(retry_count: int, initial: float = 1.0, maximum: float = 30.0, jitter: float = 0.0) -> float:
    """Seconds before the retry after `retry_count` retries: min(maximum, initial * 2**retry_count) * (1 + jitter).
    Never negative."""
    # 2.0**1000 is still a finite double; multiplying it may give inf, which min() handles
    doubled = initial * 2.0 ** min(max(retry_count, 0), 1000)
    return max(0.0, min(maximum, doubled) * (1.0 + jitter))
