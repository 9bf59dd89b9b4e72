"""What can go wrong, by what the caller should do about it.

DataFlowError
  x Retryable          the same call may succeed later        -> retried by the pipeline's own policy
    + TimedOut         ... it took longer than it was allowed
    + NothingYet       ... the source has nothing to tell its columns from -> wait for it, that is no failure
  x Rejected           the request is wrong and stays wrong   -> fix the input
    + InvalidSpec      a pipeline file or definition: every problem, each with its place
    + IllegalCommand   the command does not fit the pipeline's state
    + BadRecord        a record could not be read or transformed, and the policy is `fail`
    + NotFound         there is no such pipeline, file, event
    + Conflict         it exists already, or another writer was first
  x Fenced             another attempt took over              -> give way; a retry finds its receipt
  x Corrupt            an invariant is broken                 -> stop loudly

`code` is stable and machine-readable; `hint` says what to do. The nine transient codes of the
retry policy (`dataflow.domain.policy`) are codes of `Retryable`.
"""

from __future__ import annotations

from dataclasses import dataclass


class DataFlowError(Exception):
    """Base of every error DataFlow raises on purpose. `str()` is the message for people, hint included."""

    code = "DATAFLOW"
    retryable = False

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class Retryable(DataFlowError):
    code = "TEMPORARY_FAILURE"
    retryable = True


class TimedOut(Retryable):
    code = "TIMEOUT"


class NothingYet(Retryable):
    code = "NOTHING_YET"


class Rejected(DataFlowError):
    code = "REJECTED"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a definition. `path` is dotted (`transforms[0].where`); line and column count from 1,
    0 where there is no file to point into."""

    path: str
    message: str
    code: str = "invalid"
    hint: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}: " if self.line else ""
        hint = f" ({self.hint})" if self.hint else ""
        path = f"{self.path}: " if self.path else ""
        return f"{place}{path}{self.message}{hint}"


class InvalidSpec(Rejected):
    code = "VALIDATION_FAILED"

    def __init__(self, problems: list[Problem] | tuple[Problem, ...]) -> None:
        self.problems = tuple(problems)
        super().__init__("Validation failed: " + "; ".join(str(p) for p in self.problems))


class IllegalCommand(Rejected):
    code = "ILLEGAL_COMMAND"


class BadRecord(Rejected):
    code = "BAD_RECORD"


class NotFound(Rejected):
    code = "NOT_FOUND"


class Conflict(Rejected):
    code = "CONFLICT"


def another_journals(pipeline: str, where: str, anew: str) -> Conflict:
    """A sink holds receipts of this pipeline that its journal knows nothing of. To go on from them may leave out what
    was meant to be written, to begin anew would double it: so neither is done unasked. `anew`: how to ask for that."""
    return Conflict(
        f"a pipeline {pipeline!r} of another journal has written there",
        where=where,
        hint="run it with the DATAFLOW_HOME (journal) that it had, or under another name; to go on from there, set "
        f"checkpoint.adopt: true; to begin anew, {anew}",
    )


class Fenced(DataFlowError):
    code = "FENCED"


class Corrupt(DataFlowError):
    code = "CORRUPT"
