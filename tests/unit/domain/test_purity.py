"""The domain runs inside a Temporal workflow: nothing in it may look at a clock, roll dice or reach outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dataflow.domain

FILES = sorted(Path(next(iter(dataflow.domain.__path__))).rglob("*.py"))
ALLOWED = {
    "__future__",
    "base64",
    "bisect",
    "collections",
    "dataclasses",
    "dataflow",
    "datetime",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "pydantic",
    "re",
    "typing",
    "uuid",
    "zlib",
}
IMPURE = {"now", "utcnow", "today", "fromtimestamp", "uuid1", "uuid4", "open", "print", "input"}


def used(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_domain_module_is_pure(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert set(imported(tree)) <= ALLOWED
    assert not set(used(tree)) & IMPURE


def test_the_check_sees_what_it_looks_for() -> None:
    tree = ast.parse("import random\nfrom uuid import uuid4\nx = datetime.now()")
    assert "random" in set(imported(tree)) - ALLOWED
    assert {"uuid4", "now"} <= set(used(tree)) & IMPURE
