"""Where a position inside of a value stands in the file: quotes, escapes and block styles taken into account."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ESCAPES = {"x": 4, "u": 6, "U": 10}
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_BREAK = re.compile(r"\r\n|\r|\n")


def lines(text: str) -> list[str]:
    """The lines of a YAML text: form feeds and the like do not end one, as they do for `str.splitlines`."""
    return _BREAK.split(text)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it is written. `line`, `column`, `end_line` are ruamel's marks and count from 0."""

    style: str
    line: int
    column: int
    end_line: int
    text: str
    lines: list[str] = field(repr=False)

    def place(self, line: int, column: int) -> tuple[int, int]:
        """File line and column, from 1, of `line` and `column`, from 1, of the value's own text.

        Exact for one-line values and literal (`|`) blocks; the value's first line for folded ones, whose line breaks
        are gone."""
        if self.style == "|":
            return self._literal(line, column)
        if self.style == ">" or self.end_line != self.line or line != 1:
            return self.line + 1, self.column + 1
        raw = self.lines[self.line]
        if self.style and raw[self.column : self.column + 1] != self.style:  # an anchor or a tag stands before it
            return self.line + 1, self.column + 1
        at = self.column + len(self.style)
        for _ in range(column - 1):
            at += self._width(raw, at)
        return self.line + 1, at + 1

    def _literal(self, line: int, column: int) -> tuple[int, int]:
        wanted = self.line + line
        own = _BREAK.split(self.text)
        if wanted >= len(self.lines) or line > len(own):
            return self.line + 1, self.column + 1
        indent = len(self.lines[wanted]) - len(own[line - 1])
        return wanted + 1, max(indent, 0) + column

    def _width(self, raw: str, at: int) -> int:
        """Characters of the file that make up one character of the value."""
        if self.style == "'" and raw.startswith("''", at):
            return 2
        if self.style == '"' and raw.startswith("\\", at):
            pair = _PAIR.match(raw, at)  # JSON's way of writing one character outside the basic plane
            return len(pair[0]) if pair else _ESCAPES.get(raw[at + 1 : at + 2], 2)
        return 1
