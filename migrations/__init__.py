"""Schema migrations of the SQL stores, run by alembic from code: no ini file, and nothing to do once up to date.

`upgrade` is safe to call from several processes at once: one does the work, the others wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from dataflow.errors import Rejected
from dataflow.journal.sql_engine import create_journal_engine, translated, writing

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest revision, written down so that the usual start need not import alembic to learn it (a test compares)."""

SCRIPTS = Path(__file__).parent / "sql"


def current(target: str | Connection) -> str | None:
    """The revision of the schema, None where there is none yet."""
    with _connection(target) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if revision is None else str(revision)


def upgrade(target: str | Connection, revision: str = HEAD) -> None:
    """Bring the schema up to `revision`. A connection given must be in a transaction that may write.

    Raises `Rejected` where a newer version of DataFlow has been at work."""

    with _connection(target) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7235101)"))  # only one migrates; any number will do
        found = current(connection)
        if found == revision:
            return
        _refuse_unknown(found)
        from alembic import command

        command.upgrade(_config(connection), revision)


def downgrade(target: str | Connection, revision: str = "base") -> None:
    """Take the schema back to `revision`. Going below a table's first revision drops it, events and all."""
    from alembic import command

    with _connection(target) as connection:
        _refuse_unknown(current(connection))
        command.downgrade(_config(connection), revision)


def is_known(revision: str | None) -> bool:
    """Whether this version has a script of that revision; of the empty schema (None) it knows everything."""
    return revision is None or any((SCRIPTS / "versions").glob(f"{revision}_*.py"))


def _refuse_unknown(found: str | None) -> None:
    if not is_known(found):
        raise Rejected(
            f"the database has schema {found}, which this version (up to {HEAD}) does not know",
            code="SCHEMA_TOO_NEW",
            hint="install the DataFlow that wrote it, or a newer one",
        )


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _connection(target: str | Connection) -> Iterator[Connection]:
    if isinstance(target, Connection):
        yield target
        return
    engine = create_journal_engine(target)
    try:
        with translated("migrations"), writing(engine) as connection:
            yield connection
    finally:
        engine.dispose()


__all__ = ["HEAD", "SCRIPTS", "current", "downgrade", "is_known", "upgrade"]
