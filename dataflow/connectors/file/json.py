"""JSON documents: an array of objects, one object, or several, as a stream of one line for each element.

Elements are cut out by their brackets and strings, in bounded memory; what they hold is checked when they are read as
JSON lines. Positions and errors count elements, not lines. Commas between elements may be missing or one too many.
"""

from __future__ import annotations

import re

from dataflow.connectors.file.streams import BOM, Stream, skip

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_NESTED = rb"[{\[](?:[^{}\[\]\"]++|" + _STRING + rb")*+[}\]]"
for _ in range(6):
    _NESTED = rb"[{\[](?:[^{}\[\]\"]++|" + _STRING + rb"|" + _NESTED + rb")*+[}\]]"
_VALUE = re.compile(_NESTED, re.DOTALL)  # up to seven levels deep: one step of C for an element
_TOKEN = re.compile(_STRING + rb"|[{}\[\]]|\"", re.DOTALL)  # a bare quote begins a string that goes on
_SCALAR = re.compile(_STRING + rb"|[^\s,\]\[{}\"]++(?=[\s,\]\[{}\"])", re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*+")
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
_BLOCK = 1 << 20


class Elements:
    """The elements of a JSON document, one on each line, as a `Stream`."""

    def __init__(self, below: Stream, max_record: int) -> None:
        self._below = below
        self._window = max_record + 2
        self._data = b""
        self._ended = False
        self._inside = False  # the outermost array
        self._ready = b""
        self._first = True

    def read(self, size: int) -> bytes:
        while not self._ready and (self._data or self._inside or not self._ended):
            self._ready = self._lines()
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def whole_lines(self, back: int, size: int, end: bytes) -> bytes:
        return b""  # forward only

    def skip(self, size: int) -> None:
        skip(self.read, size)

    def consumed(self) -> int:
        return self._below.consumed()

    def close(self) -> None:
        self._below.close()

    def _lines(self) -> bytes:
        """The elements that end in the data at hand and one more block."""
        if not self._ended:
            more = self._below.read(_BLOCK)
            self._ended = not more
            self._data += more
        if self._first and self._data:
            self._data, self._first = self._data.removeprefix(BOM), False
        out: list[bytes] = []
        at = 0
        while True:
            at = _BETWEEN.match(self._data, at).end()  # type: ignore[union-attr]  # matches anywhere
            byte = self._data[at : at + 1]
            if byte == b"]" and self._inside:
                self._inside, at = False, at + 1
            elif byte == b"[" and not self._inside:
                self._inside, at = True, at + 1
            elif (end := self._end(at, byte)) > at:
                out.append(self._data[at:end].translate(_ONE_LINE) + b"\n")
                at = end
            else:
                break
        self._data = self._data[at:]
        if self._data and (self._ended or len(self._data) > self._window):
            out.append(self._rest())
        elif self._ended and not self._data and self._inside:
            out.append(b"[\n")  # the array is not closed: an element that is refused says so
            self._inside = False
        return b"".join(out)

    def _end(self, at: int, byte: bytes) -> int:
        """Where the element that begins at `at` ends; `at` where that is not in the data."""
        if byte not in (b"{", b"["):
            found = _SCALAR.match(self._data, at)
            return found.end() if found else at
        found = _VALUE.match(self._data, at)
        if found:
            return found.end()
        depth = 0
        for token in _TOKEN.finditer(self._data, at):
            if token[0] == b'"':
                return at
            depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token[0], 0)
            if depth == 0:
                return token.end()
        return at

    def _rest(self) -> bytes:
        """What cannot be told apart: the document is broken from here on, or an element is too long. One line, which
        is then refused; nothing behind it is read."""
        out = self._data[: self._window].translate(_ONE_LINE) + b"\n"
        self._data, self._ended, self._inside = b"", True, False
        return out
