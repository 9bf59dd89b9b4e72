"""What is no YAML or JSON at all, in words for people."""

from __future__ import annotations

import json
import re

from ruamel.yaml.error import MarkedYAMLError

from dataflow.errors import InvalidSpec, Problem
from dataflow.specfile import codes

_TRAILING_COMMA = re.compile(r",\s*[}\]]")


def broken(message: str, line: int, column: int, hint: str = "") -> Problem:
    """A problem of the text itself."""
    return Problem("", message, codes.SYNTAX, hint, line, column)


def strict_json(text: str) -> None:
    """Refuse what YAML would let pass in a JSON file. Raises `InvalidSpec`."""

    def refuse(name: str) -> None:
        raise InvalidSpec([broken(f"{name} is not JSON", 1, 1)])

    try:
        json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InvalidSpec([_of_json(text, error)]) from error
    except RecursionError as error:
        raise InvalidSpec([broken("the file is nested too deeply", 1, 1)]) from error


def _of_json(text: str, error: json.JSONDecodeError) -> Problem:
    """The decoder's message; of a trailing comma, which each Python tells otherwise and elsewhere, our own."""
    found = _TRAILING_COMMA.match(text, text.rfind(",", 0, error.pos + 1))
    if found and found.end() > error.pos:
        at = json.JSONDecodeError("", text, found.start())
        return broken("this is not JSON: a comma before the closing bracket", at.lineno, at.colno, "take it out")
    return broken(f"this is not JSON: {error.msg[:1].lower()}{error.msg[1:]}", error.lineno, error.colno)


def of_yaml(error: MarkedYAMLError) -> Problem:
    """ruamel's message in other words, where the usual cause is known."""
    said = str(error.problem or error.context or error)
    message, hint, opening = next(
        ((message, hint, opening) for part, message, hint, opening in _CAUSES if part in said), ("", "", False)
    )
    begun = error.context_mark
    # What is never closed is found out at the end of the file, far from where it was opened.
    mark = begun if opening and begun else error.problem_mark or begun
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if message:
        return broken(message.replace("%", said.partition("'")[2].partition("'")[0]), line, column, hint)
    since = f", in what begins on line {begun.line + 1}" if begun else ""
    return broken(f"this is not YAML: {said}{since}", line, column)


_CAUSES = (
    # what ruamel says, what is wrong (% is the first thing ruamel quotes), what to do, whether to show the opening
    (r"character '\t'", "a tab cannot indent", "use spaces", False),
    ("cannot start any token", "a value cannot begin with %", "put the value in quotes", False),
    ("mapping values are not allowed", "a ': ' where no mapping can begin", "put the value in quotes", False),
    ("end of stream", "a quote is opened here and never closed", "close it", True),
    ("but got '<stream end>'", "a bracket is opened here and never closed", "close it", True),
    ("undefined alias", "the alias % is not defined before", "define it with an & first", False),
    ("found another document", "only one document fits in a file", "remove the ---", False),
    ("but got '{'", "a { inside of { } needs quotes", 'references too: "${env:NAME}"', False),
    ("expected ',' or", "a comma is missing here, or the wrong bracket closes", "", False),
    ("but found '<scalar>'", "text goes on after a closing quote", "put all of it in quotes", False),
    ("expected <block end>", "this line does not belong to what is above it", "check the indentation", False),
)
