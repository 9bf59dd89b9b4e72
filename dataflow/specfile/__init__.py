"""Pipeline files: read, checked as a whole, every problem at once with its line and column.

`load` and `from_dict` check what can be known from the definition alone. What needs the outside (does the source exist,
do the expressions fit its columns) is `dataflow.validation.check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataflow.domain.spec import PipelineSpec
from dataflow.errors import InvalidSpec, Problem
from dataflow.specfile import codes
from dataflow.specfile.document import Document, parse, undotted
from dataflow.specfile.structure import examine

__all__ = ["LoadedSpec", "from_dict", "load", "loads"]


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A valid definition and, where it came from a text, the places of its parts."""

    spec: PipelineSpec
    document: Document | None = None
    path: Path | None = None

    def locate(self, problem: Problem) -> Problem:
        """The problem with line and column of the file, its path as it is written there.

        A position that the problem already has is one inside of the value at its path (an expression's)."""
        return _locate(problem, self.document) if self.document else problem


def load(path: Path | str) -> LoadedSpec:
    """Read a pipeline file: YAML, or JSON (strict in a file called `.json`). `spec.base` is its folder.

    Raises `InvalidSpec` with every problem found."""
    path = Path(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = {"FileNotFoundError": "there is no such file", "IsADirectoryError": "this is a folder"}
        message = reason.get(type(error).__name__, f"the file cannot be read: {error.strerror}")
        raise InvalidSpec([Problem("", message, codes.UNREADABLE, hint=str(path))]) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise InvalidSpec([Problem("", message, codes.UNREADABLE, "save the file as UTF-8", line, column)]) from error
    loaded = loads(text, base=path.absolute().parent, strict_json=path.suffix == ".json")
    return replace(loaded, path=path)


def loads(text: str, *, base: Path | str = "", strict_json: bool = False) -> LoadedSpec:
    """The same from a text. Raises `InvalidSpec` with every problem found."""
    document = parse(text, strict_json=strict_json)
    spec, problems = examine(document.data)
    located = [*document.problems, *(_locate(problem, document) for problem in problems)]
    if spec is None or located:
        raise InvalidSpec(sorted(located, key=lambda problem: (problem.line, problem.column)))
    return LoadedSpec(_based(spec, base), document)


def from_dict(data: Mapping[str, Any], base: Path | str = "") -> LoadedSpec:
    """The same from plain JSON values (the API's body, the SDK's argument); problems carry paths only."""
    spec, problems = examine(dict(data))
    if spec is None:
        raise InvalidSpec(problems)
    return LoadedSpec(_based(spec, base))


def _based(spec: PipelineSpec, base: Path | str) -> PipelineSpec:
    """`base:` of the definition itself is taken relative to where the definition stands."""
    folder = Path(base) / spec.base if base else Path(spec.base)
    return spec.model_copy(update={"base": str(folder.absolute()) if base or spec.base else ""})


def _locate(problem: Problem, document: Document) -> Problem:
    path = undotted(problem.path)
    if path[:2] == ("sinks", 0) and isinstance(document.data, dict) and "sinks" not in document.data:
        path = ("sink", *path[2:])
        problem = replace(problem, path=problem.path.replace("sinks[0]", "sink", 1))
    if problem.line:
        line, column = document.inside(path, problem.line, problem.column)
    else:
        line, column = document.place(
            path, key=problem.code in (codes.UNKNOWN_KEY, codes.DUPLICATE_KEY, codes.CONFLICT)
        )
    return replace(problem, line=line, column=column)
