"""The commands, put together, and the way in."""

from __future__ import annotations

import sys

import typer

from dataflow.allocator import keep_freed_buffers, starting
from dataflow.cli import (
    audit,
    connectors,
    doctor,
    events,
    files,
    ingest,
    lifecycle,
    look,
    migrate,
    projector,
    prove,
    run,
    search,
    serve,
    system,
)

app = typer.Typer(
    name="dataflow",
    help="Data pipelines that never lose or double a record, and remember everything that ever happened to them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_VERSION = typer.Option(False, "--version", help="Show the version and exit.", is_eager=True)


@app.callback()
def _root(version: bool = _VERSION) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"dataflow {installed('dataflow')}")
        raise typer.Exit


for module in (
    run,
    files,
    lifecycle,
    ingest,
    look,
    system,
    events,
    prove,
    serve,
    connectors,
    migrate,
    projector,
    audit,
    search,
    doctor,
):
    for command in module.COMMANDS:
        app.command()(command)


def main() -> None:
    """Entry point of the `dataflow` program."""
    starting()
    keep_freed_buffers()
    try:
        app()
    except BrokenPipeError:  # the reader of our output has gone: `dataflow events | head`
        sys.stderr.close()
        sys.exit(1)
