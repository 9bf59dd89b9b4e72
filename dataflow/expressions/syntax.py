"""Text -> sqlglot tree. SQL's expression grammar, with `==`, `&&`, `||`, `!` and `$.path` as the original wrote them.

The spellings are translated as tokens, so quotes are respected. Function names are left alone here: what they mean is
the business of `dataflow.expressions.functions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, ClassVar

from sqlglot import exp, parser, tokens
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, ParseError, TokenError
from sqlglot.tokenizer_core import Token, TokenType

from dataflow.errors import InvalidSpec, Problem

LONGEST = 20_000
"""Characters of an expression at most."""
NESTED = 30
"""Levels of parentheses at most, CASE and runs of NOT included: sqlglot takes some sixteen Python frames for each."""
DEEPEST = 100
"""Levels of the tree at most: terms of one sum, for example. Chains of AND and OR may be of any length."""

_CASTS = ("CAST", "TRY_CAST", "EXTRACT")


class _Located(ParseError):
    """A syntax error with the token it was noticed at."""

    def __init__(self, message: str, token: Token | None) -> None:
        super().__init__(message, errors=[{"description": message}])
        self.noticed = token


class ExpressionParser(parser.Parser):
    """sqlglot's parser, with function calls kept as they were written and errors raised where they are noticed."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {name: parser.Parser.FUNCTION_PARSERS[name] for name in _CASTS}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {"CASE": parser.Parser.NO_PAREN_FUNCTION_PARSERS["CASE"]}
    SUBQUERY_PREDICATES: ClassVar[dict[Any, Any]] = {}
    FACTOR: ClassVar[dict[Any, Any]] = {**parser.Parser.FACTOR, TokenType.DIV: exp.IntDiv}

    def raise_error(self, message: str, token: Any = None) -> None:
        raise _Located(message, token or (self._curr if self._curr.token_type != TokenType.SENTINEL else None))


class ExpressionDialect(Dialect):
    """The dialect of filter and map expressions."""

    class Tokenizer(tokens.Tokenizer):
        KEYWORDS: ClassVar[dict[str, TokenType]] = {
            **{word: kind for word, kind in tokens.Tokenizer.KEYWORDS.items() if not word.startswith(("{", "/*+"))},
            "||": TokenType.OR,
            "&&": TokenType.AND,
            "//": TokenType.DIV,
            # INT is 64 bits wide here; the names that say 32 need a token of their own.
            "INT32": TokenType.MEDIUMINT,
            "INT4": TokenType.MEDIUMINT,
            **{name: TokenType[name] for name in ("UTINYINT", "USMALLINT", "UINT", "UBIGINT")},
        }

    Parser = ExpressionParser


_DIALECT = ExpressionDialect()
_BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def problem(text: str, message: str, offset: int, *, hint: str = "", code: str = "invalid_expression") -> InvalidSpec:
    """The error for something at `offset` of the expression `text`."""
    line, column = position(text, min(offset, len(text)))
    return InvalidSpec([Problem("", message, code=code, hint=hint, line=line, column=column)])


def parse(text: str, names: Iterable[str] = ()) -> exp.Expr:
    """The tree of one expression. `names` are the columns there are: used for hints only.

    Raises `InvalidSpec` with line and column of the first thing that is wrong."""
    if not text.strip():
        raise problem(text, "the expression is empty", 0)
    if len(text) > LONGEST:
        raise problem(text, f"the expression is longer than {LONGEST} characters", LONGEST)
    found = _tokens(text)
    if not found:
        raise problem(text, "the expression is only a comment", 0)
    for first, *rest in zip(found, found[1:], found[2:], found[3:], found[4:], strict=False):
        if _BARE_DATE.fullmatch(text[first.start : rest[-1].end + 1]):
            bare = text[first.start : rest[-1].end + 1]
            raise problem(text, f"{bare} is a subtraction, not a date", first.start, hint=f"write DATE '{bare}'")
    _limit_nesting(text, found)
    reader = ExpressionParser(dialect=_DIALECT, error_level=ErrorLevel.IMMEDIATE)
    try:
        trees = reader.parse_into(exp.Condition, found, text)
    except ParseError as error:
        raise _syntax_error(text, found, error, frozenset(names)) from None
    except RecursionError:  # a form of nesting that `_limit_nesting` does not count
        raise problem(text, "the expression is nested too deeply", 0) from None
    if len(trees) != 1 or trees[0] is None:
        raise problem(text, "unexpected ';': one expression is wanted", max(text.find(";"), 0))
    _limit_depth(text, trees[0])
    return trees[0]


def parse_type(text: str) -> exp.DataType | None:
    """The type a name such as `DECIMAL(10, 2)` stands for in sqlglot's terms; None where it is none."""
    reader = ExpressionParser(dialect=_DIALECT, error_level=ErrorLevel.IMMEDIATE)
    try:
        trees = reader.parse_into(exp.DataType, _DIALECT.tokenize(text), text)
    except (ParseError, TokenError):
        return None
    return trees[0] if len(trees) == 1 and isinstance(trees[0], exp.DataType) else None


def columns(text: str) -> frozenset[str]:
    """The columns an expression reads, before any schema is known: of a dotted path, its first part."""
    parts = [column.parts[0].name for column in parse(text).find_all(exp.Column)]
    return frozenset(parts)


def offset(node: exp.Expr) -> int:
    """Where a node begins in its text: its own mark, or the first mark below it, or the nearest one above."""
    marks = [found for below in node.walk() if isinstance(found := below.meta.get("start"), int)]
    if marks:
        return min(marks)
    return offset(node.parent) if node.parent is not None else 0


def _tokens(text: str) -> list[Token]:
    try:
        found = _DIALECT.tokenize(text)
    except TokenError as error:
        at = _open_quote(text)
        if at is None:
            raise problem(text, f"cannot be read: {error}", 0) from None
        quote = text[at]
        kind = "text" if quote == "'" else "name"
        raise problem(text, f"the {kind} that begins here is not closed", at, hint=f"add {quote}") from None
    kept: list[Token] = []
    skip = False
    for token, following in zip_longest(found, found[1:]):
        if skip:
            skip = False
        elif token.text == "$" and token.token_type != TokenType.STRING and following and following.text == ".":
            skip = True  # `$.user.age`: a path from the record's root, which is where every path begins
        else:
            kept.append(token)
    return kept


def _open_quote(text: str) -> int | None:
    opened: int | None = None
    for at, character in enumerate(text):
        if opened is None and character in "'\"":
            opened = at
        elif opened is not None and character == text[opened]:
            opened = None
    return opened


def _syntax_error(text: str, found: list[Token], error: ParseError, names: frozenset[str]) -> InvalidSpec:
    located = error.__cause__ if isinstance(error.__cause__, _Located) else error  # parse_into wraps what it catches
    noticed = located.noticed if isinstance(located, _Located) else None
    message = str(error.errors[0]["description"]) if error.errors else str(error)
    before = [token for token in found if noticed is None or token.start < noticed.start]
    last = before[-1] if before else None
    written = _written(text, noticed) if noticed else ""
    hint = ""
    if written in names:
        hint = f'{written} is a word of the language: as a column write "{written}" in double quotes'
    if noticed is None or not noticed.text:
        after = f" after {_written(text, last)!r}" if last else ""
        missing = "')' is missing" if "Expecting )" in message else f"something is missing{after}"
        return problem(text, missing, last.end + 1 if last else 0, hint=hint)
    if message.startswith("Required keyword") and last:
        return problem(text, f"something is missing between {_written(text, last)!r} and {written!r}", last.start)
    if "Expecting )" in message:
        return problem(text, f"')' is missing before {written!r}", noticed.start, hint=hint)
    return problem(text, f"unexpected {written!r}", noticed.start, hint=hint)


def _written(text: str, token: Token) -> str:
    return text[token.start : token.end + 1]


def _limit_nesting(text: str, found: list[Token]) -> None:
    level = run = 0
    for token in found:
        word = token.text.upper() if token.token_type != TokenType.STRING else ""
        run = run + 1 if word in ("NOT", "!", "-", "+") else 0
        level += (word in ("(", "[", "CASE")) - (word in (")", "]", "END"))
        if level + run > NESTED:
            raise problem(text, f"the expression is nested deeper than {NESTED} levels", token.start)


def _limit_depth(text: str, tree: exp.Expr) -> None:
    stack = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > DEEPEST:
            raise problem(text, f"the expression has more than {DEEPEST} levels", offset(node))
        for child in node.iter_expressions():
            # A chain of ANDs or ORs leans to the left; it is balanced when compiled, so its length is no depth.
            flat = isinstance(node, exp.And | exp.Or) and type(child) is type(node)
            stack.append((child, depth if flat else depth + 1))
