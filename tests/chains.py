"""What holds for every chain of migrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from dataflow.journal.sql_engine import create_journal_engine
from migrations import Chain


def check_head_is_written_down(chain: Chain) -> None:
    config = Config()
    config.set_main_option("script_location", str(chain.scripts))
    assert ScriptDirectory.from_config(config).get_current_head() == chain.head


def check_makes_the_tables(chain: Chain, url: str, metadata: sa.MetaData, *, indexes: bool) -> None:
    """Its migrations make the tables that statements name: columns, what may be NULL in them, keys; and the `indexes`,
    where the tables name those too."""
    chain.upgrade(url)
    engine = create_journal_engine(url)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for table in metadata.tables.values():
            found = {column["name"]: column["nullable"] for column in inspector.get_columns(table.name)}
            assert found == {column.name: column.nullable for column in table.columns}
            keys = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert keys == [column.name for column in table.primary_key.columns]
            if indexes:
                made = {one["name"] for one in inspector.get_indexes(table.name)}
                assert made == {one.name for one in table.indexes}
    engine.dispose()
