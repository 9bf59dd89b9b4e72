"""Input against output, row by row, by DuckDB: every id exactly once, nothing else, the order of each key kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

_LINES = "read_json('{}', format = 'newline_delimited', columns = {{partition: 'INT', \"offset\": 'BIGINT', key: 'VARCHAR', value: 'VARCHAR'}})"  # noqa: E501


@dataclass(frozen=True)
class Finding:
    """`wrong` rows break the rule, `sample` shows the first of them."""

    rule: str
    wrong: int
    sample: list[tuple[object, ...]]


class Verdict:
    """Tables `src` (part, pos, id, key, seq, amount, note), `got` (lane, pos, id, key, seq, amount, note, total) and
    `dead` (id) are filled from what lies in the folder; `findings` compares them."""

    def __init__(self) -> None:
        self._db = duckdb.connect()

    def source_topic(self, dump: Path) -> None:
        self._db.execute(f"""create table src as select partition part, "offset" pos, (value->>'id')::BIGINT id,
            value->>'key' "key", (value->>'seq')::BIGINT seq, value->>'amount' amount, value->>'note' note
            from {_LINES.format(dump)}""")

    def source_files(self, folder: Path) -> None:
        columns = "{id: 'BIGINT', key: 'VARCHAR', seq: 'BIGINT', amount: 'VARCHAR', note: 'VARCHAR'}"
        self._db.execute(f"""create table src as select filename part, seq pos, id, "key", seq, amount,
            coalesce(note, '') note from read_csv('{folder}/*.csv', header = true, filename = true,
            columns = {columns})""")

    def sink_topic(self, dump: Path, dead: Path) -> None:
        self._db.execute(f"""create table got as select partition lane, "offset" pos, (value->>'id')::BIGINT id,
            value->>'key' "key", (value->>'seq')::BIGINT seq, (value->>'amount')::DOUBLE amount,
            value->>'note' note, (value->>'total')::DOUBLE total, key message_key from {_LINES.format(dump)}""")
        letters = _LINES.format(dead) if dead.exists() else "(select '{}' as value where false)"
        self._letters(f"select value->>'record' record from {letters}")

    def sink_files(self, out: Path, dead: Path) -> None:
        self._db.execute(f"""create table got as select regexp_extract(filename, 'sink-[0-9]+') lane,
            row_number() over (order by filename, file_row_number) pos, id, "key", seq, amount, coalesce(note, '') note,
            total, "key" message_key from read_parquet('{out}/*.parquet', filename = true, file_row_number = true)""")
        found = dead.is_dir() and any(dead.iterdir())
        letters = f"read_json('{dead}/*.jsonl', columns = {{record: 'VARCHAR'}})" if found else None
        self._letters(f"select record from {letters}" if letters else "select '' record where false")

    def _letters(self, query: str) -> None:
        self._db.execute(f"""create table dead as
            select regexp_extract(record, 'oops-([0-9]+)', 1)::BIGINT id from ({query})""")

    def counts(self) -> dict[str, int]:
        return {name: self._one(f"select count(*) from {name}") for name in ("src", "got", "dead")}

    def findings(self, messages: int) -> Iterator[Finding]:
        """One for each rule, broken or not."""
        self._db.execute("""create table wanted as select id, "key", seq, amount::DOUBLE amount, note,
            amount::DOUBLE * 2 total from src where amount not like 'oops-%' and id % 8 <> 5""")
        # A message whose amount cannot be read is refused before the filter looks at it.
        self._db.execute("create table letters as select id from src where amount like 'oops-%'")
        row = 'id, "key", seq, amount, note, total'
        rules = {
            "the input holds each id once": f"""select id, count(*) from (select id from src union all
                select * from range({messages})) group by id having count(*) <> 2""",
            "no id is missing": "select id from wanted where id not in (select id from got)",
            "no id is doubled": "select id, count(*), list([lane::VARCHAR, pos::VARCHAR]) from got group by id "
            "having count(*) > 1",
            "nothing else is there": "select * from got where id is null or id not in (select id from wanted)",
            "every row is what it should be": f"(select {row} from wanted except all select {row} from got) union all "
            f"(select {row} from got except all select {row} from wanted)",
            "a message has its row's key": 'select * from got where message_key is distinct from "key"',
            "a key stays in one place": 'select "key", list(distinct lane) from got group by "key" '
            "having count(distinct lane) > 1",
            "the order of each key is kept": """select * from (select *, lag(seq) over
                (partition by "key" order by lane, pos) before from got) where seq <= before""",
            "each broken record is one dead letter": "select id, count(*) filter (which = 1), count(*) filter "
            "(which = 2) from (select id, 1 which from letters union all select id, 2 from dead) group by id "
            "having count(*) filter (which = 1) <> 1 or count(*) filter (which = 2) <> 1",
        }
        for rule, query in rules.items():
            sample = self._db.execute(f"select * from ({query}) limit 10").fetchall()
            yield Finding(rule, self._one(f"select count(*) from ({query})") if sample else 0, sample)

    def _one(self, query: str) -> int:
        found = self._db.execute(query).fetchone()
        assert found is not None
        return int(found[0])
