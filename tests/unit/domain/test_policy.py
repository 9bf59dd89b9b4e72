"""Which errors are retried, and after how long."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.domain.policy import TRANSIENT, backoff, is_transient
from dataflow.domain.spec import Retry
from dataflow.domain.state import ErrorType, PipelineError

NINE = [
    "TIMEOUT",
    "CONNECTION_FAILED",
    "SERVICE_UNAVAILABLE",
    "RATE_LIMITED",
    "TEMPORARY_FAILURE",
    "NETWORK_ERROR",
    "TOO_MANY_REQUESTS",
    "DEADLOCK",
    "RESOURCE_EXHAUSTED",
]


def error(code: str, retryable: bool | None = None) -> PipelineError:
    return PipelineError(error_type=ErrorType.SINK, code=code, message="no", retryable=retryable)


@pytest.mark.parametrize("code", NINE)
def test_transient_codes_in_any_case(code: str) -> None:
    assert len(TRANSIENT) == 9
    for spelling in (code, code.lower(), code.title(), f" {code} "):
        assert is_transient(error(spelling), Retry())


@pytest.mark.parametrize(
    "code", ["VALIDATION_FAILED", "AUTHENTICATION_FAILED", "FORBIDDEN", "DATA_FORMAT", "TIMEOUT2", "SINK_ERROR", "-"]
)
def test_all_other_codes_are_permanent(code: str) -> None:
    assert not is_transient(error(code), Retry())


def test_what_the_component_says_goes_before_the_code() -> None:
    assert is_transient(error("LEADER_MOVED", retryable=True), Retry())
    assert not is_transient(error("TIMEOUT", retryable=False), Retry())


def test_what_the_pipeline_says_goes_before_both() -> None:
    retry = Retry(codes=("Sink_Error",))
    assert is_transient(error("SINK_ERROR"), retry)
    assert is_transient(error("sink_error", retryable=False), retry)


@pytest.mark.parametrize(("count", "seconds"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (1000, 30)])
def test_backoff_doubles_up_to_its_maximum(count: int, seconds: float) -> None:
    assert backoff(count) == seconds


@given(
    count=st.integers(0, 1000),
    initial=st.floats(0, 1e9),
    maximum=st.floats(0, 1e9),
    jitter=st.floats(-0.2, 0.2),
)
def test_backoff_is_within_a_fifth_of_its_formula(count: int, initial: float, maximum: float, jitter: float) -> None:
    seconds = backoff(count, initial, maximum, jitter)
    whole = float(min(maximum, initial * 2**count)) if initial * 2.0 ** min(count, 1000) < math.inf else maximum
    assert math.isfinite(seconds)
    assert seconds >= 0
    assert 0.8 * whole * (1 - 1e-12) <= seconds <= 1.2 * whole * (1 + 1e-12)


@given(count=st.integers(0, 999), jitter=st.floats(-0.2, 0.2))
def test_backoff_never_falls_with_more_retries(count: int, jitter: float) -> None:
    assert backoff(count, jitter=jitter) <= backoff(count + 1, jitter=jitter)


@given(count=st.integers(-5, 1000), jitter=st.floats(-10, -1))
def test_backoff_is_not_negative_whatever_the_jitter(count: int, jitter: float) -> None:
    assert backoff(count, jitter=jitter) == 0
