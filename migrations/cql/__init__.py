"""Schema migrations of Cassandra: numbered pairs of CQL files, `0001_name.up.cql` and `0001_name.down.cql`.

Cassandra has no transactions over schema changes: every statement is written so that it may be repeated (`IF NOT
EXISTS`, `IF EXISTS`), and a revision is noted after its last one, so what was interrupted is gone through again. Only
one process migrates: it holds a row (by a lightweight transaction) that lapses by itself where its holder dies.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from cassandra import InvalidRequest, WriteTimeout  # type: ignore[import-untyped]
from cassandra.protocol import ServerError  # type: ignore[import-untyped]

from dataflow.errors import Rejected, Retryable

SCRIPTS = Path(__file__).parent
REVISIONS = sorted(path.name.partition("_")[0] for path in SCRIPTS.glob("*.up.cql"))
HEAD = REVISIONS[-1]
"""The newest revision."""

LOCK_SECONDS = 60
"""How long a process that died keeps the others waiting; the holder renews it before every statement."""

SETTLE_SECONDS = 10
"""How long a table may be listed and yet refuse to be read: Cassandra lists a table before it opens it, and until
after it has dropped it. A node that is busy takes a second or two."""

_WAIT = 0.2


def current(session: Any, keyspace: str) -> str | None:
    """The revision of the keyspace's schema; None where there is none yet, or no such keyspace.

    Another process may be making the keyspace at this moment: see `SETTLE_SECONDS`."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while _is_listed(session, keyspace):
        try:
            row = session.execute(
                f"SELECT revision FROM {quoted(keyspace)}.schema_revision WHERE name = 'schema'"
            ).one()
        except (InvalidRequest, ServerError):  # no such table, or "Unknown CF"
            if time.monotonic() > deadline:
                raise
            time.sleep(_WAIT)
        else:
            return str(row[0]) if row is not None and row[0] is not None else None
    return None


def is_known(revision: str | None) -> bool:
    """Whether this version has a script of that revision; of the empty schema (None) it knows everything."""
    return revision is None or revision in REVISIONS


def upgrade(session: Any, keyspace: str, replication: str) -> None:
    """Bring the keyspace up to `HEAD`; it is made where it is missing, with `replication` (a CQL map).

    Leaves the session in the keyspace. Raises `Rejected` where a newer version of DataFlow has been at work."""
    if (found := current(session, keyspace)) != HEAD:
        _refuse_unknown(found, keyspace)
        session.execute(f"CREATE KEYSPACE IF NOT EXISTS {quoted(keyspace)} WITH replication = {replication}")
        session.set_keyspace(keyspace)
        for table, columns in (("schema_lock", "holder text"), ("schema_revision", "revision text")):
            session.execute(f"CREATE TABLE IF NOT EXISTS {table} (name text PRIMARY KEY, {columns})")
        with _alone(session) as renew:
            found = current(session, keyspace)
            _refuse_unknown(found, keyspace)
            for revision in REVISIONS:
                if found is None or revision > found:
                    _run(session, revision, "up", renew)
                    _note(session, revision)
    session.set_keyspace(keyspace)


def downgrade(session: Any, keyspace: str) -> None:
    """Take the keyspace one revision back. Below a table's first revision that drops it, events and all."""
    found = current(session, keyspace)
    if found is None:
        return
    _refuse_unknown(found, keyspace)
    session.set_keyspace(keyspace)
    with _alone(session) as renew:
        found = current(session, keyspace)
        if found is None:
            return
        before = [revision for revision in REVISIONS if revision < found]
        _run(session, found, "down", renew)
        _note(session, before[-1] if before else None)


def statements(text: str) -> list[str]:
    """The statements of a CQL file: separated by semicolons, `--` comments taken out."""
    bare = re.sub(r"--[^\n]*", "", text)
    return [statement for part in bare.split(";") if (statement := part.strip())]


def quoted(name: str) -> str:
    """The name as an identifier that keeps its case."""
    return '"' + name.replace('"', '""') + '"'


def _is_listed(session: Any, keyspace: str) -> bool:
    asked = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s AND table_name = 'schema_revision'"
    return session.execute(asked, (keyspace,)).one() is not None


def _run(session: Any, revision: str, direction: str, renew: Any) -> None:
    [script] = SCRIPTS.glob(f"{revision}_*.{direction}.cql")
    for statement in statements(script.read_text(encoding="utf-8")):
        renew()
        session.execute(statement)  # the driver waits until all nodes agree on the schema


def _note(session: Any, revision: str | None) -> None:
    session.execute("INSERT INTO schema_revision (name, revision) VALUES ('schema', %s)", (revision,))


def _refuse_unknown(found: str | None, keyspace: str) -> None:
    if not is_known(found):
        raise Rejected(
            f"the keyspace {keyspace} has schema {found}, which this version (up to {HEAD}) does not know",
            code="SCHEMA_TOO_NEW",
            hint="install the DataFlow that wrote it, or a newer one",
        )


def _taken(session: Any, take: str, me: str) -> bool:
    """Whether the claim is ours now. After a time-out it may be ours without our knowing: the next answer names us."""
    try:
        result = session.execute(take, (me,))
    except WriteTimeout:
        return False
    return bool(result.was_applied or result.one().holder == me)


@contextmanager
def _alone(session: Any) -> Iterator[Any]:
    """While inside, no other process migrates this keyspace. Yields the function that renews the claim."""
    me = str(uuid4())
    take = f"INSERT INTO schema_lock (name, holder) VALUES ('migrate', %s) IF NOT EXISTS USING TTL {LOCK_SECONDS}"
    deadline = time.monotonic() + 4 * LOCK_SECONDS
    while not _taken(session, take, me):
        if time.monotonic() > deadline:
            raise Retryable("another process is migrating the journal's keyspace and does not come to an end")
        time.sleep(_WAIT)

    def renew() -> None:
        again = f"UPDATE schema_lock USING TTL {LOCK_SECONDS} SET holder = %s WHERE name = 'migrate' IF holder = %s"
        if not session.execute(again, (me, me)).was_applied:
            raise Retryable("the claim to migrate the journal's keyspace has lapsed: migrate again")

    try:
        yield renew
    finally:
        session.execute("DELETE FROM schema_lock WHERE name = 'migrate' IF holder = %s", (me,))
