"""Functions of text. Positions count characters from 1; patterns are regular expressions of Rust's regex crate."""

from __future__ import annotations

import re
from functools import reduce

import polars as pl

from dataflow.expressions import casts, types
from dataflow.expressions.functions.table import Call, function
from dataflow.expressions.values import Value


@function("upper ucase", "text")
def upper(call: Call) -> pl.Expr:
    return call[0].str.to_uppercase()


@function("lower lcase", "text")
def lower(call: Call) -> pl.Expr:
    return call[0].str.to_lowercase()


@function("initcap", "text")
def initcap(call: Call) -> pl.Expr:
    return call[0].str.to_titlecase()


@function("reverse", "text")
def reverse(call: Call) -> pl.Expr:
    return call[0].str.reverse()


@function("trim", "text", "text?")
def trim(call: Call) -> pl.Expr:
    return call[0].str.strip_chars(_stripped(call))


@function("ltrim", "text", "text?")
def ltrim(call: Call) -> pl.Expr:
    return call[0].str.strip_chars_start(_stripped(call))


@function("rtrim", "text", "text?")
def rtrim(call: Call) -> pl.Expr:
    return call[0].str.strip_chars_end(_stripped(call))


@function("length len", "sized")
def length(call: Call) -> Value:
    if types.is_text(call.args[0].dtype):
        return call.value(call[0].str.len_chars().cast(pl.Int64), pl.Int64())
    return call.value(_as_list(call).list.len().cast(pl.Int64), pl.Int64())


@function("substr substring", "text", "int", "int?")
def substr(call: Call) -> pl.Expr:
    """From a position counted from 1, or from the end where it is negative."""
    start = call.whole(1, "the position of SUBSTR")
    count = call.whole(2, "the length of SUBSTR") if len(call) > 2 else None
    if count is not None and count < 0:
        raise call.fail("the length of SUBSTR is not negative", 2)
    if start == 0 and count is not None:
        count = max(count - 1, 0)  # position 0 stands before the first character
    if start < 0:
        # A position before the first character eats up the length, as position 0 does.
        size = call[0].str.len_chars().cast(pl.Int64)
        begin = pl.max_horizontal(size + start, pl.lit(0, pl.Int64))
        if count is None:
            return call[0].str.slice(begin)
        end = pl.max_horizontal(size + start + count, pl.lit(0, pl.Int64))
        return call[0].str.slice(begin, end - begin)
    return call[0].str.slice(max(start - 1, 0), count)


@function("left", "text", "int")
def left(call: Call) -> pl.Expr:
    return call[0].str.head(call.whole(1, "the length of LEFT"))


@function("right", "text", "int")
def right(call: Call) -> pl.Expr:
    return call[0].str.tail(call.whole(1, "the length of RIGHT"))


@function("replace", "text", "text", "text")
def replace(call: Call) -> pl.Expr:
    sought = call.constant(1, "what REPLACE looks for")
    replaced = call[0].str.replace_all(sought, call[2].fill_null(""), literal=True) if sought else call[0]
    return pl.when(call[2].is_not_null()).then(replaced)


@function("starts_with startswith prefix", "text", "text")
def starts_with(call: Call) -> pl.Expr:
    return call[0].str.starts_with(call[1])


@function("ends_with endswith suffix", "text", "text")
def ends_with(call: Call) -> pl.Expr:
    return call[0].str.ends_with(call[1])


@function("contains", "sized", "any")
def contains(call: Call) -> pl.Expr:
    if types.is_text(call.args[0].dtype):
        if not types.is_text(call.args[1].dtype) and not types.is_null(call.args[1].dtype):
            raise call.fail(f"CONTAINS looks for text in text, this is {types.name(call.args[1].dtype)}", 1)
        return call[0].str.contains(call[1].cast(pl.String), literal=True)
    return _as_list(call).list.contains(call[1], nulls_equal=False)


@function("instr strpos", "text", "text")
def instr(call: Call) -> pl.Expr:
    """The position counted from 1, 0 where it is not there."""
    sought = call.constant(1, "what INSTR looks for")
    if not sought:
        return pl.when(call[0].is_not_null()).then(pl.lit(1, pl.Int64))
    found = call[0].str.contains(sought, literal=True)
    before = call[0].str.split(sought).list.first().str.len_chars().cast(pl.Int64)
    return pl.when(found).then(before + 1).when(call[0].is_not_null()).then(pl.lit(0, pl.Int64))


@function("concat", "any", "any*")
def concat(call: Call) -> pl.Expr:
    """Joins the arguments as text; NULL counts as nothing."""
    return pl.concat_str([_shown(call, n) for n in range(len(call))], ignore_nulls=True)


@function("concat_ws", "text", "any", "any*")
def concat_ws(call: Call) -> pl.Expr:
    separator = call.constant(0, "the separator of CONCAT_WS")
    return pl.concat_str([_shown(call, n) for n in range(1, len(call))], separator=separator, ignore_nulls=True)


@function("repeat", "text", "int")
def repeat(call: Call) -> pl.Expr:
    return pl.concat_str([call[0]] * max(call.whole(1, "the count of REPEAT"), 0) or [call[0].str.head(0)])


@function("lpad", "text", "int", "text?")
def lpad(call: Call) -> pl.Expr:
    return _padded(call, front=True)


@function("rpad", "text", "int", "text?")
def rpad(call: Call) -> pl.Expr:
    return _padded(call, front=False)


@function("split_part", "text", "text", "int")
def split_part(call: Call) -> pl.Expr:
    """The n-th part counted from 1, from the end where negative; the empty text where there is none."""
    n = call.whole(2, "the number of the part")
    if n == 0:
        raise call.fail("parts are counted from 1", 2)
    parts = call[0].str.split(call.constant(1, "the separator of SPLIT_PART"))
    found = parts.list.get(n - 1 if n > 0 else n, null_on_oob=True).fill_null("")
    return pl.when(call[0].is_not_null()).then(found)


@function("split string_split", "text", "text")
def split(call: Call) -> pl.Expr:
    return call[0].str.split(call.constant(1, "the separator of SPLIT"))


@function("regexp_matches regexp_like", "text", "text", "text?")
def regexp_matches(call: Call) -> pl.Expr:
    return call[0].str.contains(_pattern(call, 2))


@function("regexp_replace", "text", "text", "text", "text?")
def regexp_replace(call: Call) -> pl.Expr:
    """Replaces the first match, every match with the option `g`; `\\1` is the first group."""
    raw = call.constant(2, "the replacement of REGEXP_REPLACE").replace("$", "$$")
    new = re.sub(r"\\(\d)", r"${\1}", raw)
    pattern, options = _pattern(call, 3), _options(call, 3)
    return call[0].str.replace_all(pattern, new) if "g" in options else call[0].str.replace(pattern, new)


@function("regexp_extract", "text", "text", "int?")
def regexp_extract(call: Call) -> pl.Expr:
    """The match, or one of its groups; NULL where there is none."""
    group = call.whole(2, "the group of REGEXP_EXTRACT") if len(call) > 2 else 0
    pattern = _pattern(call, None)
    if group < 0 or group > re.compile(re.sub(r"\(\?<", "(?P<", pattern)).groups:
        raise call.fail(f"the pattern has no group {group}", 2)
    return call[0].str.extract(pattern, group)


def _stripped(call: Call) -> str | None:
    return call.constant(1, "the characters to trim") if len(call) > 1 else " "


def _as_list(call: Call) -> pl.Expr:
    return call[0].arr.to_list() if isinstance(call.args[0].dtype, pl.Array) else call[0]


def _shown(call: Call, n: int) -> pl.Expr:
    return casts.cast(call.scope, call.node.expressions[n], call.args[n], pl.String(), lenient=True).expr


def _padded(call: Call, *, front: bool) -> pl.Expr:
    size = call.whole(1, "the length of a padded text")
    fill = call.constant(2, "what to pad with") if len(call) > 2 else " "
    if not 0 <= size <= 10_000 or not fill:
        raise call.fail("text is padded to a length from 0 to 10000, with at least one character")
    need = size - pl.min_horizontal(call[0].str.len_chars().cast(pl.Int64), pl.lit(size))
    padding = pl.lit((fill * size)[:size]).str.slice(0, need)
    kept = call[0].str.head(size)
    return pl.concat_str([padding, kept] if front else [kept, padding])


def _options(call: Call, n: int) -> str:
    options = call.constant(n, "the options of a pattern") if len(call) > n else ""
    if unknown := set(options) - set("gims"):
        raise call.fail(f"unknown option {unknown.pop()!r} of a pattern", n, hint="i, m, s, and g to replace all")
    return options


def _pattern(call: Call, options: int | None) -> str:
    """Argument 1 as a pattern that is known to be one. Raises `InvalidSpec`."""
    pattern = call.constant(1, "a pattern")
    flags = "".join(sorted(set(_options(call, options)) - {"g"})) if options else ""
    pattern = reduce(lambda body, flag: f"(?{flag}){body}", flags, pattern)
    try:
        pl.select(pl.lit("").str.contains(pattern))
    except pl.exceptions.PolarsError as error:
        reason = " ".join(str(error).split("error:")[-1].split("\n")[0].split())
        raise call.fail(f"this is no regular expression: {reason}", 1) from error
    return pattern
