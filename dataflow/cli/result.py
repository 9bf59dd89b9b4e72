"""What a command leaves behind: its exit code, its result on standard output, its errors on standard error."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import typer

from dataflow.errors import DataFlowError, InvalidSpec, Problem

DONE, FAILED, INVALID = 0, 1, 2
INTERRUPTED, TERMINATED = 130, 143  # as shells count: 128 and the number of the signal

JSON = typer.Option(False, "--json", help="Print one JSON object on standard output.")


def perform(command: Coroutine[Any, Any, int], *, as_json: bool, file: str = "") -> None:
    """Run a command to its end and leave with its exit code. `file` is the pipeline file that problems point into."""
    raise typer.Exit(_performed(command, as_json, file))


def _performed(command: Coroutine[Any, Any, int], as_json: bool, file: str) -> int:
    try:
        return asyncio.run(command)
    except DataFlowError as error:
        return refuse(error, as_json=as_json, file=file)
    except KeyboardInterrupt:
        return INTERRUPTED


def emit(value: Mapping[str, Any]) -> None:
    """The one JSON object of a command."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line about the way there."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def refuse(error: DataFlowError, *, as_json: bool, file: str = "") -> int:
    """Tell the error; returns the exit code it means."""
    if isinstance(error, InvalidSpec):
        return refuse_file(error.problems, as_json=as_json, file=file)
    if as_json:
        emit({"status": "error", "error": error_json(error)})
    else:
        note(f"dataflow: {error.code}: {error}" if error.code != type(error).code else f"dataflow: {error}")
    return FAILED


def refuse_file(problems: Sequence[Problem], *, as_json: bool, file: str = "") -> int:
    """Tell everything that is wrong with a definition, as compilers do: `file:line:column: path: message`."""
    if as_json:
        error = {
            "code": InvalidSpec.code,
            "message": f"{count(len(problems), 'problem')} in {file or 'the definition'}",
        }
        emit({"status": "invalid", "error": error, "problems": [problem_json(p, file) for p in problems]})
        return INVALID
    for problem in problems:
        note(problem_line(problem, file))
    note(f"{count(len(problems), 'problem')}{f' in {file}' if file else ''}; nothing was started")
    return INVALID


def problem_line(problem: Problem, file: str) -> str:
    """One problem on one line, its code at the end."""
    place = f"{file}:{problem.line}:{problem.column}: " if problem.line else f"{file}: " if file else ""
    path = f"{problem.path}: " if problem.path else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{place}{path}{problem.message}{hint} [{problem.code}]"


def problem_json(problem: Problem, file: str) -> dict[str, Any]:
    """One problem as JSON; line and column are 0 where there is no place."""
    return {
        "file": file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
    }


def error_json(error: DataFlowError) -> dict[str, Any]:
    """An error as JSON."""
    return {"code": error.code, "message": error.message, "hint": error.hint, "where": error.where}


def count(number: int, noun: str) -> str:
    """`1 problem`, `1,200 problems`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table on standard output: columns that scripts can cut and people can read."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
