"""What the generator makes: four kinds of records, each a pure function of (seed, row index).

A column's value in row i comes from output i of the SplitMix64 generator (Steele, Lea, Flood: "Fast splittable
pseudorandom number generators", OOPSLA 2014) whose state starts at a hash of seed, kind and column name. So a record
never depends on chunking, splits, library versions or on which other columns are read, and a new column changes no
old one. Everything is integer arithmetic on whole columns; floats come from tables of decimal fractions (a column
divided by a scalar is multiplied by its inverse in Polars, which would give 39.900000000000006).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import polars as pl

TIME = pl.Datetime("us", "UTC")

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class RecordKind(StrEnum):
    USER = "user"
    EVENT = "event"
    ORDER = "order"
    SENSOR = "sensor"


def _u64(value: int) -> pl.Series:
    """One value as a column, which broadcasts: a bare Python int above 2**63 would not stay an unsigned integer."""
    return pl.Series([value], dtype=pl.UInt64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some row indices of one kind under one seed. `index` is UInt64; event times start at `start_us` (microseconds
    since 1970) and rise by `step_us` with each index."""

    kind: RecordKind
    seed: int
    index: pl.Series
    start_us: int
    step_us: int

    def draw(self, column: str) -> pl.Series:
        """64 random bits for each row (UInt64)."""
        start = int.from_bytes(blake2b(f"{self.seed}/{self.kind}/{column}".encode(), digest_size=8).digest(), "big")
        bits = self.index * _u64(_GOLDEN) + _u64(start)  # integer columns wrap at 2**64, which is what is meant
        bits = (bits ^ (bits // _u64(1 << 30))) * _u64(_MIX_1)
        bits = (bits ^ (bits // _u64(1 << 27))) * _u64(_MIX_2)
        return bits ^ (bits // _u64(1 << 31))

    def below(self, column: str, bound: int) -> pl.Series:
        """Uniform integers 0 <= n < bound (UInt64); the bias of the remainder is below bound / 2**64."""
        return self.draw(column) % _u64(bound)

    def skewed(self, column: str, bound: int) -> pl.Series:
        """Integers 0 <= n < bound (Int64) with many small ones: the product of two uniform draws, so a mean of about
        bound / 4."""
        product = self.below(f"{column}.1", bound) * self.below(f"{column}.2", bound)
        return (product // _u64(bound)).cast(pl.Int64)

    def pick(self, column: str, choices: Sequence[str | bool | None] | pl.Series) -> pl.Series:
        """One of `choices` for each row; repeat a choice to make it likelier."""
        return pl.Series(choices).gather(self.below(column, len(choices)))

    def ids(self) -> pl.Series:
        return self.index.cast(pl.Int64)

    def at(self) -> pl.Series:
        return (self.ids() * self.step_us + self.start_us).cast(TIME)


@dataclass(frozen=True, slots=True)
class Column:
    """`make` returns one value of type `dtype` for each row."""

    dtype: pl.DataType
    make: Callable[[Rows], pl.Series]


_COUNTRIES = ["FR", "DE", "US", "GB", "JP", "BR", "IN", "MA"]
_FIRST = ["Ada", "Björn", "Chen", "Dalia", "Emeka", "Fatima", "Grace", "Hiro", "Inès", "João", "Kofi", "Leïla"]
_LAST = ["Adeyemi", "Bauer", "Costa", "Dubois", "Evans", "Fischer", "Gupta", "Haddad", "Ito", "Jansen", "Kim", "O'Neil"]
_NAMES = [f"{first} {last}" for first in _FIRST for last in _LAST]
_NOTES = ["plain text note", "rush, please", 'gift "wrap"', "", 'call, then "leave" at door', None]
_PAGES = ["/", "/search?q=shoes", "/product/17", "/product/4711", "/cart", "/checkout", "/help"]
_REFERRERS = [None, None, "https://search.example/", "https://news.example/a,b"]
_SESSIONS = pl.Series([f"s-{n:05x}" for n in range(50_000)])
_SENSORS = pl.Series([f"sensor-{n:03}" for n in range(500)])
_SITES = ["north", "south", "roof", "cellar"]
_TENTHS = pl.Series([n / 10 for n in range(1001)])
_HUNDREDTHS = pl.Series([n / 100 for n in range(-1000, 32_050)])  # from -10.00; n is at index n + 1000
_TYPES = ["page_view"] * 6 + ["click"] * 3 + ["add_to_cart"] * 2 + ["purchase"]


def _email(rows: Rows) -> pl.Series:
    domain = rows.pick("email", ["example.com", "example.org", "example.net"])
    return pl.select(pl.concat_str(pl.lit("user"), rows.ids(), pl.lit("@"), domain)).to_series()


def _amount(rows: Rows) -> pl.Series:
    """0.50 to 320.49, a mean of about 80."""
    return _HUNDREDTHS.gather(rows.skewed("amount", 32_000) + 1050)


def _fault(rows: Rows) -> pl.Series:
    """Rare faults, one reading in 200."""
    return rows.below("fault", 200) == 0


def _temperature(rows: Rows) -> pl.Series:
    """Between -10.00 and 39.99 degrees Celsius; a faulty sensor reads nothing."""
    return _HUNDREDTHS.gather(rows.below("temperature", 5000)).zip_with(
        ~_fault(rows), pl.Series([None], dtype=pl.Float64)
    )


def _status(rows: Rows) -> pl.Series:
    return pl.Series(["ok", "fault"]).gather(_fault(rows).cast(pl.UInt32))


def _duration(rows: Rows) -> pl.Series:
    """Up to a minute on the page, in milliseconds; unknown for one event in ten."""
    known = rows.below("duration.known", 10) != 0
    return rows.skewed("duration_ms", 60_000).zip_with(known, pl.Series([None], dtype=pl.Int64))


KINDS: Mapping[RecordKind, Mapping[str, Column]] = {
    RecordKind.USER: {
        "user_id": Column(pl.Int64(), Rows.ids),
        "name": Column(pl.String(), lambda rows: rows.pick("name", _NAMES)),
        "email": Column(pl.String(), _email),
        "country": Column(pl.String(), lambda rows: rows.pick("country", _COUNTRIES)),
        "age": Column(pl.Int64(), lambda rows: rows.below("age", 73).cast(pl.Int64) + 18),
        "plan": Column(pl.String(), lambda rows: rows.pick("plan", ["free", "free", "free", "plus", "business"])),
        "newsletter": Column(pl.Boolean(), lambda rows: rows.pick("newsletter", [True, False, False, None])),
        "signed_up": Column(TIME, Rows.at),
    },
    RecordKind.EVENT: {
        "event_id": Column(pl.Int64(), Rows.ids),
        "user_id": Column(pl.Int64(), lambda rows: rows.below("user_id", 100_000).cast(pl.Int64)),
        "session": Column(pl.String(), lambda rows: rows.pick("session", _SESSIONS)),
        "type": Column(pl.String(), lambda rows: rows.pick("type", _TYPES)),
        "page": Column(pl.String(), lambda rows: rows.pick("page", _PAGES)),
        "referrer": Column(pl.String(), lambda rows: rows.pick("referrer", _REFERRERS)),
        "duration_ms": Column(pl.Int64(), _duration),
        "at": Column(TIME, Rows.at),
    },
    RecordKind.ORDER: {
        "order_id": Column(pl.Int64(), Rows.ids),
        "customer_id": Column(pl.Int64(), lambda rows: rows.below("customer_id", 100_000).cast(pl.Int64)),
        "country": Column(pl.String(), lambda rows: rows.pick("country", _COUNTRIES)),
        "amount": Column(pl.Float64(), _amount),
        "quantity": Column(pl.Int64(), lambda rows: rows.below("quantity", 9).cast(pl.Int64) + 1),
        "ts": Column(TIME, Rows.at),
        "note": Column(pl.String(), lambda rows: rows.pick("note", _NOTES)),
    },
    RecordKind.SENSOR: {
        "reading_id": Column(pl.Int64(), Rows.ids),
        "sensor": Column(pl.String(), lambda rows: rows.pick("sensor", _SENSORS)),
        "site": Column(pl.String(), lambda rows: rows.pick("site", _SITES)),
        "temperature": Column(pl.Float64(), _temperature),
        "humidity": Column(pl.Float64(), lambda rows: rows.pick("humidity", _TENTHS)),
        "battery": Column(pl.Int64(), lambda rows: rows.below("battery", 101).cast(pl.Int64)),
        "status": Column(pl.String(), _status),
        "at": Column(TIME, Rows.at),
    },
}


def schema(kind: RecordKind) -> pl.Schema:
    return pl.Schema({name: column.dtype for name, column in KINDS[kind].items()})


def frame(rows: Rows, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The records at `rows.index`, with all columns of their kind or those named, in the kind's order."""
    wanted = KINDS[rows.kind]
    names = [name for name in wanted if columns is None or name in columns]
    if not names:
        return pl.DataFrame(height=len(rows.index))
    return pl.DataFrame({name: wanted[name].make(rows) for name in names})
