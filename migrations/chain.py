"""A chain of numbered alembic revisions over one set of tables, run from code: no ini file, nothing to do once up to
date. Each chain notes where it is in a table of its own, so that several may share a database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from dataflow.errors import Rejected
from dataflow.journal.sql_engine import create_journal_engine, translated, writing

if TYPE_CHECKING:
    from alembic.config import Config


@dataclass(frozen=True, slots=True)
class Chain:
    """`head` is the newest revision, written down so that the usual start need not import alembic to learn it (a test
    compares). `lock` is any number that no other chain has: only one process migrates PostgreSQL at a time."""

    scripts: Path
    head: str
    table: str
    lock: int

    def current(self, target: str | Connection) -> str | None:
        """The revision of the schema, None where there is none yet."""
        with _connection(target) as connection:
            if not inspect(connection).has_table(self.table):
                return None
            revision = connection.execute(text(f"SELECT version_num FROM {self.table}")).scalar()
            return None if revision is None else str(revision)

    def upgrade(self, target: str | Connection, revision: str = "") -> None:
        """Bring the schema up to `revision`, the head by default (in one go where there is nothing yet, see `whole`).
        A connection given must be in a transaction that may write. Safe to call from several processes at once: one
        does the work, the others wait for it.

        Raises `Rejected` where a newer version of DataFlow has been at work."""
        with _connection(target) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({self.lock})"))
            found = self.current(connection)
            if found == (revision or self.head):
                return
            self._refuse_unknown(found)
            if not revision and self._is_for_whole(connection):
                for statement in self.whole.read_text(encoding="utf-8").split("\n\n"):
                    connection.exec_driver_sql(statement)
                return
            from alembic import command

            command.upgrade(self._config(connection), revision or self.head)

    def downgrade(self, target: str | Connection, revision: str = "base") -> None:
        """Take the schema back to `revision`. Going below a table's first revision drops it, with all that is in it."""
        from alembic import command

        with _connection(target) as connection:
            self._refuse_unknown(self.current(connection))
            command.downgrade(self._config(connection), revision)

    @property
    def whole(self) -> Path:
        """Where a script that makes the newest schema of SQLite in one go is kept, if the chain has one."""
        return self.scripts / "head.sqlite.sql"

    def _is_for_whole(self, connection: Connection) -> bool:
        sqlite = connection.dialect.name == "sqlite"
        return sqlite and self.whole.exists() and not inspect(connection).get_table_names()

    def is_known(self, revision: str | None) -> bool:
        """Whether this version has a script of that revision; of the empty schema (None) it knows everything."""
        return revision is None or any((self.scripts / "versions").glob(f"{revision}_*.py"))

    def _refuse_unknown(self, found: str | None) -> None:
        if not self.is_known(found):
            raise Rejected(
                f"the database has schema {found}, which this version (up to {self.head}) does not know",
                code="SCHEMA_TOO_NEW",
                hint="install the DataFlow that wrote it, or a newer one",
            )

    def _config(self, connection: Connection) -> Config:
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self.scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        config.attributes["version_table"] = self.table
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
