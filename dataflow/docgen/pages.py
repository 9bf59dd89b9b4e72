"""The pages of docs/reference, rendered from the code they describe.

Keys, types, bounds, defaults and texts come from the models that check them, commands from the program's own help,
events from their classes: what is documented is what runs. A test fails when the pages on disk are not these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from dataflow.cli.app import app
from dataflow.components import Config, Kind
from dataflow.docgen.words import amount, default_text, type_text, word
from dataflow.domain import events, transitions
from dataflow.domain.coordinator import events as coordination
from dataflow.domain.record import EventRecord
from dataflow.domain.spec import PipelineSpec, SinkStage, SourceStage, TransformStage
from dataflow.domain.state import Status
from dataflow.registry import BUILT_IN, component
from dataflow.settings import FILE, PREFIX, Settings

WIDTH = 110

_HEAD = "<!-- Rendered by `just docs` from the code. Change it there. -->\n"


def pages() -> dict[str, str]:
    """File name -> content, for every page of the reference."""
    return {
        "pipeline-file.md": pipeline_file(),
        "connectors.md": stages(
            "Connectors",
            "Types of sources and sinks, and the keys each takes beside those of every"
            " [source](pipeline-file.md#source) or [sink](pipeline-file.md#sink).",
            [Kind.SOURCE, Kind.SINK],
        ),
        "transforms.md": stages(
            "Transforms",
            "Types of transforms, and the keys each takes beside those of every"
            " [transform](pipeline-file.md#transform). Expressions are SQL expressions over a record's columns.",
            [Kind.TRANSFORM],
        ),
        "cli.md": commands(),
        "settings.md": settings(),
        "events.md": event_page(),
    }


def pipeline_file() -> str:
    """The frame of a pipeline file; what a type adds is on the pages of connectors and transforms."""
    frame: list[tuple[str, str, type[BaseModel]]] = [
        ("Source", "Where records come from.", SourceStage),
        ("Transform", "What becomes of each record, in order.", TransformStage),
        ("Sink", "Where records go; each sink has its own lanes, epochs and failures.", SinkStage),
    ]
    parts = [
        _HEAD,
        "# Pipeline file\n",
        "YAML or JSON. Unknown keys are errors. `sink:` is short for `sinks:` with one entry. Durations are written"
        " `500ms`, `1s`, `5m`, `2h`, `1d`; sizes `512kB`, `64MiB`. `${env:NAME}` and `${secret:NAME}` are resolved in"
        " the worker, and never stored or shown.\n",
        _table(PipelineSpec),
    ]
    parts += [f"## {title}\n\n{text}\n\n{_table(model)}" for title, text, model in frame]
    for name, field in PipelineSpec.model_fields.items():
        model = _model(field.annotation)
        if model is not None and name not in ("source", "transforms", "sinks"):
            parts.append(f"## {name}\n\n{_table(model)}")
    return "\n".join(parts)


def stages(title: str, text: str, kinds: Sequence[Kind]) -> str:
    """One section for each built-in type of these kinds, one table of keys in each."""
    parts = [_HEAD, f"# {title}\n", f"{text}\n"]
    for name in sorted({name for kind in kinds for name in BUILT_IN[kind]}):
        for kind in kinds:
            if name in BUILT_IN[kind]:
                found = component(kind, name)
                heading = f"## {name}" if len(kinds) == 1 else f"## {name} {kind}"
                own = _doc(found.config, besides=Config)
                parts.append("\n\n".join(filter(None, [heading, found.summary, own, _table(found.config)])))
    return "\n".join(parts)


def commands() -> str:
    """The help of the program and of each command, as the program prints it."""
    parts = [
        _HEAD,
        "# Command line\n",
        _help(),
        "Exit status: 0 done (for `run`: the pipeline is completed), 1 failed, 2 an invalid pipeline file, setting or"
        " command line, 130 interrupted (143 by SIGTERM) after stopping the pipeline at an epoch boundary. Results go"
        " to standard output, progress and messages to standard error.\n",
    ]
    for command in app.registered_commands:
        name = command.name or _called(command.callback)
        parts.append(f"## dataflow {name}\n\n{_help(name)}")
    return "\n".join(parts)


def settings() -> str:
    """Each setting as environment variable and as key of the file."""
    rows = [
        (
            f"`{PREFIX}{name.upper()}`",
            f"`{name}`",
            type_text(field.annotation, field.metadata),
            default_text(field),
            _what(field),
        )
        for name, field in Settings.model_fields.items()
    ]
    text = (
        f"From the environment, then from `{FILE}` in the current directory. With nothing set DataFlow runs embedded."
    )
    return "\n".join([_HEAD, "# Settings\n", f"{text}\n", _rows(("variable", "key", "type", "default", "what"), rows)])


def event_page() -> str:
    """Envelope, event types with their fields, and which event may happen in which state."""
    parts = [
        _HEAD,
        "# Events\n",
        f"{_doc(events)}\n",
        f"## Envelope\n\n{_doc(EventRecord)}\n\n{_dataclass(EventRecord)}",
    ]
    for name, event in events.EVENT_TYPES.items():
        facts = f"Schema version {event.schema_version}."
        if event.extra_tags:
            facts += " Tags beside those that all have: " + ", ".join(f"`{tag}`" for tag in event.extra_tags) + "."
        parts.append("\n\n".join(filter(None, [f"## {name}", _doc(event), facts, _dataclass(event)])))
    parts.append(
        f"## Events of the coordinator\n\nIn its own stream, `coordinator/<task queue>`, with the tag"
        f" `{coordination.TAGS[0]}` alone.\n"
    )
    for name, happened in coordination.EVENT_TYPES.items():
        facts = f"Schema version {happened.schema_version}."
        parts.append("\n\n".join(filter(None, [f"### {name}", _doc(happened), facts, _dataclass(happened)])))
    parts.append("## Values\n\nWhat fields of events are made of.\n")
    parts += [f"### {value.__name__}\n\n{_doc(value)}\n\n{_dataclass(value)}" for value in _values()]
    moves = [
        (f"`{name}`", "<br>".join(f"{before} → {after}" for before, after in table.items()))
        for name, table in transitions.TABLE.items()
    ]
    states = ", ".join(Status)
    parts.append(
        f"## States\n\nStates: {states}. What is not in this table cannot happen.\n\n"
        + _rows(("event", "moves"), moves)
    )
    return "\n".join(parts)


def _help(*command: str) -> str:
    result = CliRunner().invoke(
        app, [*command, "--help"], prog_name="dataflow", terminal_width=WIDTH, max_content_width=WIDTH
    )
    if result.exit_code:
        raise SystemExit(f"dataflow {' '.join(command)} --help: {result.output}")
    lines = (line.rstrip() for line in result.output.strip().splitlines())
    return "```text\n" + "\n".join(lines) + "\n```\n"


def _called(callback: Callable[..., object] | None) -> str:
    return getattr(callback, "__name__", "").strip("_").replace("_", "-")


def _table(model: type[BaseModel]) -> str:
    """The keys of a model, those of models inside it dotted."""
    return _rows(("key", "type", "default", "what"), _keys(model))


def _keys(model: type[BaseModel], prefix: str = "") -> Iterable[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        inner = _model(field.annotation)
        key = f"{prefix}{field.alias or name}"
        yield f"`{key}`", type_text(field.annotation, field.metadata), default_text(field), _what(field)
        if inner is not None and issubclass(inner, Config):
            yield from _keys(inner, f"{key}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model behind `Model` or `Model | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _what(field: FieldInfo) -> str:
    return field.description or ""


def _dataclass(cls: type) -> str:
    """The fields of an event or of its envelope."""
    hints = get_type_hints(cls, include_extras=True)
    rows = []
    for field in fields(cls):
        default = "" if field.default in (MISSING, "", ()) else f"`{amount(field.default, None)}`"
        if field.default is MISSING and field.default_factory is MISSING:
            default = "**always there**"
        rows.append((f"`{field.name}`", word(hints[field.name]), default))
    return _rows(("field", "type", "default"), rows) if rows else "No fields.\n"


def _values() -> list[type]:
    """Every dataclass that a field of an event holds, directly or deeper, in the order of their first use."""
    found: dict[type, None] = {}

    def visit(hint: Any) -> None:
        for inner in get_args(hint):
            visit(inner)
        if isinstance(hint, type) and is_dataclass(hint) and hint not in found:
            found[hint] = None
            for deeper in get_type_hints(hint).values():
                visit(deeper)

    for event in (*events.EVENT_TYPES.values(), *coordination.EVENT_TYPES.values()):
        for hint in get_type_hints(event).values():
            visit(hint)
    return list(found)


def _doc(of: Any, besides: type | None = None) -> str:
    """The docstring that belongs to `of` itself, as paragraphs."""
    text = of.__doc__
    if (
        not text
        or (besides is not None and text == besides.__doc__)
        or text.startswith(f"{getattr(of, '__name__', '')}(")
    ):
        return ""
    return inspect.cleandoc(text).replace("\n", " ").replace("  ", "\n\n")


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    if not cells:
        return "No keys.\n"
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
