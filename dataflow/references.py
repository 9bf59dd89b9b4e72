"""References in options: `${env:NAME}` and `${secret:NAME}`. Found anywhere, resolved in the worker alone.

The stored definition keeps the references as they were written (invariant 5): a value is looked up when a component is
built, handed to that component, and appears in no event, log or message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataflow.domain.spec import REFERENCE
from dataflow.errors import Rejected

SECRETS_DIR = "DATAFLOW_SECRETS_DIR"
SECRET_PREFIX = "DATAFLOW_SECRET_"
_ANY = re.compile(r"\$\{[^}]*\}?")


def contains(value: object) -> bool:
    """Whether a reference stands anywhere in this JSON value."""
    return any(True for _ in references(value))


def references(value: object) -> Iterator[str]:
    """Every reference in a JSON value, as written."""
    for text in _texts(value):
        yield from (found[0] for found in REFERENCE.finditer(text))


def malformed(text: str) -> Iterator[tuple[str, int, str]]:
    """What looks like a reference and is none: its text, its offset, and what it should have been."""
    for found in _ANY.finditer(text):
        inner = found[0][2:].rstrip("}")
        if REFERENCE.match(text, found.start()):
            continue
        if not found[0].endswith("}"):
            yield found[0], found.start(), "close it with }"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", inner):
            yield found[0], found.start(), f"write ${{env:{inner}}} or ${{secret:{inner}}}"
        else:
            yield found[0], found.start(), "references are ${env:NAME} and ${secret:NAME}"


@dataclass(frozen=True, slots=True)
class References:
    """Looks names up. A secret is a file of that name in `secrets` (the mounted secrets of containers), or the variable
    `DATAFLOW_SECRET_<NAME>`, in capitals with `_` for `.` and `-`."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    secrets: Path | None = None

    @classmethod
    def of_process(cls) -> References:
        """From this process's environment; secrets in the folder that `DATAFLOW_SECRETS_DIR` names."""
        folder = os.environ.get(SECRETS_DIR)
        return cls(os.environ, Path(folder) if folder else None)

    def lookup(self, kind: str, name: str) -> str:
        """Raises `Rejected` (UNRESOLVED_REFERENCE), which names the variable and never a value."""
        if kind == "env":
            if name in self.environ:
                return self.environ[name]
            raise _missing(f"the environment variable {name} is not set", "set it where the worker runs")
        variable = SECRET_PREFIX + re.sub(r"[.-]", "_", name).upper()
        if self.secrets is not None and (file := self.secrets / name).is_file():
            try:
                return file.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise _missing(f"the secret {name} cannot be read: {type(error).__name__}", str(file)) from None
        if variable in self.environ:
            return self.environ[variable]
        raise _missing(f"the secret {name} is not set", f"a file {name} in {SECRETS_DIR}, or the variable {variable}")

    def resolve(self, value: Any) -> Any:
        """The same JSON value with every reference replaced by what it stands for, as text."""
        match value:
            case str():
                return REFERENCE.sub(lambda found: self.lookup(found[1], found[2]), value)
            case Mapping():
                return {key: self.resolve(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self.resolve(inner) for inner in value]
            case _:
                return value


def resolve(options: Mapping[str, Any], references: References | None = None) -> dict[str, Any]:
    """Options of a component with references resolved; by default from this process's environment."""
    found: dict[str, Any] = (references or References.of_process()).resolve(options)
    return found


def _missing(message: str, hint: str) -> Rejected:
    return Rejected(message, code="UNRESOLVED_REFERENCE", hint=hint)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield from _texts(key)
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)
