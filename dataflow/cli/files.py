"""`validate`, `preview`: commands that look at a pipeline file and start nothing."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

import typer

from dataflow.cli.result import (
    DONE,
    FAILED,
    INVALID,
    JSON,
    emit,
    note,
    perform,
    problem_json,
    problem_line,
    refuse_file,
    say,
)
from dataflow.cli.session import settings

if TYPE_CHECKING:
    from dataflow.preview import View
    from dataflow.validation import Report

_FILES = typer.Argument(help="Pipeline files, YAML or JSON.", show_default=False)
_FILE = typer.Argument(help="The pipeline file, YAML or JSON.", show_default=False)
_OFFLINE = typer.Option(False, "--offline", help="Do not ask the source; expressions are not checked then.")
_ROWS = typer.Option(20, "--rows", "-n", min=1, max=10_000, help="How many records to take.")


def validate(files: list[str] = _FILES, offline: bool = _OFFLINE, as_json: bool = JSON) -> None:
    """Check pipeline files.

    Shows every problem at once, with its place. Exit 2 if there is one, 1 if a source is away."""
    perform(_validate(files, offline, as_json), as_json=as_json)


async def _validate(files: list[str], offline: bool, as_json: bool) -> int:
    from dataflow import specfile
    from dataflow.errors import InvalidSpec
    from dataflow.validation import Report, check

    chosen = settings()
    code, results = DONE, []
    for file in files:
        try:
            loaded = specfile.load(file)
            report = await check(loaded, home=chosen.home, inbox=chosen.inbox_url, discover=not offline)
            pipeline = loaded.spec.pipeline_id
        except InvalidSpec as refused:
            report, pipeline = Report(problems=refused.problems), ""
        worth = INVALID if report.problems else FAILED if report.unreachable else DONE
        code = max(code, worth)
        results.append(_result(file, pipeline, report))
        if not as_json:
            _tell(file, pipeline, report, offline)
    if as_json:
        emit(results[0] if len(results) == 1 else {"status": _worst(results), "files": results})
    return code


def _worst(results: list[dict[str, Any]]) -> str:
    found = {result["status"] for result in results}
    return next(status for status in ("invalid", "unreachable", "valid") if status in found)


def _result(file: str, pipeline: str, report: Report) -> dict[str, Any]:
    from dataflow.schemas import format_schema

    discovery = report.discovery
    return {
        "file": file,
        "pipeline_id": pipeline,
        "status": "invalid" if report.problems else "unreachable" if report.unreachable else "valid",
        "problems": [problem_json(problem, file) for problem in report.problems],
        "unresolved": [problem_json(problem, file) for problem in report.unresolved],
        "unreachable": report.unreachable,
        "columns": format_schema(discovery.schema) if discovery else {},
        "deliveries": [
            {
                "source": pair.source,
                "sink": pair.sink,
                "type": pair.type,
                "delivery": pair.delivery,
                "columns": pair.schema,
            }
            for pair in report.pairs
        ],
    }


def _tell(file: str, pipeline: str, report: Report, offline: bool) -> None:
    for problem in (*report.problems, *report.unresolved):
        note(problem_line(problem, file))
    if report.problems:
        return
    say(f"{file}: {pipeline} is valid" + (" (the source was not asked)" if offline else ""))
    for pair in report.pairs:
        say(f"  {pair.source} -> {pair.sink} ({pair.type}): {pair.delivery.replace('_', ' ')}")
    if report.unresolved:
        note(f"{file}: references that are not set here: nothing behind them was checked")
    if report.unreachable:
        note(f"{file}: the source does not answer: {report.unreachable}")


def preview(file: str = _FILE, rows: int = _ROWS, as_json: bool = JSON) -> None:
    """Show a few records before and after every stage.

    No sink is opened, nothing is written."""
    perform(_preview(file, rows, as_json), as_json=as_json, file=file)


async def _preview(file: str, rows: int, as_json: bool) -> int:
    from dataflow import specfile
    from dataflow.preview import preview as previewed
    from dataflow.validation import check

    loaded = specfile.load(file)
    chosen = settings()
    report = await check(loaded, home=chosen.home, inbox=chosen.inbox_url)
    if wrong := (*report.problems, *report.unresolved):
        return refuse_file(wrong, as_json=as_json, file=file)
    views = await previewed(loaded.spec, rows, home=chosen.home, inbox=chosen.inbox_url)
    if as_json:
        emit({"pipeline_id": loaded.spec.pipeline_id, "stages": [_view_json(view) for view in views]})
        return DONE
    for view in views:
        _show(view)
    return DONE


def _view_json(view: View) -> dict[str, Any]:
    from dataflow.schemas import format_schema

    return {
        "stage": view.name,
        "type": view.label,
        "columns": format_schema(view.rows.schema),
        "rows": [_plain(row) for row in view.rows.to_dicts()],
        "filtered": view.filtered,
        "rejected": view.rejected.to_dicts(),
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity, and no bytes: their text, then."""
    match value:
        case float() if not isfinite(value):
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value


def _show(view: View) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dataflow.schemas import format_type

    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)  # nothing is cut for a program or a file that reads on
    went = f", {view.filtered} filtered out" if view.filtered else ""
    console.print(Text(f"{view.name} ({view.label}): {view.rows.height} rows{went}", style="bold"))
    shown = Table(show_edge=False, pad_edge=False)
    for name, kind in view.rows.schema.items():
        header = Text.assemble(name, "\n", (format_type(kind), "dim"))
        shown.add_column(header, justify="right" if kind.is_numeric() else "left", overflow="ellipsis", no_wrap=True)
    for row in view.rows.iter_rows():
        shown.add_row(*(Text("NULL", style="dim") if value is None else Text(_cell(value)) for value in row))
    console.print(shown)
    for refused in view.rejected.iter_rows(named=True):
        console.print(Text(f"  refused {refused['where']}: {refused['code']}: {refused['message']}", style="red"))
    console.print()


def _cell(value: object) -> str:
    return str(value).replace("\r", "\\r").replace("\n", "\\n")


COMMANDS = (validate, preview)
