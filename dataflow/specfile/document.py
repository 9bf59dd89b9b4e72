"""The text of a pipeline file as plain values, with the place of every key and value kept beside them.

YAML 1.2 (so `yes`, `no` and `1:30` stay text) through ruamel's node tree; JSON is read by the same way after a strict
look of its own. Values are JSON values: dates stay the text they were written as, keys are always text, `.nan` and
`.inf` are refused. Aliases and `<<` merges work, bounded, so that a small file cannot unfold into a huge one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from dataflow.errors import InvalidSpec, Problem
from dataflow.specfile import codes, syntax
from dataflow.specfile.scalars import Scalar, lines

_PREFIX = "tag:yaml.org,2002:"
MAX_VALUES = 100_000
"""Values in one file, aliases unfolded. The largest real pipeline files have some hundreds."""

Path = tuple[str | int, ...]


def dotted(path: Path) -> str:
    """`("transforms", 0, "where")` -> `transforms[0].where`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def undotted(text: str) -> Path:
    """The inverse of `dotted`, for keys without dots and brackets."""
    steps: list[str | int] = []
    for part in text.split("."):
        name, *indices = part.split("[")
        if name:
            steps.append(name)
        steps.extend(int(index[:-1]) if index[:-1].isdigit() else index[:-1] for index in indices)
    return tuple(steps)


def children(data: Any, step: str | int) -> list[Any]:
    """What lies one step down in plain data: one value, or none."""
    if isinstance(data, dict):
        return [data[step]] if step in data else []
    if isinstance(data, list | tuple):
        return [data[step]] if isinstance(step, int) and step < len(data) else []
    return []


@dataclass(slots=True)
class Document:
    """`data` holds plain values; `places` says where each path begins, keys first: (line, column), from 1."""

    data: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    scalars: dict[Path, Scalar] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the value (or of its key) at `path`; of the nearest parent where it is not written.

        A parent is shown by its key: that is the line people look for when something in it is missing."""
        if not key and path in self.values:
            return self.values[path]
        for length in range(len(path), 0, -1):
            if found := self.keys.get(path[:length]) or self.values.get(path[:length]):
                return found
        return self.values.get((), (1, 1))

    def inside(self, path: Path, line: int, column: int) -> tuple[int, int]:
        """Where in the file the position `line`, `column` of the text at `path` is, as exactly as its style allows."""
        scalar = self.scalars.get(path)
        return scalar.place(line, column) if scalar and line else self.place(path)


def parse(text: str, *, strict_json: bool = False) -> Document:
    """Read the text. Raises `InvalidSpec` where it is no YAML (or JSON) at all; `Document.problems` holds the rest:
    duplicate keys, unknown tags, values that have no JSON form."""
    if strict_json:
        syntax.strict_json(text)
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        raise InvalidSpec([syntax.of_yaml(error)]) from error
    except ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, error.position - before.rfind("\n"))
        name = f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)
        raise InvalidSpec([syntax.broken(f"the character {name} is not allowed here", *place)]) from error
    except RecursionError as error:
        raise InvalidSpec([syntax.broken("the file is nested too deeply", 1, 1)]) from error
    except YAMLError as error:
        raise InvalidSpec([syntax.broken(str(error), 1, 1)]) from error
    document = Document()
    if root is None:
        raise InvalidSpec([syntax.broken("the file is empty", 1, 1)])
    _Builder(lines(text), document).build(root)
    return document


class _Builder:
    """Turns nodes into values, noting places and collecting problems on the way."""

    def __init__(self, lines: list[str], document: Document) -> None:
        self.lines = lines
        self.document = document
        self.seen = 0
        self.open: list[Node] = []

    def build(self, root: Node) -> None:
        try:
            self.document.data = self.value(root, ())
        except RecursionError as error:
            raise InvalidSpec([syntax.broken("the file is nested too deeply", 1, 1)]) from error

    def complain(self, path: Path, message: str, node: Node, code: str, hint: str = "") -> None:
        line, column = _start(node)
        self.document.problems.append(Problem(dotted(path), message, code, hint, line, column))

    def value(self, node: Node, path: Path) -> Any:
        self.seen += 1
        if self.seen > MAX_VALUES:
            raise InvalidSpec([syntax.broken(f"the file unfolds to more than {MAX_VALUES} values", *_start(node))])
        if any(node is parent for parent in self.open):
            self.complain(path, "this alias contains itself", node, codes.SYNTAX)
            return None
        self.document.values[path] = _start(node)
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        self.open.append(node)
        try:
            if isinstance(node, MappingNode):
                return self.mapping(node, path)
            assert isinstance(node, SequenceNode)
            return [self.value(item, (*path, n)) for n, item in enumerate(node.value)]
        finally:
            self.open.pop()

    def mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.complain(path, "a key must be text", key, codes.WRONG_TYPE)
                continue
            name = self.unicode(str(key.value), key, path)
            inner = (*path, name)
            if _tag(key) == "merge":
                for source in value.value if isinstance(value, SequenceNode) else [value]:
                    found = self.value(source, path)
                    if isinstance(found, dict):
                        merged = {**found, **merged}
                    else:
                        self.complain(path, "<< takes a mapping, or a list of them", value, codes.WRONG_TYPE)
                continue
            if name in result:
                line, _ = self.document.keys[inner]
                self.complain(
                    inner, f"the key {name!r} is given twice", key, codes.DUPLICATE_KEY, f"first: line {line}"
                )
                continue
            self.document.keys[inner] = _start(key)
            result[name] = self.value(value, inner)
        return {**merged, **result}

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        start, end = node.start_mark, node.end_mark
        style = node.style or ""
        self.document.scalars[path] = Scalar(style, start.line, start.column, end.line, str(node.value), self.lines)
        text = str(node.value)
        match _tag(node):
            case "str" | "timestamp" | "value":
                return self.unicode(text, node, path)
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return _integer(text)
            case "float":
                return self.number(text, node, path)
            case other:
                self.complain(path, f"the tag {other!r} is not known here", node, codes.SYNTAX, "leave it out")
                return None

    def number(self, text: str, node: ScalarNode, path: Path) -> float | None:
        lowered = text.lower()
        found = float(lowered.replace("_", "")) if not lowered.lstrip("+-").startswith((".inf", ".nan")) else None
        if found is None or not isfinite(found):
            self.complain(path, f"{text} is not a number that can be stored", node, codes.BAD_VALUE)
            return None
        return found

    def unicode(self, text: str, node: ScalarNode, path: Path) -> str:
        """JSON writes characters outside the basic plane as two escapes: join them."""
        if not any("\ud800" <= char <= "\udfff" for char in text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.complain(path, "half of a surrogate pair is not a character", node, codes.BAD_VALUE)
            return text.encode("utf-8", "replace").decode("utf-8")


def _tag(node: Node) -> str:
    return str(node.tag).removeprefix(_PREFIX)


def _start(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _integer(text: str) -> int:
    plain = text.replace("_", "").lower()
    digits = plain.lstrip("+-")
    return int(plain, 0) if digits[:2] in ("0x", "0o", "0b") else int(plain, 10)
